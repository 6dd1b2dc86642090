//! From objects to what they mean: pure.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    about::About,
    allocate::Assigned,
    categorise::{Policy, categorise},
    cluster::Cluster,
    endpoints::{PortSpec, candidates, port_number},
    exposure::{self, Exposure},
    naming::naming,
    node_ports::AssignedPort,
    object::{Object, ObjectName},
    problem::{Fault, Problem},
    range::ServiceRange,
    service::{
        Algorithm, Balancer, Family, Frontend, FrontendKind, Protocol, ResolvedService, Scope,
        Target,
    },
    wish::has_address,
};

/// Annotation of a service: how its flows are spread.
pub const ALGORITHM_ANNOTATION: &str = "clusterip.dev/algorithm";
/// Label of a service that another proxy serves (A13).
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a service that has no entry in any dataplane (A13).
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// The node a snapshot is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeInfo {
    /// Name.
    pub name: Arc<str>,
    /// Zone; empty if it is not known.
    pub zone: Arc<str>,
    /// Its addresses that serve node ports; none if there is no Node object.
    pub node_port_addresses: Arc<[IpAddr]>,
    /// It is being deleted: no new traffic from outside is to be sent to it (F7). No service depends on it.
    pub is_leaving: bool,
}

/// What a resolution depends on, besides the service.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The objects.
    pub cluster: &'a Cluster,
    /// The node this is for.
    pub node: &'a NodeInfo,
    /// The algorithm of services that name none.
    pub algorithm: Algorithm,
    /// What may be reachable from outside.
    pub exposure: &'a Exposure,
    /// Where service addresses come from.
    pub ranges: &'a [ServiceRange],
}

/// What a service was given.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Its addresses.
    pub addresses: Vec<Assigned>,
    /// Its addresses out of the pool of load balancers.
    pub balancers: Vec<Assigned>,
    /// Its node ports.
    pub node_ports: Vec<AssignedPort>,
    /// Where load balancers ask for its health.
    pub health_check_node_port: Option<u16>,
    /// What it asks for and cannot have.
    pub faults: Vec<Fault>,
}

/// Resolves one service with what it was given; none if there is no such service.
#[must_use]
pub fn resolve(
    context: &Context<'_>,
    name: &ObjectName,
    given: &Given,
) -> Option<Arc<ResolvedService>> {
    let (object, service) = context.cluster.service(name)?;
    let faults = given.faults.iter();
    let mut problems: Vec<Problem> = faults
        .map(|fault| fault.clone().at(&object.key, &object.origin))
        .collect();
    let mut balancers = Vec::new();
    let mut external = Vec::new();
    if let Some(spec) = service
        .spec
        .as_ref()
        .filter(|spec| has_entry(service, spec))
    {
        for port in ports(spec) {
            for family in [Family::V4, Family::V6] {
                let inside = frontends(&port, family, &given.addresses);
                // A family that it has no address of is not its own, towards the outside either.
                if inside.is_empty() {
                    continue;
                }
                let outside = exposure::frontends(
                    context,
                    (object, service),
                    &port,
                    family,
                    given,
                    &mut problems,
                );
                let found = candidates(context, (name, service), &port, family, &mut problems);
                let seen = |policy, frontends| {
                    let (endpoints, action) = categorise(&found, policy, context.node);
                    Balancer {
                        port_name: port.name.clone(),
                        protocol: port.protocol,
                        family,
                        target: port.target.clone(),
                        frontends,
                        endpoints,
                        action,
                    }
                };
                let policy = Policy::parse(spec.internal_traffic_policy.as_deref());
                balancers.push(seen(policy, inside));
                if !outside.is_empty() {
                    let policy = Policy::parse(spec.external_traffic_policy.as_deref());
                    external.extend(views(outside, policy, seen));
                }
            }
        }
    }
    let all: Vec<PortSpec> = service.spec.iter().flat_map(ports).collect();
    let naming = naming(context, (name, service), &all, &given.addresses);
    let algorithm = algorithm(context, object, service, &mut problems);
    problems.sort();
    problems.dedup();
    Some(Arc::new(ResolvedService {
        name: name.clone(),
        algorithm,
        affinity_seconds: affinity(service),
        balancers,
        external,
        about: About::of(
            service,
            service.spec.iter().flat_map(ports).collect(),
            given,
        ),
        naming,
        health_check_node_port: given.health_check_node_port,
        problems,
    }))
}

