//! From objects to what they mean: pure.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    allocate::Assigned,
    cluster::Cluster,
    endpoints::{Candidate, PortSpec, candidates, port_number},
    object::{Object, ObjectName},
    problem::{Fault, Problem},
    service::{
        Action, Algorithm, Balancer, Endpoint, Family, Frontend, FrontendKind, Protocol,
        ResolvedService, Role, Scope, Target,
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
}

/// Resolves one service with the addresses it was given; none if there is no such service.
#[must_use]
pub fn resolve(
    context: &Context<'_>,
    name: &ObjectName,
    addresses: &[Assigned],
    faults: &[Fault],
) -> Option<Arc<ResolvedService>> {
    let (object, service) = context.cluster.service(name)?;
    let mut problems: Vec<Problem> = faults
        .iter()
        .map(|fault| fault.clone().at(&object.key, &object.origin))
        .collect();
    let mut balancers = Vec::new();
    if let Some(spec) = service
        .spec
        .as_ref()
        .filter(|spec| has_entry(service, spec))
    {
        for port in ports(spec) {
            for family in [Family::V4, Family::V6] {
                let frontends = frontends(&port, family, addresses);
                if frontends.is_empty() {
                    continue;
                }
                let found = candidates(
                    context.cluster,
                    (name, service),
                    &port,
                    family,
                    &mut problems,
                );
                let is_local = spec.internal_traffic_policy.as_deref() == Some("Local");
                let (endpoints, action) = choose(found, is_local.then_some(&*context.node.name));
                balancers.push(Balancer {
                    port_name: port.name.clone(),
                    protocol: port.protocol,
                    family,
                    target: port.target.clone(),
                    frontends,
                    endpoints,
                    action,
                });
            }
        }
    }
    let algorithm = algorithm(context, object, service, &mut problems);
    problems.sort();
    problems.dedup();
    Some(Arc::new(ResolvedService {
        name: name.clone(),
        algorithm,
        affinity_seconds: affinity(service),
        balancers,
        problems,
    }))
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

/// What each endpoint is good for: those that are ready; if none is, those that serve and terminate (A6); with a Local
/// policy, decided among the endpoints of one node (A7).
fn choose(found: Vec<Candidate>, node: Option<&str>) -> (Vec<Endpoint>, Action) {
    let is_eligible = |it: &Candidate| node.is_none_or(|node| *it.node == *node);
    let is_fallback = |it: &Candidate| it.serving && it.terminating;
    let has_ready = found.iter().any(|it| is_eligible(it) && it.ready);
    let is_chosen =
        |it: &Candidate| is_eligible(it) && if has_ready { it.ready } else { is_fallback(it) };
    let action = if found.iter().any(is_chosen) {
        Action::Balance
    } else if found.iter().any(|it| it.ready || is_fallback(it)) {
        Action::Drop
    } else {
        Action::Reject
    };
    let endpoints = found
        .into_iter()
        .map(|it| {
            let role = if is_chosen(&it) {
                Role::Chosen
            } else if it.ready || it.serving {
                Role::Serving
            } else {
                Role::Listed
            };
            let Candidate {
                address,
                port,
                weight,
                ready: _,
                serving: _,
                terminating,
                node,
                zone,
                identity,
            } = it;
            Endpoint {
                address,
                port,
                weight,
                terminating,
                role,
                node,
                zone,
                identity,
            }
        })
        .collect();
    (endpoints, action)
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
