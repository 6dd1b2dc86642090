//! What a service says of itself, for those who show it. Nothing here decides where a packet goes.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{
    allocate::Assigned, categorise::Policy, endpoints::PortSpec, node_ports::AssignedPort,
    resolve::Given, service::parse_address,
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
    pub(super) fn of(service: &Service, ports: Vec<PortSpec>, given: &Given) -> Self {
        let created = &service.metadata.creation_timestamp;
        let spec = service.spec.clone().unwrap_or_default();
        let is_local = |policy: &Option<String>| Policy::parse(policy.as_deref()) == Policy::Local;
        Self {
            service_type: ServiceType::parse(spec.type_.as_deref()),
            created: created.as_ref().map(|time| time.0.as_second()),
            addresses: given.addresses.clone(),
            node_ports: given.node_ports.clone(),
            external: external(service, &spec, given),
            external_name: spec.external_name.as_deref().unwrap_or_default().into(),
            internal_local: is_local(&spec.internal_traffic_policy),
            external_local: is_local(&spec.external_traffic_policy),
            ports,
        }
    }
}

fn external(service: &Service, spec: &ServiceSpec, given: &Given) -> Vec<IpAddr> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .into_iter()
        .flat_map(|it| it.ingress.iter().flatten());
    let mut all: Vec<IpAddr> = ingress
        .filter_map(|ingress| ingress.ip.as_deref())
        .chain(spec.external_ips.iter().flatten().map(String::as_str))
        .filter_map(parse_address)
        .collect();
    all.splice(0..0, given.balancers.iter().map(|it| it.address));
    all
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
