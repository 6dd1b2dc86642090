//! One made-up packet through the functions that the kernel runs, over tables in memory.

mod frame;
pub mod live;
pub mod memory;
#[cfg(test)]
mod tests;
mod witness;

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, SocketAddr},
};

use clusterip_common::{
    abi::{BackendState, Outcome, Service, Settings},
    packet::{
        self, Link, SliceFrame, Verdict,
        socket::{Socket, SocketVerdict, connect},
    },
    wire::{Addr, Be16, Proto},
};
use serde::{Deserialize, Serialize};

use self::{memory::HostEnv, witness::Witness};
use crate::plan::{Index, Tables, tables::slots_of};

/// A protocol above IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
    /// A ping
    Icmp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
        })
    }
}

/// Who sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A pod of this node
    #[default]
    Pod,
    /// A process of the node itself, by a call on its socket
    Host,
    /// Somebody behind an uplink
    Uplink,
}

/// The packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// Its source.
    pub from: SocketAddr,
    /// Its destination; the port is 0 for a ping.
    pub to: SocketAddr,
    /// Its protocol.
    pub protocol: Transport,
    /// TCP's flags, as in its header.
    pub flags: u8,
    /// Where it is seen.
    pub via: Via,
}

/// The document of `trace -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// Version of the document.
    pub version: u32,
    /// pass (not ours), translate, reject, drop, answer (ping).
    pub verdict: String,
    /// Name of the outcome.
    pub outcome: String,
    /// `namespace/name` of the service; empty if it is for none.
    pub service: String,
    /// All that could be chosen.
    pub backends: Vec<End>,
    /// The one this packet got.
    pub chosen: Option<End>,
    /// Whether the backend sees another source than the client's.
    pub source_rewritten: bool,
    /// What was looked at and decided.
    pub steps: Vec<String>,
    /// What the kernel's program says; none of one over manifests, and of a call by a process, for which the kernel runs no program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<live::Live>,
}

/// An address and port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct End {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// What became of the packet.
struct Fate {
    verdict: &'static str,
    outcome: Outcome,
    /// Source and destination afterwards, if it was translated.
    ends: Option<(SocketAddr, SocketAddr)>,
}

/// Follows a packet. `index` names what is in the tables.
#[must_use]
pub fn trace(question: &Question, tables: Tables, settings: Settings, index: &Index) -> Trace {
    follow(question, HostEnv::new(tables, settings), index)
}

/// As above, over all that is in memory.
fn follow(question: &Question, memory: HostEnv, index: &Index) -> Trace {
    let witness = Witness::new(memory, index);
    let Question {
        from,
        to,
        protocol,
        flags: _,
        via,
    } = question;
    let (sender, what) = match via {
        Via::Pod => ("a pod", "sends"),
        Via::Host => ("a process of the node", "calls"),
        Via::Uplink => ("an uplink", "brings"),
    };
    let to_text = match protocol {
        Transport::Icmp => to.ip().to_string(),
        _ => to.to_string(),
    };
    witness.say(format!("{sender} {what} {protocol} {from} -> {to_text}"));
    let fate = match via {
        Via::Host if *protocol != Transport::Icmp => call(question, &witness),
        Via::Pod | Via::Host | Via::Uplink => pass(question, &witness),
    };
    let head = witness.balancer();
    let service = head.and_then(|head| witness.name(head.id));
    let chosen = fate.ends.map(|(_, destination)| end(destination));
    let source_rewritten = fate.ends.is_some_and(|(source, _)| source != *from);
    let result = match chosen {
        Some(End { address, port }) => format!(", to {}", SocketAddr::new(address, port)),
        None => String::new(),
    };
    let help = fate.outcome.help().trim();
    witness.say(format!(
        "{}{result}: {}: {help}",
        fate.verdict,
        fate.outcome.name()
    ));
    Trace {
        version: crate::view::VERSION,
        verdict: fate.verdict.to_owned(),
        outcome: fate.outcome.name().to_owned(),
        service: service.map(|(name, _)| name).unwrap_or_default(),
        backends: head.map_or_else(Vec::new, |head| choices(&witness.memory, &head)),
        chosen,
        source_rewritten,
        steps: witness.steps(),
        live: None,
    }
}

