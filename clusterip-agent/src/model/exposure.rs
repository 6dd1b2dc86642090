//! By which addresses a service is reachable from outside: node ports, load balancers and external addresses.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use super::{
    about::ServiceType,
    allocate::Assigned,
    cluster::Cluster,
    endpoints::PortSpec,
    facts::{Service, ServiceSpec},
    inside::pod_ranges,
    node_ports::AssignedPort,
    object::Object,
    problem::{Fault, Problem},
    range::ServiceRange,
    resolve::{Context, Given},
    service::{Family, Frontend, FrontendKind, Scope, parse_address},
};

/// Which of a node's addresses serve node ports (`--nodeport-addresses`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum NodePortAddresses {
    /// Its first internal address of each family.
    #[default]
    Primary,
    /// All its addresses in these ranges.
    Within(Vec<IpNet>),
}

/// What may be reachable from outside.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exposure {
    /// Which of a node's addresses serve node ports.
    pub node_port_addresses: NodePortAddresses,
    /// Whether `spec.externalIPs` has an effect (E6).
    pub external_ips: bool,
    /// Where load balancers without an address get one, one range for each family at most.
    pub pool: Vec<ServiceRange>,
    /// The class of load balancers that get one, beside those of none.
    pub class: Option<Arc<str>>,
    /// An API server keeps the objects: those of the class get one by their status, and nobody else.
    pub provides: bool,
}

impl NodePortAddresses {
    /// The addresses of a node that serve node ports.
    #[must_use]
    pub fn of(&self, node: &Node) -> Vec<IpAddr> {
        self.among(addresses(node))
    }

    /// Those of a machine of which there is no object; the first of each family count as internal ones.
    #[must_use]
    pub fn of_machine(&self, machine: &[IpAddr]) -> Vec<IpAddr> {
        self.among(machine.iter().map(|address| (true, *address)))
    }

    fn among(&self, all: impl Iterator<Item = (bool, IpAddr)>) -> Vec<IpAddr> {
        let mut chosen: Vec<IpAddr> = Vec::new();
        for (is_internal, address) in all {
            let is_it = match self {
                Self::Primary => {
                    let family = Family::of(address);
                    is_internal && chosen.iter().all(|other| Family::of(*other) != family)
                }
                Self::Within(ranges) => ranges.iter().any(|range| range.contains(&address)),
            };
            if is_it && !chosen.contains(&address) {
                chosen.push(address);
            }
        }
        chosen
    }
}

/// A node's addresses, and whether they are internal ones.
pub(super) fn addresses(node: &Node) -> impl Iterator<Item = (bool, IpAddr)> {
    let status = node.status.as_ref();
    let all = status.and_then(|status| status.addresses.as_ref());
    all.into_iter().flatten().filter_map(|it| {
        let is_internal = it.type_ == "InternalIP";
        let address = parse_address(&it.address)?;
        (is_internal || it.type_ == "ExternalIP").then_some((is_internal, address))
    })
}

/// A node's internal addresses.
pub fn internal_addresses(node: &Node) -> impl Iterator<Item = IpAddr> {
    addresses(node).filter_map(|(is_internal, address)| is_internal.then_some(address))
}

/// The frontends of a service port for clients outside, in one family.
pub(super) fn frontends(
    context: &Context<'_>,
    (object, service): (&Object, &Service),
    port: &PortSpec,
    family: Family,
    given: &Given,
    problems: &mut Vec<Problem>,
) -> Vec<Frontend> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let frontend = |address, number, kind, provisional| Frontend {
        address,
        port: number,
        kind,
        scope: Scope::External,
        provisional,
    };
    let mut all: Vec<Frontend> = Vec::new();
    let mut node_ports = given.node_ports.iter();
    let node_port =
        node_ports.find(|it| it.key.port == port.port && it.key.protocol == port.protocol);
    if let Some(AssignedPort {
        key: _,
        node_port,
        automatic: _,
        provisional,
    }) = node_port
    {
        let addresses = context.node.node_port_addresses.iter();
        all.extend(
            addresses.map(|it| frontend(*it, *node_port, FrontendKind::NodePort, *provisional)),
        );
    }
    if spec.service_type == ServiceType::LoadBalancer {
        let addresses = balancer_addresses(service);
        all.extend(addresses.map(|it| frontend(it, port.port, FrontendKind::LoadBalancer, false)));
    }
    let pooled = given.balancers.iter();
    all.extend(pooled.map(|it| {
        let Assigned {
            address,
            automatic: _,
            provisional,
        } = *it;
        frontend(address, port.port, FrontendKind::LoadBalancer, provisional)
    }));
    let addresses = external_addresses(context, object, spec, problems);
    all.extend(
        addresses
            .into_iter()
            .map(|it| frontend(it, port.port, FrontendKind::ExternalIp, false)),
    );
    all.retain(|it| Family::of(it.address) == family);
    all
}

/// What the load balancer says it is reachable by; one that proxies is not this dataplane's (E5).
fn balancer_addresses(service: &Service) -> impl Iterator<Item = IpAddr> {
    let own = service.ingress.iter().filter(|it| !it.is_proxy);
    own.filter_map(|ingress| ingress.address)
}

/// External addresses, where they are allowed; never one that is somebody's in the cluster (E6).
fn external_addresses(
    context: &Context<'_>,
    object: &Object,
    spec: &ServiceSpec,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for (index, text) in spec.external_ips.iter().enumerate() {
        let Some(address) = parse_address(text) else {
            continue;
        };
        let refusal = if context.exposure.external_ips {
            owner(context, address)
                .map(|owner| format!("is {owner}, and must not be taken from it; it is left out"))
        } else {
            Some("has no effect: external addresses are not allowed (--allow-external-ips)".into())
        };
        match refusal {
            None => all.push(address),
            Some(message) => {
                let fault = Fault {
                    field: format!("spec.externalIPs[{index}]"),
                    value: text.to_string(),
                    message,
                };
                problems.push(fault.at(&object.key, &object.origin));
            }
        }
    }
    all
}

/// Whose an address is in the cluster.
fn owner(context: &Context<'_>, address: IpAddr) -> Option<String> {
    let is_service = |range: &ServiceRange| range.contains(address);
    if let Some(range) = context.ranges.iter().find(|range| is_service(range)) {
        return Some(format!("in the service range {range}"));
    }
    node_of(context.cluster, address)
}

fn node_of(cluster: &Cluster, address: IpAddr) -> Option<String> {
    cluster.nodes().find_map(|(name, node)| {
        if addresses(node).any(|(_, it)| it == address) {
            return Some(format!("an address of node {name}"));
        }
        let is_pod = pod_ranges(node).any(|range| range.contains(&address));
        is_pod.then(|| format!("in the pod range of node {name}"))
    })
}
