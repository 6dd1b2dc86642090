//! From objects to what they mean: pure.

use std::{net::IpAddr, sync::Arc};

use super::{
    about::About,
    allocate::Assigned,
    announcer::{Conflicts, announcements},
    categorise::categorise,
    cluster::Cluster,
    endpoints::{PortSpec, candidates},
    exposure::{self, Exposure},
    facts::{Service, ServiceSpec, TrafficPolicy},
    naming::naming,
    node_ports::AssignedPort,
    object::{Object, ObjectName},
    problem::{Fault, Problem},
    provision::Provision,
    range::ServiceRange,
    service::{Algorithm, Balancer, Family, Frontend, FrontendKind, ResolvedService, Scope},
    wish::has_address,
};

/// Annotation of a service: how its flows are spread.
pub const ALGORITHM_ANNOTATION: &str = "clusterip.dev/algorithm";
/// Label of a service that another proxy serves (A13).
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a service that has no entry in any dataplane (A13).
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// The node a snapshot is for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeInfo {
    /// Name.
    pub name: Arc<str>,
    /// Zone; empty if it is not known.
    pub zone: Arc<str>,
    /// Its addresses that serve node ports: those of its Node object, else of the machine, where that is looked at.
    pub node_port_addresses: Arc<[IpAddr]>,
    /// The addresses, one of each family, by which it stands for clients from outside (E2).
    pub stand_ins: Arc<[IpAddr]>,
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
    /// The nodes that may announce addresses of the pool, by name.
    pub announcers: &'a [Arc<str>],
    /// Those addresses that others have too.
    pub conflicts: &'a Conflicts,
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
    let mut announced = Vec::new();
    let class = context.exposure.class.as_deref();
    let class = class.filter(|_| context.exposure.provides);
    let provision = class.and_then(|class| Provision::of(service, class));
    if let Some(spec) = service
        .spec
        .as_ref()
        .filter(|spec| has_entry(service, spec))
    {
        let mut endpoints = Vec::new();
        for port in spec.ports() {
            for family in [Family::V4, Family::V6] {
                let inside = frontends(port, family, &given.addresses);
                // A family that it has no address of is not its own, towards the outside either.
                if inside.is_empty() {
                    continue;
                }
                let outside = exposure::frontends(
                    context,
                    (object, service),
                    port,
                    family,
                    given,
                    &mut problems,
                );
                let found = candidates(context, (name, spec), port, family, &mut problems);
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
                        policy,
                    }
                };
                balancers.push(seen(spec.internal_policy, inside));
                if !outside.is_empty() {
                    external.extend(views(outside, spec.external_policy, seen));
                }
                endpoints.push((family, found));
            }
        }
        let provided = provision
            .as_ref()
            .map(|it| it.pooled(&context.exposure.pool));
        let pooled = provided.as_ref().unwrap_or(&given.balancers);
        let policy = spec.external_policy;
        let mut faults = Vec::new();
        announced = announcements(context, pooled, policy, &endpoints, &mut faults);
        problems.extend(
            faults
                .into_iter()
                .map(|fault| fault.at(&object.key, &object.origin)),
        );
    }
    let naming = naming(context, (name, service), &given.addresses);
    let algorithm = algorithm(context, object, service, &mut problems);
    problems.sort();
    problems.dedup();
    Some(Arc::new(ResolvedService {
        name: name.clone(),
        algorithm,
        affinity_seconds: service
            .spec
            .as_ref()
            .map_or(0, |spec| spec.affinity_seconds),
        balancers,
        external,
        announced,
        provision: provision.map(Box::new),
        source_ranges: service
            .spec
            .as_ref()
            .map_or_else(Vec::new, |spec| spec.source_ranges.to_vec()),
        about: About::of(service, given),
        naming,
        health_check_node_port: given.health_check_node_port,
        problems,
    }))
}

/// What clients outside reach, by the external policy; and what pods and nodes reach by the same addresses: all endpoints,
/// whatever that policy says (E3).
fn views(
    outside: Vec<Frontend>,
    policy: TrafficPolicy,
    seen: impl Fn(TrafficPolicy, Vec<Frontend>) -> Balancer,
) -> [Balancer; 2] {
    let inside = outside.iter().map(|frontend| Frontend {
        scope: Scope::Internal,
        ..frontend.clone()
    });
    let short_circuit = seen(TrafficPolicy::Cluster, inside.collect());
    [seen(policy, outside), short_circuit]
}

/// Whether a service has an entry in the dataplane (A13).
fn has_entry(service: &Service, spec: &ServiceSpec) -> bool {
    has_address(spec) && !service.is_foreign
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
    let Some(text) = &service.algorithm else {
        return context.algorithm;
    };
    Algorithm::parse(text).unwrap_or_else(|| {
        let fault = Fault {
            field: format!("metadata.annotations[{ALGORITHM_ANNOTATION}]"),
            value: text.to_string(),
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
