//! Kubernetes objects as the model holds them.

use std::{fmt, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};

use super::problem::Origin;

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

/// What an object says, as the API types have it. Validated (rules H) before it comes into the model.
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