/// What clients outside reach, by the external policy; and what pods and nodes reach by the same addresses, where that
/// is another set: all endpoints, whatever that policy says (E3).
fn views(
    outside: Vec<Frontend>,
    policy: Policy,
    seen: impl Fn(Policy, Vec<Frontend>) -> Balancer,
) -> Vec<Balancer> {
    let inside = outside.iter().map(|frontend| Frontend {
        scope: Scope::Internal,
        ..frontend.clone()
    });
    let short_circuit = seen(Policy::Cluster, inside.collect());
    let from_outside = seen(policy, outside);
    let is_same = from_outside.action == short_circuit.action
        && from_outside.chosen().eq(short_circuit.chosen());
    if is_same {
        vec![from_outside]
    } else {
        vec![from_outside, short_circuit]
    }
}

/// Whether a service has an entry in the dataplane (A13).
fn has_entry(service: &Service, spec: &ServiceSpec) -> bool {
    let labels = service.metadata.labels.as_ref();
    let is_foreign = labels.is_some_and(|labels| {
        labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL)
    });
    has_address(spec) && !is_foreign
}

fn ports(spec: &ServiceSpec) -> impl Iterator<Item = PortSpec> {
    spec.ports.iter().flatten().filter_map(|port| {
        let ServicePort {
            name,
            port: number,
            protocol,
            target_port,
            app_protocol: _,
            node_port: _,
        } = port;
        let number = port_number(*number)?;
        Some(PortSpec {
            name: name.as_deref().unwrap_or_default().into(),
            protocol: Protocol::parse(protocol.as_deref())?,
            port: number,
            target: match target_port {
                None | Some(IntOrString::Int(0)) => Target::Number(number),
                Some(IntOrString::Int(target)) => Target::Number(port_number(*target)?),
                Some(IntOrString::String(name)) if name.is_empty() => Target::Number(number),
                Some(IntOrString::String(name)) => Target::Name(name.as_str().into()),
            },
        })
    })
}

fn frontends(port: &PortSpec, family: Family, addresses: &[Assigned]) -> Vec<Frontend> {
    addresses
        .iter()
        .filter(|assigned| Family::of(assigned.address) == family)
        .map(|assigned| Frontend {
            address: assigned.address,
            port: port.port,
            kind: FrontendKind::ClusterIp,
            scope: Scope::Internal,
            provisional: assigned.provisional,
        })
        .collect()
}

fn algorithm(
    context: &Context<'_>,
    object: &Object,
    service: &Service,
    problems: &mut Vec<Problem>,
) -> Algorithm {
    let annotations = service.metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(ALGORITHM_ANNOTATION)) else {
        return context.algorithm;
    };
    Algorithm::parse(text).unwrap_or_else(|| {
        let fault = Fault {
            field: format!("metadata.annotations[{ALGORITHM_ANNOTATION}]"),
            value: text.clone(),
            message: format!(
                "must be {}; {} is used",
                Algorithm::NAMES,
                context.algorithm.name()
            ),
        };
        problems.push(fault.at(&object.key, &object.origin));
        context.algorithm
    })
}

/// How long a client keeps its endpoint (B3).
fn affinity(service: &Service) -> u32 {
    let Some(spec) = &service.spec else { return 0 };
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    spec.session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .unwrap_or(DEFAULT_AFFINITY_SECONDS)
}
