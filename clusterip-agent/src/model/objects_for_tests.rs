//! Objects for unit tests.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde_json::{Value, json};

use super::{
    event::Event,
    object::{Kind, Object, ObjectKey, ObjectName, Spec},
};

fn object(kind: Kind, namespace: &str, name: &str, spec: Spec) -> Object {
    Object {
        key: ObjectKey {
            kind,
            name: ObjectName::new(namespace, name),
        },
        spec,
        origin: Arc::default(),
    }
}

/// The service `default/NAME`.
pub(crate) fn service(name: &str, spec: &Value) -> Object {
    let value = json!({ "metadata": { "name": name }, "spec": spec });
    let spec = serde_json::from_value::<Service>(value).unwrap().into();
    object(Kind::Service, "default", name, spec)
}

/// A service that selects `app=NAME`, with port 80.
pub(crate) fn app(name: &str) -> Object {
    let spec = json!({ "selector": { "app": name }, "ports": [{ "port": 80 }] });
    service(name, &spec)
}

/// The running pod `default/NAME` with one label and one address.
pub(crate) fn pod(name: &str, app: &str, ip: &str) -> Object {
    let value = json!({
        "metadata": { "name": name, "labels": { "app": app, "common": "yes" } },
        "spec": { "containers": [{ "name": "main" }], "nodeName": "node-a" },
        "status": { "phase": "Running", "podIP": ip },
    });
    let spec = serde_json::from_value::<Pod>(value).unwrap().into();
    object(Kind::Pod, "default", name, spec)
}

/// The slice `default/NAME` of a service, with port 80.
pub(crate) fn slice(name: &str, service: &str, ips: &[&str]) -> Object {
    let value = json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "port": 80 }],
        "endpoints": ips.iter().map(|ip| json!({ "addresses": [ip] })).collect::<Vec<_>>(),
    });
    let spec = serde_json::from_value::<EndpointSlice>(value).unwrap();
    let spec = spec.into();
    object(Kind::EndpointSlice, "default", name, spec)
}

/// A node in a zone.
pub(crate) fn node(name: &str, zone: &str) -> Object {
    let value = json!({
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
    });
    object(
        Kind::Node,
        "",
        name,
        Spec::Node(serde_json::from_value(value).unwrap()),
    )
}

pub(crate) fn put(object: Object) -> Event {
    Event::Put(Box::new(object))
}

pub(crate) fn remove(object: &Object) -> Event {
    Event::Remove(object.key.clone())
}

/// A full listing.
pub(crate) fn listing(objects: impl IntoIterator<Item = Object>) -> Vec<Event> {
    std::iter::once(Event::Reset)
        .chain(objects.into_iter().map(put))
        .chain(std::iter::once(Event::Synced))
        .collect()
}

/// The name of an object in the namespace `default`.
pub(crate) fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}