const fn end(address: SocketAddr) -> End {
    End {
        address: address.ip().to_canonical(),
        port: address.port(),
    }
}

/// The backends that a balancer's slots lead to.
fn choices(memory: &HostEnv, head: &Service) -> Vec<End> {
    let tables = memory.tables.borrow();
    let ids = slots_of(head).filter_map(|slot| tables.slots.get(&slot));
    let backends = ids.filter_map(|id| tables.backends.get(id));
    let all: BTreeSet<End> = backends
        .filter(|backend| backend.state != BackendState::FREE)
        .map(|backend| End {
            address: backend.address.into(),
            port: backend.port.get(),
        })
        .collect();
    all.into_iter().collect()
}

/// By a hook on a device.
fn pass(question: &Question, witness: &Witness<'_>) -> Fate {
    let mut bytes = frame::frame(question);
    let mut seen = SliceFrame::new(&mut bytes.buffer, bytes.length);
    let verdict = match question.via {
        Via::Pod | Via::Host => packet::from_pod(&mut seen, witness, Link::None),
        Via::Uplink => packet::from_uplink(&mut seen, witness, Link::None),
    };
    let word = match verdict {
        Verdict::Pass(_) => "pass",
        Verdict::Translated(_) => "translate",
        Verdict::Reply(Outcome::Ping) => "answer",
        Verdict::Reply(_) | Verdict::Refuse(_) => "reject",
        Verdict::Drop(_) => "drop",
    };
    let is_translated = matches!(verdict, Verdict::Translated(_));
    let is_own = |(source, destination): &(SocketAddr, SocketAddr)| source.ip() == destination.ip();
    if is_translated && frame::ends(seen.bytes()).as_ref().is_some_and(is_own) {
        // The one case in which what is done at the backend's device is seen here: it is the client's own.
        let arrived = packet::to_pod(&mut seen, witness, Link::None);
        let outcome = arrived.outcome().name();
        witness.say(format!(
            "the backend is the client itself: at its device, {outcome} (D13)"
        ));
    }
    Fate {
        verdict: word,
        outcome: verdict.outcome(),
        ends: frame::ends(seen.bytes()).filter(|_| is_translated),
    }
}

/// A call on a socket of the node.
struct Call {
    protocol: Proto,
    netns: u64,
    peer: (Addr, Be16),
}

impl Socket for Call {
    fn protocol(&self) -> Proto {
        self.protocol
    }

    fn netns(&self) -> u64 {
        self.netns
    }

    fn cookie(&self) -> u64 {
        1
    }

    fn is_connected(&self) -> bool {
        false
    }

    fn peer(&self) -> (Addr, Be16) {
        self.peer
    }

    fn set_peer(&mut self, address: Addr, port: Be16) {
        self.peer = (address, port);
    }
}

/// By a hook on `connect`.
fn call(question: &Question, witness: &Witness<'_>) -> Fate {
    let mut call = Call {
        protocol: frame::protocol(question),
        netns: witness.memory.settings.socket_netns,
        peer: (question.to.ip().into(), Be16::new(question.to.port())),
    };
    let verdict = connect(&mut call, witness);
    let (address, port) = call.peer;
    let peer = SocketAddr::new(address.into(), port.get());
    let (word, ends) = match verdict {
        SocketVerdict::Pass(_) => ("pass", None),
        SocketVerdict::Translated(_) => ("translate", Some((question.from, peer))),
        SocketVerdict::Refuse(_) => ("reject", None),
        SocketVerdict::Deny(_) => ("drop", None),
    };
    Fate {
        verdict: word,
        outcome: verdict.outcome(),
        ends,
    }
}
