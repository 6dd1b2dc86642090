//! `status`

use clusterip_common::abi::{Outcome, Traffic, maps};
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{VERSION, interfaces::InterfaceView};
use crate::{
    interfaces::Role, model::problem::Problem, reconcile::Published, source::kubernetes::Connection,
};

/// The document of `status -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// See [`VERSION`].
    pub version: u32,
    /// Whether all is well: the source is complete, the maps hold what it says, every service fits, and the devices were
    /// looked at. Problems of objects do not count.
    pub healthy: bool,
    /// The agent itself.
    pub agent: AgentFacts,
    /// Where objects come from.
    pub source: SourceView,
    /// Whether the maps follow.
    pub dataplane: DataplaneView,
    /// The maps.
    pub maps: Vec<MapView>,
    /// Names of the devices with hooks; None before they were looked at.
    pub interfaces: Option<Vec<String>>,
    /// How each uplink has its hooks, and why.
    #[serde(default)]
    pub uplinks: Vec<InterfaceView>,
    /// What became of packets; those that never happened are left out.
    pub outcomes: Vec<OutcomeView>,
    /// What is wrong with the objects.
    pub problems: Vec<Problem>,
}

/// What does not change while the agent runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentFacts {
    /// Its version.
    pub version: String,
    /// Version of the layout of the pinned maps.
    pub abi: u32,
    /// The kernel's version.
    pub kernel: String,
    /// Name of its node.
    pub node: String,
    /// Its process.
    pub pid: u32,
    /// Since it started.
    pub age_seconds: u64,
    /// tcx or clsact.
    pub mode: String,
    /// Whose sockets are translated in their calls: host, all or off; off if there is no cgroup2 for it.
    pub socket_lb: String,
    /// How translated packets go on: stack or redirect.
    #[serde(default)]
    pub forwarding: String,
    /// Which backends answer clients from outside past the node that was called: off, accept or on.
    #[serde(default)]
    pub direct_return: String,
    /// Where it pins.
    pub bpffs: String,
}

/// Where objects come from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// manifests or kubernetes
    pub kind: String,
    /// The directory, the kubeconfig file, or `in-cluster`.
    pub place: String,
    /// The API server that answered last; empty for manifests, and before the first answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// Why the API server is not reached, if it is not: what it said before stays in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostView>,
    /// Whether everything was listed once.
    pub synced: bool,
    /// Services in it.
    pub services: usize,
    /// Addresses of pods in it.
    pub pod_addresses: usize,
}

/// An API server that is not reached.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LostView {
    /// Since when.
    pub since: Timestamp,
    /// Why, and what can be done.
    pub reason: String,
}

/// Whether the maps follow.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataplaneView {
    /// Whether the maps hold what the source says.
    pub programmed: bool,
    /// Services that do not fit.
    pub waiting: usize,
    /// Addresses and ports that are answered.
    pub frontends: usize,
    /// Endpoints, each for each service port it is behind.
    pub backends: usize,
    /// Services with node ports that are nowhere served, as the node's addresses are not known.
    #[serde(default)]
    pub unserved: usize,
}

/// A map.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    /// Name of the pin.
    pub name: String,
    /// What it holds.
    pub help: String,
    /// Entries in use; None where that means nothing.
    pub entries: Option<u64>,
    /// Entries it has room for.
    pub capacity: u32,
    /// Entries of a hundred in use.
    pub percent: Option<u64>,
}

/// What became of packets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeView {
    /// Its name.
    pub outcome: String,
    /// One line.
    pub help: String,
    /// How many.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is read for a status.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// The devices with hooks.
    pub interfaces: Option<Vec<InterfaceView>>,
    /// Capacities of the maps, by name.
    pub capacity: &'a [(&'static str, u32)],
    /// Entries of the maps that the program fills, by name.
    pub entries: &'a [(&'static str, u64)],
    /// Counters by outcome.
    pub outcomes: Vec<(Outcome, Traffic)>,
    /// How the API server is reached, where objects come from one.
    pub connection: Option<Connection>,
}

/// How everything is.
#[must_use]
pub fn status(
    published: &Published,
    agent: AgentFacts,
    (kind, place): (&str, &str),
    read: Read<'_>,
) -> Status {
    let Read {
        interfaces,
        capacity,
        entries,
        outcomes,
        connection,
    } = read;
    let (mut frontends, mut backends, mut addresses) = (0, 0, std::collections::BTreeSet::new());
    for place in published.index.services.values().flat_map(|all| all.iter()) {
        frontends += place.frontends.len();
        backends += place.backends.len();
        addresses.extend(place.cluster_addresses());
    }
    let used = |name: &str| match name {
        name if name == maps::SERVICES.name => Some(count(frontends + addresses.len())),
        name if name == maps::BACKENDS.name => Some(count(backends)),
        name => {
            let mut found = entries.iter();
            found.find(|(map, _)| *map == name).map(|(_, used)| *used)
        }
    };
    let dataplane = DataplaneView {
        programmed: published.programmed,
        waiting: published.waiting,
        frontends,
        backends,
        unserved: published
            .snapshot
            .services
            .values()
            .filter(|service| !service.about.node_ports.is_empty() && service.external.is_empty())
            .count(),
    };
    let connection = connection.unwrap_or_default();
    let lost = connection.lost().map(|(since, why)| LostView {
        since,
        reason: why.to_owned(),
    });
    Status {
        version: VERSION,
        healthy: published.synced
            && dataplane.programmed
            && dataplane.waiting == 0
            && interfaces.is_some(),
        agent,
        source: SourceView {
            kind: kind.to_owned(),
            place: place.to_owned(),
            server: connection.server,
            lost,
            synced: published.synced,
            services: published.snapshot.services.size(),
            pod_addresses: published.snapshot.pods.size(),
        },
        dataplane,
        maps: capacity
            .iter()
            .map(|(name, capacity)| map(name, used(name), *capacity))
            .collect(),
        uplinks: interfaces
            .iter()
            .flatten()
            .filter(|it| it.role == Role::Uplink.to_string())
            .cloned()
            .collect(),
        interfaces: interfaces.map(|all| all.into_iter().map(|it| it.name).collect()),
        outcomes: outcomes
            .into_iter()
            .filter(|(_, traffic)| traffic.packets > 0)
            .map(|(outcome, Traffic { packets, bytes })| OutcomeView {
                outcome: outcome.name().to_owned(),
                help: outcome.help().trim().to_owned(),
                packets,
                bytes,
            })
            .collect(),
        problems: published.snapshot.problems(),
    }
}

fn map(name: &str, entries: Option<u64>, capacity: u32) -> MapView {
    let help = maps::ALL.iter().find(|shape| shape.name == name);
    MapView {
        name: name.to_owned(),
        help: help.map_or_else(String::new, |shape| shape.help.to_owned()),
        entries,
        capacity,
        percent: entries.map(|entries| entries.saturating_mul(100) / u64::from(capacity.max(1))),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
