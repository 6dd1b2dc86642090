//! What the API server sends, as objects or as problems: one that cannot be read never hides another.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        core::v1::{Node, NodeCondition, NodeStatus, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Resource;
use crate::model::{
    facts::Names,
    object::{Object, ObjectKey, ObjectName, Spec},
    problem::{Fault, Origin, Problem},
    validate::{self, Rules},
};

/// What `kubectl apply` leaves in an object: the object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// On the bookmark behind the last object of a list that a watch began with.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// An object as it came.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Decoded {
    /// A good one.
    Good(Box<Object>),
    /// One that cannot be used; without a name if even that cannot be read.
    Bad(Option<ObjectKey>, Vec<Problem>),
}

impl Decoded {
    /// Which one it is.
    pub(super) const fn key(&self) -> Option<&ObjectKey> {
        match self {
            Self::Good(object) => Some(&object.key),
            Self::Bad(key, _) => key.as_ref(),
        }
    }
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    /// Go writes an empty list as null.
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// Where a page is in its list.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) token: String,
}

/// One line of a watch.
#[derive(Deserialize)]
pub(super) struct Line<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// What every object has, as far as a watch goes by it.
#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    resource_version: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// A `Status`: why a request was refused, or a watch ended.
#[derive(Default, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) reason: String,
}

