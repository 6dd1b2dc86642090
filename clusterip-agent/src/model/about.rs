//! What a service says of itself, for those who show it. Nothing here decides where a packet goes.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::jiff::Timestamp;

use super::{
    allocate::Assigned,
    endpoints::PortSpec,
    facts::{Service, TrafficPolicy, Written},
    node_ports::AssignedPort,
    resolve::Given,
};

/// What makes a service reachable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum ServiceType {
    /// By its own address, inside the cluster.
    #[default]
    ClusterIp,
    /// By a port of each node too.
    NodePort,
    /// By the address of a load balancer too.
    LoadBalancer,
    /// It is another name for a name outside.
    ExternalName,
}

impl ServiceType {
    /// As Kubernetes writes it; absent is ClusterIP, and so is what validation has refused.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("NodePort") => Self::NodePort,
            Some("LoadBalancer") => Self::LoadBalancer,
            Some("ExternalName") => Self::ExternalName,
            _ => Self::ClusterIp,
        }
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        }
    }
}

/// What a service says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct About {
    /// What makes it reachable.
    pub service_type: ServiceType,
    /// `metadata.creationTimestamp`, in seconds since 1970.
    pub created: Option<i64>,
    /// Its addresses out of the service ranges; none for a headless one.
    pub addresses: Vec<Assigned>,
    /// Its node ports.
    pub node_ports: Vec<AssignedPort>,
    /// Its addresses towards the outside: of load balancers, then `spec.externalIPs`.
    pub external: Vec<IpAddr>,
    /// The name outside that it stands for; empty if it does not.
    pub external_name: Arc<str>,
    /// `internalTrafficPolicy` is Local.
    pub internal_local: bool,
    /// `externalTrafficPolicy` is Local.
    pub external_local: bool,
    /// Its ports, those of a headless service too.
    pub ports: Vec<PortSpec>,
}

impl About {
    /// What an object says, with what it was given.
    pub(super) fn of(service: &Service, given: &Given) -> Self {
        let of_object = Self {
            created: service.created.map(Timestamp::as_second),
            addresses: given.addresses.clone(),
            node_ports: given.node_ports.clone(),
            external: external(service, given),
            ..Self::default()
        };
        let Some(spec) = &service.spec else {
            return of_object;
        };
        Self {
            service_type: spec.service_type,
            external_name: spec.external_name.clone(),
            internal_local: spec.internal_policy == TrafficPolicy::Local,
            external_local: spec.external_policy == TrafficPolicy::Local,
            ports: spec.ports().cloned().collect(),
            ..of_object
        }
    }
}

/// Those of the pool, those that somebody else gave, and those that it asks for.
fn external(service: &Service, given: &Given) -> Vec<IpAddr> {
    let pooled = given.balancers.iter().map(|it| it.address);
    let ingress = service.ingress.iter().filter_map(|it| it.address);
    let texts = service.spec.iter().flat_map(|spec| &spec.external_ips);
    let asked = texts.filter_map(|text| Written::parse(text).address());
    pooled.chain(ingress).chain(asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_type_is_that_of_a_service_inside() {
        assert_eq!(ServiceType::parse(None).name(), "ClusterIP");
        for name in ["NodePort", "LoadBalancer", "ExternalName"] {
            assert_eq!(ServiceType::parse(Some(name)).name(), name);
        }
    }
}
