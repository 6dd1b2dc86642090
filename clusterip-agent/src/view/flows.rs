//! `get flows`

use std::net::{IpAddr, SocketAddr};

use clusterip_common::{
    abi::{BackendId, Direction, Flow, FlowKey, FlowState},
    packet::idle,
    wire::{Addr, Be16, Proto},
};
use serde::{Deserialize, Serialize};

use super::{Moment, Names, Selection, VERSION};

/// The document of `get flows -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flows {
    /// See [`VERSION`].
    pub version: u32,
    /// How many there are of this selection; more than are listed if there is a limit.
    pub total: usize,
    /// By service, then client.
    pub flows: Vec<FlowView>,
}

/// A flow, seen from its client.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowView {
    /// Namespace of the service; empty if it is gone.
    pub namespace: String,
    /// Name of the service; empty if it is gone.
    pub service: String,
    /// Name of the service port.
    pub port_name: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// Who called.
    pub client: SocketAddr,
    /// `namespace/name` of its pod; empty if it is not known.
    pub client_pod: String,
    /// What it called.
    pub frontend: SocketAddr,
    /// Who answers.
    pub backend: SocketAddr,
    /// `namespace/name` of its pod; empty if it is not known.
    pub backend_pod: String,
    /// The client's port as the backend sees it.
    pub client_port: u16,
    /// opening, established, ended (the client has said FIN), closing; expired: its time has run out; stale: its backend
    /// was taken away.
    pub state: String,
    /// Whether the other side has spoken.
    pub answered: bool,
    /// Since its last packet that counts.
    pub idle_seconds: u64,
}

/// How many flows a backend has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlowCount {
    /// That live.
    pub active: u64,
    /// That have ended, or that only the client has spoken in.
    pub inactive: u64,
}

/// An entry of the flow tables, as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its tuple.
    pub key: FlowKey,
    /// What is done.
    pub flow: Flow,
    /// Whether it is among those that both sides have spoken in.
    pub answered: bool,
}

impl Entry {
    /// Nanoseconds since its last packet that counts.
    const fn idle(&self, moment: Moment<'_>) -> u64 {
        idle(moment.now, &self.flow)
    }

    /// Whether its time has run out. Its other side is not looked at: it may still prolong a flow of datagrams.
    const fn is_over(&self, moment: Moment<'_>) -> bool {
        let Flow { state, .. } = self.flow;
        self.idle(moment) > moment.settings.timeout(self.key.protocol, state)
    }
}

/// How many flows each backend has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowCounts(Vec<FlowCount>);

impl FlowCounts {
    /// Adds an entry. That its backend is another one by now is not looked at.
    pub fn add(&mut self, entry: &Entry, moment: Moment<'_>) {
        if entry.flow.direction != Direction::REQUEST {
            return;
        }
        let place = entry.flow.backend.0 as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, FlowCount::default());
        }
        let Some(count) = self.0.get_mut(place) else {
            return;
        };
        if entry.answered && entry.flow.state < FlowState::ENDED && !entry.is_over(moment) {
            count.active += 1;
        } else {
            count.inactive += 1;
        }
    }

    /// Of one backend.
    #[must_use]
    pub fn of(&self, backend: BackendId) -> FlowCount {
        self.0.get(backend.0 as usize).copied().unwrap_or_default()
    }
}

/// Whether an entry is one of the selection; each flow is two entries, and only the request's is shown; those past
/// services are not.
#[must_use]
pub fn is_wanted(names: &Names<'_>, selection: &Selection, entry: &Entry) -> bool {
    if entry.flow.direction != Direction::REQUEST {
        return false;
    }
    match names.backend(entry.flow.backend) {
        Some((service, _)) => selection.has(service),
        None => *selection == Selection::default(),
    }
}

/// The wanted entries from `offset` on, `limit` at most.
#[must_use]
pub fn flows(
    names: &Names<'_>,
    mut wanted: Vec<Entry>,
    (offset, limit): (usize, usize),
    moment: Moment<'_>,
) -> Flows {
    wanted.sort_unstable_by_key(|entry| {
        let service = names.backend(entry.flow.backend).map(|(name, _)| name);
        (service, entry.key)
    });
    Flows {
        version: VERSION,
        total: wanted.len(),
        flows: wanted
            .iter()
            .skip(offset)
            .take(limit)
            .map(|entry| view(names, entry, moment))
            .collect(),
    }
}

fn view(names: &Names<'_>, entry: &Entry, moment: Moment<'_>) -> FlowView {
    let Entry {
        key,
        flow,
        answered,
    } = entry;
    let owner = names.backend(flow.backend);
    let stands = owner.is_some_and(|(_, place)| {
        let mut backends = place.backends.iter();
        backends.any(|(id, it)| (*id, it.generation) == (flow.backend, flow.generation))
    });
    // The id's new owner has nothing to do with it.
    let owner = owner.filter(|_| stands);
    let (client, backend) = (ip(key.source), ip(flow.address));
    FlowView {
        namespace: owner.map_or_else(String::new, |(it, _)| it.namespace.to_string()),
        service: owner.map_or_else(String::new, |(it, _)| it.name.to_string()),
        port_name: owner.map_or_else(String::new, |(_, it)| it.port_name.to_string()),
        protocol: protocol(key.protocol),
        client: socket(key.source, key.source_port),
        client_pod: names.pod(client),
        frontend: socket(key.destination, key.destination_port),
        backend: socket(flow.address, flow.port),
        backend_pod: names.pod(backend),
        client_port: flow.client_port.get(),
        state: match (stands, entry.is_over(moment)) {
            (false, _) => "stale",
            (true, true) => "expired",
            (true, false) => state(flow.state),
        }
        .to_owned(),
        answered: *answered,
        idle_seconds: entry.idle(moment) / 1_000_000_000,
    }
}

const fn state(state: FlowState) -> &'static str {
    match state {
        FlowState::OPENING => "opening",
        FlowState::ESTABLISHED => "established",
        FlowState::ENDED => "ended",
        FlowState::CLOSING => "closing",
        _ => "unknown",
    }
}

pub(super) fn protocol(protocol: Proto) -> String {
    protocol.to_string().to_uppercase()
}

pub(super) fn ip(address: Addr) -> IpAddr {
    address.into()
}

fn socket(address: Addr, port: Be16) -> SocketAddr {
    SocketAddr::new(ip(address), port.get())
}
