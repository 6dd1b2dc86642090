//! The endpoints of a service port as the objects list them: from slices, else from pods (A2-A5, A11, A12).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{ContainerPort, Pod, Service},
        discovery::v1::{Endpoint as SliceEndpoint, EndpointHints, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    cluster::node_of,
    object::{Object, ObjectName},
    problem::{Fault, Problem},
    resolve::{Context, NodeInfo},
    service::{Family, Protocol, Target, parse_address},
};

/// Annotation of a slice: when the oldest change in it happened (F8).
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Annotation of a pod: its share of the flows.
pub const WEIGHT_ANNOTATION: &str = "clusterip.dev/weight";
const MAX_WEIGHT: u32 = 100;

/// A service port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    /// Name; empty for the unnamed one.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// The number that clients call.
    pub port: u16,
    /// What it asks of its pods.
    pub target: Target,
}

/// An endpoint before it is decided what it is good for.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) weight: u32,
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) hints: Hints,
    pub(super) node: Arc<str>,
    pub(super) zone: Arc<str>,
    pub(super) identity: Option<Arc<str>>,
}

/// For whom an endpoint is meant, as far as somebody said so: whether that is this node, or this node's zone (A8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Hints {
    pub(super) node: Option<bool>,
    pub(super) zone: Option<bool>,
}

/// What a service asks of the traffic to its pods; slices say it themselves, in their hints (A9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Distribution {
    Anywhere,
    SameZone,
    SameNode,
}

impl Distribution {
    fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        match spec.and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    /// The hints of a pod: its own zone, and its own node too where the node is preferred.
    fn hints(self, context: &Context<'_>, node: &str, zone: &str) -> Hints {
        let here = context.node;
        let zone = (self != Self::Anywhere && !zone.is_empty()).then_some(*here.zone == *zone);
        let node = (self == Self::SameNode && !node.is_empty()).then_some(*here.name == *node);
        Hints { node, zone }
    }
}