/// The version of a bookmark, and whether it ends the list that a watch began with.
pub(super) fn bookmark(text: &RawValue) -> (Option<String>, bool) {
    let head: Head = serde_json::from_str(text.get()).unwrap_or_default();
    let annotations = head.metadata.annotations.unwrap_or_default();
    (
        given(head.metadata.resource_version),
        annotations.contains_key(INITIAL_EVENTS_END),
    )
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// An object, its texts shared with others', and its version if that can be read.
pub(super) fn decode(
    resource: Resource,
    text: &RawValue,
    names: &mut Names,
) -> (Decoded, Option<String>) {
    let text = text.get();
    match resource {
        Resource::Services => object(resource, text, names, |service: &mut Service| {
            let version = slim(&mut service.metadata);
            (version, validate::service(service, &rules()))
        }),
        Resource::EndpointSlices => object(resource, text, names, |slice: &mut EndpointSlice| {
            let version = slim(&mut slice.metadata);
            (version, validate::endpoint_slice(slice))
        }),
        Resource::Node => object(resource, text, names, |node: &mut Node| {
            let version = slim(&mut node.metadata);
            // It changes with every breath of the node; of all that, its addresses and whether it is ready matter here.
            node.status = node.status.take().map(|status| NodeStatus {
                addresses: status.addresses,
                conditions: status.conditions.map(readiness),
                ..NodeStatus::default()
            });
            (version, validate::node(node))
        }),
    }
}

/// Whether a node is ready, without when it said so.
fn readiness(conditions: Vec<NodeCondition>) -> Vec<NodeCondition> {
    let ready = conditions.into_iter().filter(|it| it.type_ == "Ready");
    ready
        .map(|it| NodeCondition {
            type_: it.type_,
            status: it.status,
            ..NodeCondition::default()
        })
        .collect()
}

/// The server has given node ports out, from whichever range it has.
const fn rules() -> Rules {
    Rules {
        node_ports: 1..=u16::MAX,
    }
}

/// Takes out what nobody here looks at; the version, which alone makes an object another one, is given back.
fn slim(metadata: &mut ObjectMeta) -> Option<String> {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    metadata.generation = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
    metadata.resource_version.take().and_then(given)
}

/// The types that are followed, as the model has them.
trait Followed: for<'de> Deserialize<'de> {
    fn metadata(&self) -> &ObjectMeta;
    fn spec(self, names: &mut Names) -> Spec;
}

impl Followed for Service {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn spec(self, names: &mut Names) -> Spec {
        Spec::service(&self, names)
    }
}

impl Followed for EndpointSlice {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn spec(self, names: &mut Names) -> Spec {
        Spec::endpoint_slice(&self, names)
    }
}

impl Followed for Node {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn spec(self, _: &mut Names) -> Spec {
        self.into()
    }
}

fn object<T: Followed>(
    resource: Resource,
    text: &str,
    names: &mut Names,
    look: impl FnOnce(&mut T) -> (Option<String>, Vec<Fault>),
) -> (Decoded, Option<String>) {
    let origin = Origin::default();
    let mut object: T = match serde_json::from_str(text) {
        Ok(object) => object,
        Err(error) => return unreadable(resource, text, names, &error),
    };
    let (version, faults) = look(&mut object);
    let metadata = object.metadata();
    let name = metadata.name.as_deref().unwrap_or_default();
    let key = key(
        resource,
        metadata.namespace.as_deref().unwrap_or_default(),
        name,
        names,
    );
    if name.is_empty() {
        let problem = problem(
            resource.kind().to_string(),
            "metadata.name",
            "required: an object without a name is skipped",
        );
        return (Decoded::Bad(None, vec![problem]), version);
    }
    let decoded = if faults.is_empty() {
        Decoded::Good(Box::new(Object {
            key,
            spec: object.spec(names),
            origin: Arc::default(),
        }))
    } else {
        let faults = faults.into_iter();
        let problems = faults.map(|fault| fault.at(&key, &origin)).collect();
        Decoded::Bad(Some(key), problems)
    };
    (decoded, version)
}

/// Not an object of the type: whose problem it is, and its version, as far as they can be read.
fn unreadable(
    resource: Resource,
    text: &str,
    names: &mut Names,
    error: &serde_json::Error,
) -> (Decoded, Option<String>) {
    let HeadMeta {
        name,
        namespace,
        resource_version,
        annotations: _,
    } = serde_json::from_str::<Head>(text)
        .unwrap_or_default()
        .metadata;
    let key = (!name.is_empty()).then(|| key(resource, &namespace, &name, names));
    let object = key
        .as_ref()
        .map_or_else(|| resource.kind().to_string(), ToString::to_string);
    // Where it stands in the line is nothing that anybody can look up.
    let why = error.to_string();
    let why = why.split(" at line ").next().unwrap_or_default();
    let message = format!(
        "is not what the API says it is: {why}; it is skipped, and what was known of it stays"
    );
    (
        Decoded::Bad(key, vec![problem(object, "", message)]),
        given(resource_version),
    )
}

fn key(resource: Resource, namespace: &str, name: &str, names: &mut Names) -> ObjectKey {
    ObjectKey {
        kind: resource.kind(),
        name: ObjectName {
            namespace: names.share(namespace),
            name: name.into(),
        },
    }
}

/// A problem of something that stands in no file.
pub(super) fn problem(
    object: impl Into<String>,
    field: &str,
    message: impl Into<String>,
) -> Problem {
    Problem {
        file: Arc::default(),
        line: 0,
        column: 0,
        object: object.into(),
        field: field.to_owned(),
        value: String::new(),
        message: message.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts;

    /// The only slice that a text is, and its namespace.
    fn slice(name: &str, names: &mut Names) -> (Arc<str>, Arc<facts::EndpointSlice>) {
        let text = format!(
            r#"{{"metadata": {{"name": "{name}", "namespace": "shop", "labels": {{"kubernetes.io/service-name": "web"}}}},
                "addressType": "IPv4", "ports": [{{"name": "http", "port": 80}}],
                "endpoints": [{{"addresses": ["10.244.0.7"], "nodeName": "node-a", "zone": "zone-a"}}]}}"#
        );
        let text = RawValue::from_string(text).expect("JSON");
        let (Decoded::Good(object), _) = decode(Resource::EndpointSlices, &text, names) else {
            panic!("no good slice: {text}");
        };
        let Spec::EndpointSlice(slice) = &object.spec else {
            panic!("no slice: {text}");
        };
        (object.key.name.namespace, slice.clone())
    }

    /// A cluster has a hundred thousand endpoints, and a hundred nodes.
    #[test]
    fn what_many_objects_say_is_held_once() {
        let mut names = Names::default();
        let [(here, one), (there, other)] = ["web-1", "web-2"].map(|name| slice(name, &mut names));
        assert!(Arc::ptr_eq(&here, &there), "the namespace");
        assert!(Arc::ptr_eq(&one.address_type, &other.address_type));
        assert!(Arc::ptr_eq(&one.ports[0].name, &other.ports[0].name));
        assert!(Arc::ptr_eq(
            &one.endpoints[0].node,
            &other.endpoints[0].node
        ));
        let zones = [&one, &other].map(|it| it.endpoints[0].zone.clone().expect("a zone"));
        assert!(Arc::ptr_eq(&zones[0], &zones[1]));
    }

    #[test]
    fn of_a_node_only_what_matters_is_held() {
        let text = r#"{"metadata": {"name": "a", "resourceVersion": "7", "managedFields": [{"manager": "kubelet"}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "kept": "yes"}},
            "status": {"images": [{"names": ["x"]}], "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "DiskPressure", "status": "False"},
                    {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}"#;
        let text = RawValue::from_string(text.to_owned()).expect("JSON");
        let (decoded, version) = decode(Resource::Node, &text, &mut Names::default());
        let Decoded::Good(object) = decoded else {
            panic!("no good node: {text}");
        };
        let Spec::Node(node) = &object.spec else {
            panic!("no node: {text}");
        };
        let wanted = serde_json::json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "a", "annotations": {"kept": "yes"}},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}], "conditions": [{"type": "Ready", "status": "True"}]},
        });
        assert_eq!(serde_json::to_value(node).unwrap(), wanted);
        assert_eq!(version.as_deref(), Some("7"));
    }
}
