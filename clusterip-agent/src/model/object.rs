//! Kubernetes objects as the model holds them.

use std::{fmt, sync::Arc};

use k8s_openapi::api::{
    core::v1::{self as core, Namespace, Node},
    discovery::v1 as discovery,
};

use super::{
    facts::{EndpointSlice, Names, Pod, Service},
    problem::Origin,
};

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Namespace and name; the namespace is empty for objects that have none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectName {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl ObjectName {
    /// A name.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Of what was there before anybody who could know it; no object has it.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new("", "")
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The kinds of object that have an effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// v1 Namespace
    Namespace,
    /// v1 Node
    Node,
    /// v1 Service
    Service,
    /// discovery.k8s.io/v1 `EndpointSlice`
    EndpointSlice,
    /// v1 Pod
    Pod,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
        })
    }
}

/// Identity of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// Kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What an object says: what is read of it, or, of kinds of which there are few, the type of the API. Validated (rules H) before it
/// comes into the model.
#[derive(Clone, PartialEq, Debug)]
pub enum Spec {
    /// v1 Namespace
    Namespace(Arc<Namespace>),
    /// v1 Node
    Node(Arc<Node>),
    /// v1 Service
    Service(Arc<Service>),
    /// discovery.k8s.io/v1 `EndpointSlice`
    EndpointSlice(Arc<EndpointSlice>),
    /// v1 Pod
    Pod(Arc<Pod>),
}

impl From<core::Service> for Spec {
    fn from(service: core::Service) -> Self {
        Self::service(&service, &mut Names::default())
    }
}

impl From<core::Pod> for Spec {
    fn from(pod: core::Pod) -> Self {
        Self::pod(&pod, &mut Names::default())
    }
}

impl From<discovery::EndpointSlice> for Spec {
    fn from(slice: discovery::EndpointSlice) -> Self {
        Self::endpoint_slice(&slice, &mut Names::default())
    }
}

impl From<Node> for Spec {
    fn from(node: Node) -> Self {
        Self::Node(node.into())
    }
}

impl From<Namespace> for Spec {
    fn from(namespace: Namespace) -> Self {
        Self::Namespace(namespace.into())
    }
}

impl Spec {
    /// What a Service says, its texts shared with others'.
    #[must_use]
    pub fn service(service: &core::Service, names: &mut Names) -> Self {
        Self::Service(Service::of(service, names).into())
    }

    /// What a Pod says, its texts shared with others'.
    #[must_use]
    pub fn pod(pod: &core::Pod, names: &mut Names) -> Self {
        Self::Pod(Pod::of(pod, names).into())
    }

    /// What an `EndpointSlice` says, its texts shared with others'.
    #[must_use]
    pub fn endpoint_slice(slice: &discovery::EndpointSlice, names: &mut Names) -> Self {
        let namespace = slice.metadata.namespace.as_deref();
        let namespace = namespace.unwrap_or(DEFAULT_NAMESPACE);
        Self::EndpointSlice(EndpointSlice::of(slice, namespace, names).into())
    }
}

/// A valid object and where it came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Object {
    /// Identity; its kind is that of `spec`.
    pub key: ObjectKey,
    /// Content.
    pub spec: Spec,
    /// Where its fields stand, for problems that only show beside other objects.
    pub origin: Arc<Origin>,
}