/// Every endpoint of a service port in one family, each ip:port once, by address as a number and port.
pub(super) fn candidates(
    context: &Context<'_>,
    (name, service): (&ObjectName, &Service),
    port: &PortSpec,
    family: Family,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate> {
    let publishes_all = service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        .unwrap_or_default();
    let mut found = Vec::new();
    let mut slices = context.cluster.slices(name).peekable();
    if slices.peek().is_some() {
        for (object, slice) in slices {
            from_slice(context, (object, slice), port, problems, &mut found);
        }
    } else if let Some(selector) = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
    {
        let wish = Distribution::of(service);
        for (object, pod) in context.cluster.selected(&name.namespace, selector) {
            from_pod(context, wish, (object, pod), port, problems, &mut found);
        }
    }
    let mut by_target: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for mut candidate in found {
        if Family::of(candidate.address) != family {
            continue;
        }
        candidate.ready |= publishes_all;
        let target = (candidate.address, candidate.port);
        match by_target.get(&target) {
            Some(other) if !is_better(&candidate, other) => {}
            _ => {
                by_target.insert(target, candidate);
            }
        }
    }
    by_target.into_values().collect()
}

/// Which of two with the same ip:port counts: the one that stays (A12).
fn is_better(one: &Candidate, other: &Candidate) -> bool {
    let rank = |it: &Candidate| (!it.terminating, it.ready, it.serving);
    rank(one) > rank(other)
}

fn from_slice(
    context: &Context<'_>,
    (object, slice): (&Object, &EndpointSlice),
    port: &PortSpec,
    problems: &mut Vec<Problem>,
    found: &mut Vec<Candidate>,
) {
    if slice.address_type == "FQDN" {
        return;
    }
    let number = slice.ports.iter().flatten().find_map(|it| {
        let is_it = it.name.as_deref().unwrap_or_default() == &*port.name
            && Protocol::parse(it.protocol.as_deref()) == Some(port.protocol);
        is_it.then_some(it.port).flatten()
    });
    let Some(number) = number.and_then(port_number) else {
        return;
    };
    for (index, endpoint) in slice.endpoints.iter().flatten().enumerate() {
        let SliceEndpoint {
            addresses,
            conditions,
            node_name,
            target_ref,
            zone,
            deprecated_topology: _,
            hints,
            hostname: _,
        } = endpoint;
        let Some(text) = addresses.first() else {
            continue;
        };
        let Some(address) = parse_address(text) else {
            let field = format!("endpoints[{index}].addresses[0]");
            problems.push(not_an_address(field, text).at(&object.key, &object.origin));
            continue;
        };
        let condition =
            |get: fn(&k8s_openapi::api::discovery::v1::EndpointConditions) -> Option<bool>| {
                conditions.as_ref().and_then(get)
            };
        let pod = target_ref
            .as_ref()
            .filter(|target| target.kind.as_deref().is_none_or(|kind| kind == "Pod"))
            .and_then(|target| target.name.as_deref())
            .map(|pod| ObjectName::new(&object.key.name.namespace, pod));
        let known = pod.as_ref().and_then(|pod| context.cluster.pod(pod));
        let identity = target_ref
            .as_ref()
            .and_then(|target| target.uid.as_deref().map(Arc::from))
            .or_else(|| known.map(|(object, pod)| identity_of(&object.key.name, &pod.metadata)))
            .or_else(|| pod.as_ref().map(|pod| pod.to_string().into()));
        let node = node_name.as_deref().unwrap_or_default();
        found.push(Candidate {
            address,
            port: number,
            weight: known.map_or(1, |(object, pod)| weight(object, &pod.metadata, problems)),
            ready: condition(|it| it.ready).unwrap_or(true),
            serving: condition(|it| it.serving).unwrap_or(true),
            terminating: condition(|it| it.terminating).unwrap_or(false),
            hints: hints
                .as_ref()
                .map_or_else(Hints::default, |hints| given_hints(context.node, hints)),
            node: node.into(),
            zone: zone
                .as_deref()
                .unwrap_or_else(|| context.cluster.zone(node))
                .into(),
            identity,
        });
    }
}

fn from_pod(
    context: &Context<'_>,
    wish: Distribution,
    (object, pod): (&Object, &Pod),
    port: &PortSpec,
    problems: &mut Vec<Problem>,
    found: &mut Vec<Candidate>,
) {
    if has_ended(pod) {
        return;
    }
    let Some(number) = target_number(pod, port) else {
        return;
    };
    let serving = is_serving(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let node = node_of(pod);
    let zone = context.cluster.zone(node);
    for address in first_addresses(object, pod, problems) {
        found.push(Candidate {
            address,
            port: number,
            weight: weight(object, &pod.metadata, problems),
            ready: serving && !terminating,
            serving,
            terminating,
            hints: wish.hints(context, node, zone),
            node: node.into(),
            zone: zone.into(),
            identity: Some(identity_of(&object.key.name, &pod.metadata)),
        });
    }
}

/// Whether it runs no more and never will again.
pub(super) fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether it passes its checks, on its way out or not.
pub(super) fn is_serving(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let condition = status
        .and_then(|status| status.conditions.as_ref())
        .and_then(|all| all.iter().find(|it| it.type_ == "Ready"))
        .map(|it| it.status == "True");
    // A pod in a manifest may have no condition: then it is ready once it runs (I1).
    condition.unwrap_or(matches!(phase, None | Some("Running"))) && passes_gates(pod)
}

/// Whether every readiness gate is true (I4).
fn passes_gates(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    let gates = pod.spec.as_ref().and_then(|it| it.readiness_gates.as_ref());
    gates.into_iter().flatten().all(|gate| {
        let mut all = conditions.into_iter().flatten();
        all.any(|it| it.type_ == gate.condition_type && it.status == "True")
    })
}

/// A list without an entry is no hint.
fn given_hints(node: &NodeInfo, hints: &EndpointHints) -> Hints {
    let EndpointHints {
        for_nodes,
        for_zones,
    } = hints;
    let nodes = for_nodes.as_ref().filter(|all| !all.is_empty());
    let zones = for_zones.as_ref().filter(|all| !all.is_empty());
    Hints {
        node: nodes.map(|all| all.iter().any(|it| *it.name == *node.name)),
        zone: zones.map(|all| all.iter().any(|it| *it.name == *node.zone)),
    }
}

/// The first address of each family.
pub(super) fn first_addresses(
    object: &Object,
    pod: &Pod,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let several = status.pod_ips.iter().flatten().enumerate();
    let mut texts: Vec<(String, &str)> = several
        .map(|(index, it)| (format!("status.podIPs[{index}].ip"), it.ip.as_str()))
        .collect();
    if texts.is_empty() {
        let single = status.pod_ip.as_deref();
        texts.extend(single.map(|text| ("status.podIP".to_owned(), text)));
    }
    let mut all: Vec<IpAddr> = Vec::new();
    for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        match parse_address(text) {
            Some(address) => {
                let family = Family::of(address);
                if all.iter().all(|other| Family::of(*other) != family) {
                    all.push(address);
                }
            }
            None => problems.push(not_an_address(field, text).at(&object.key, &object.origin)),
        }
    }
    all
}

/// The pod's own number for a target port; none if it has no port of that name (A3).
pub(super) fn target_number(pod: &Pod, port: &PortSpec) -> Option<u16> {
    let name = match &port.target {
        Target::Number(number) => return Some(*number),
        Target::Name(name) => name,
    };
    let spec = pod.spec.as_ref()?;
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let is_it = |it: &&ContainerPort| {
        it.name.as_deref() == Some(name)
            && Protocol::parse(it.protocol.as_deref()) == Some(port.protocol)
    };
    let found = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .find(is_it)?;
    port_number(found.container_port)
}

pub(super) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}

/// Which pod this is: another pod with the same address is another endpoint (C10).
fn identity_of(name: &ObjectName, metadata: &ObjectMeta) -> Arc<str> {
    match metadata.uid.as_deref().filter(|uid| !uid.is_empty()) {
        Some(uid) => uid.into(),
        None => name.to_string().into(),
    }
}

fn weight(object: &Object, metadata: &ObjectMeta, problems: &mut Vec<Problem>) -> u32 {
    let annotations = metadata.annotations.as_ref();
    let Some(text) = annotations.and_then(|all| all.get(WEIGHT_ANNOTATION)) else {
        return 1;
    };
    if let Ok(weight @ 1..=MAX_WEIGHT) = text.parse() {
        return weight;
    }
    let fault = Fault {
        field: format!("metadata.annotations[{WEIGHT_ANNOTATION}]"),
        value: text.clone(),
        message: format!("is not a number from 1 to {MAX_WEIGHT}; 1 is used"),
    };
    problems.push(fault.at(&object.key, &object.origin));
    1
}

fn not_an_address(field: String, text: &str) -> Fault {
    Fault {
        field,
        value: text.to_owned(),
        message: "is not an IP address without leading zeros; the endpoint is left out".to_owned(),
    }
}
