//! What is asked of the API server.

use std::sync::Arc;

use crate::model::{
    object::Kind,
    resolve::{HEADLESS_LABEL, PROXY_NAME_LABEL},
};

/// A resource that is followed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Resource {
    /// Services of all namespaces.
    Services,
    /// `EndpointSlices` of all namespaces.
    EndpointSlices,
    /// This node; all of them, where addresses are provided for.
    Node,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Services, Self::EndpointSlices, Self::Node];

    /// As the API names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Node => "nodes",
        }
    }

    /// As a role has to name it.
    #[must_use]
    pub const fn in_a_role(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices.discovery.k8s.io",
            Self::Node => "nodes",
        }
    }

    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Services => "/api/v1/services",
            Self::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Node => "/api/v1/nodes",
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self {
            Self::Services => Kind::Service,
            Self::EndpointSlices => Kind::EndpointSlice,
            Self::Node => Kind::Node,
        }
    }
}

/// Which objects matter here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    node: Arc<str>,
    /// Names are answered, hence those too that have no entry in the dataplane.
    has_names: bool,
    /// Load balancers get addresses from here: who has which, and which nodes there are, is to be known.
    provides: bool,
    /// What other nodes are called by is to be known.
    has_nodes: bool,
}

impl Scope {
    /// For a node; `has_names` is whether it answers names as well.
    #[must_use]
    pub fn new(node: &str, has_names: bool) -> Self {
        Self {
            node: node.into(),
            has_names,
            provides: false,
            has_nodes: false,
        }
    }

    /// The same for a node that may be the one that gives load balancers their addresses.
    #[must_use]
    pub const fn providing(mut self) -> Self {
        self.provides = true;
        self
    }

    /// The same for a node that follows the other nodes too.
    #[must_use]
    pub const fn among_nodes(mut self) -> Self {
        self.has_nodes = true;
        self
    }

    pub(super) fn node(&self) -> Arc<str> {
        self.node.clone()
    }

    /// Name and value of the selector that a request for a resource has.
    pub(super) fn selector(&self, resource: Resource) -> Option<(&'static str, String)> {
        match resource {
            Resource::Node | Resource::Services if self.provides => None,
            Resource::Node if self.has_nodes => None,
            Resource::Node => Some(("fieldSelector", format!("metadata.name={}", self.node))),
            // The resolver knows headless services, and those that somebody else proxies.
            Resource::Services | Resource::EndpointSlices if self.has_names => None,
            // kube-proxy's.
            Resource::Services | Resource::EndpointSlices => Some((
                "labelSelector",
                format!("!{HEADLESS_LABEL},!{PROXY_NAME_LABEL}"),
            )),
        }
    }
}
