//! The endpoints of a service port as the objects list them: from slices, else from pods (A2-A5, A11, A12).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{
    facts::{self, Distribution, EndpointSlice, Pod, ServiceSpec, SliceEndpoint, Written},
    object::{Object, ObjectName},
    problem::{Fault, Problem},
    resolve::{Context, NodeInfo},
    service::{Family, Protocol, Target},
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

impl Distribution {
    /// The hints of a pod: its own zone, and its own node too where the node is preferred.
    pub(super) fn hints(self, context: &Context<'_>, node: &str, zone: &str) -> Hints {
        let here = context.node;
        let zone = (self != Self::Anywhere && !zone.is_empty()).then_some(*here.zone == *zone);
        let node = (self == Self::SameNode && !node.is_empty()).then_some(*here.name == *node);
        Hints { node, zone }
    }
}

/// Every endpoint of a service port in one family, each ip:port once, by address as a number and port.
pub(super) fn candidates(
    context: &Context<'_>,
    (name, spec): (&ObjectName, &ServiceSpec),
    port: &PortSpec,
    family: Family,
    problems: &mut Vec<Problem>,
) -> Vec<Candidate> {
    let mut found = Vec::new();
    let mut slices = context.cluster.slices(name).peekable();
    if slices.peek().is_some() {
        for (object, slice) in slices {
            from_slice(context, (object, slice), port, problems, &mut found);
        }
    } else {
        let selected = context.cluster.selected(&name.namespace, &spec.selector);
        for (object, pod) in selected {
            let wish = spec.distribution;
            from_pod(context, wish, (object, pod), port, problems, &mut found);
        }
    }
    let mut by_target: BTreeMap<(IpAddr, u16), Candidate> = BTreeMap::new();
    for mut candidate in found {
        if Family::of(candidate.address) != family {
            continue;
        }
        candidate.ready |= spec.publishes_all;
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
    if &*slice.address_type == "FQDN" {
        return;
    }
    let is_it = |it: &&facts::SlicePort| it.name == port.name && it.protocol == Some(port.protocol);
    let Some(number) = slice.ports.iter().find(is_it).and_then(|it| it.port) else {
        return;
    };
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let SliceEndpoint {
            address,
            ready,
            serving,
            terminating,
            node,
            zone,
            pod,
            uid,
            hostname: _,
            hints,
        } = endpoint;
        let address = match address {
            None => continue,
            Some(Written::Address(address)) => *address,
            Some(Written::Other(text)) => {
                let field = format!("endpoints[{index}].addresses[0]");
                problems.push(not_an_address(field, text).at(&object.key, &object.origin));
                continue;
            }
        };
        let known = pod.as_ref().and_then(|pod| context.cluster.pod_called(pod));
        let identity = uid
            .clone()
            .or_else(|| known.and_then(|(_, pod)| pod.uid.clone()))
            .or_else(|| pod.clone());
        found.push(Candidate {
            address,
            port: number,
            weight: known.map_or(1, |(object, pod)| weight(object, pod, problems)),
            ready: ready.unwrap_or(true),
            serving: serving.unwrap_or(true),
            terminating: terminating.unwrap_or(false),
            hints: hints
                .as_ref()
                .map_or_else(Hints::default, |hints| given_hints(context.node, hints)),
            node: node.clone(),
            zone: zone.clone().unwrap_or_else(|| context.cluster.zone(node)),
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
    if pod.has_ended() {
        return;
    }
    let Some(number) = target_number(pod, port) else {
        return;
    };
    let serving = pod.is_serving();
    let terminating = pod.deleted.is_some();
    let zone = context.cluster.zone(&pod.node);
    for address in first_addresses(object, pod, problems) {
        found.push(Candidate {
            address,
            port: number,
            weight: weight(object, pod, problems),
            ready: serving && !terminating,
            serving,
            terminating,
            hints: wish.hints(context, &pod.node, &zone),
            node: pod.node.clone(),
            zone: zone.clone(),
            identity: Some(identity_of(&object.key.name, pod)),
        });
    }
}

/// A list without an entry is no hint.
fn given_hints(node: &NodeInfo, hints: &facts::Hints) -> Hints {
    let facts::Hints { nodes, zones } = hints;
    let points = |all: &[Arc<str>], here: &Arc<str>| (!all.is_empty()).then(|| all.contains(here));
    Hints {
        node: points(nodes, &node.name),
        zone: points(zones, &node.zone),
    }
}

/// The first address of each family.
pub(super) fn first_addresses(
    object: &Object,
    pod: &Pod,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = Vec::new();
    for (index, written) in pod.addresses.iter().enumerate() {
        match written {
            Written::Address(address) => {
                let family = Family::of(*address);
                if all.iter().all(|other| Family::of(*other) != family) {
                    all.push(*address);
                }
            }
            Written::Other(text) => {
                let field = pod.address_field(index);
                problems.push(not_an_address(field, text).at(&object.key, &object.origin));
            }
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
    let mut ports = pod.containers.iter().flat_map(|container| &container.ports);
    let found = ports.find(|it| it.name == *name && it.protocol == Some(port.protocol));
    found?.number
}

/// Which pod this is: another pod with the same address is another endpoint (C10).
fn identity_of(name: &ObjectName, pod: &Pod) -> Arc<str> {
    let uid = pod.uid.clone();
    uid.unwrap_or_else(|| name.to_string().into())
}

fn weight(object: &Object, pod: &Pod, problems: &mut Vec<Problem>) -> u32 {
    let Some(text) = &pod.weight else {
        return 1;
    };
    if let Ok(weight @ 1..=MAX_WEIGHT) = text.parse() {
        return weight;
    }
    let fault = Fault {
        field: format!("metadata.annotations[{WEIGHT_ANNOTATION}]"),
        value: text.to_string(),
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
