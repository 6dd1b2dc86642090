//! From the model's words to the maps': the last place that knows the model.

use std::{collections::BTreeMap, net::IpAddr};

use clusterip_common::{
    abi::{self, InsideKey, Service, ServiceFlags, ServiceId, ServiceKey, SlotIndex},
    wire::{Addr, Be16, Proto},
};

use ipnet::IpNet;

use super::runs::Run;
use crate::model::{
    inside::{Inside, Ranges},
    served::Owner,
    service::{Action, Algorithm, Endpoint, Frontend, Protocol, ResolvedService},
};

/// The key of a frontend.
#[must_use]
pub fn service_key(frontend: &Frontend, protocol: Protocol) -> ServiceKey {
    ServiceKey::new(
        frontend.address.into(),
        Be16::new(frontend.port),
        proto(protocol),
    )
}

/// Where an endpoint listens.
#[must_use]
pub fn target(endpoint: &Endpoint) -> (Addr, Be16) {
    (endpoint.address.into(), Be16::new(endpoint.port))
}

/// The protocol's number.
#[must_use]
pub const fn proto(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Tcp => Proto::TCP,
        Protocol::Udp => Proto::UDP,
        Protocol::Sctp => Proto::SCTP,
    }
}

/// The head of a balancer of that service: what changes here is one write.
pub(super) const fn head(
    service: &ResolvedService,
    action: Action,
    id: ServiceId,
    run: Run,
) -> Service {
    Service {
        id,
        first_slot: SlotIndex(run.first),
        slot_count: run.count,
        algorithm: algorithm(service.algorithm),
        flags: flags(action),
        affinity: service.affinity_seconds,
    }
}

/// What the program does without slots (B7, B8).
const fn flags(action: Action) -> ServiceFlags {
    match action {
        Action::Drop => ServiceFlags::LOCAL,
        Action::Balance | Action::Reject => ServiceFlags(0),
    }
}

/// The entry of a VIP, whatever its ports (B9, B10). To packets only that it is there counts; to the next agent, whose
/// it is (G4).
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the two halves of the number"
)]
pub const fn address_head(owner: Owner) -> Service {
    let Owner(hash) = owner;
    Service {
        id: ServiceId(u32::MAX),
        first_slot: SlotIndex((hash >> 32) as u32),
        slot_count: 0,
        algorithm: abi::Algorithm::ROUND_ROBIN,
        flags: ServiceFlags(0),
        affinity: hash as u32,
    }
}

/// Whose address it is, of the entry of a VIP.
#[must_use]
pub const fn owner_of(head: &Service) -> Owner {
    Owner((head.first_slot.0 as u64) << 32 | head.affinity as u64)
}

/// The ranges inside the cluster; those that do not fit are outside, rather than in the way of everything else.
#[must_use]
pub fn inside(ranges: &Ranges) -> BTreeMap<InsideKey, abi::Inside> {
    let entry = |(net, whose): (&IpNet, &Inside)| {
        let prefix = match net.addr() {
            IpAddr::V4(_) => 96 + net.prefix_len(),
            IpAddr::V6(_) => net.prefix_len(),
        };
        let whose = match whose {
            Inside::Pods => abi::Inside::PODS,
            Inside::Node => abi::Inside::NODE,
        };
        (InsideKey::new(net.addr().into(), prefix), whose)
    };
    let room = usize::try_from(abi::maps::INSIDE.entries).unwrap_or(usize::MAX);
    ranges.iter().take(room).map(entry).collect()
}

/// The algorithm's number.
#[must_use]
pub const fn algorithm(algorithm: Algorithm) -> abi::Algorithm {
    match algorithm {
        Algorithm::RoundRobin => abi::Algorithm::ROUND_ROBIN,
        Algorithm::Random => abi::Algorithm::RANDOM,
        Algorithm::Maglev => abi::Algorithm::MAGLEV,
        Algorithm::LeastConnections => abi::Algorithm::LEAST_CONNECTIONS,
    }
}
