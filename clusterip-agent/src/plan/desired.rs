//! From the model's words to the maps': the last place that knows the model.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use clusterip_common::{
    abi::{
        self, InsideKey, NodePlace, Service, ServiceFlags, ServiceId, ServiceKey, SlotIndex,
        SourcesKey,
    },
    packet::socket::{LOOPBACK_V4, LOOPBACK_V6},
    wire::{Addr, Be16, Proto},
};

use ipnet::IpNet;

use super::runs::Run;
use crate::model::{
    facts::TrafficPolicy,
    inside::{Inside, Ranges},
    served::Owner,
    service::{
        Action, Algorithm, Balancer, Endpoint, Frontend, FrontendKind, Protocol, ResolvedService,
        Scope,
    },
};

/// The keys of a balancer's frontends, and what holds for those who call by each.
#[must_use]
pub fn frontends(
    balancer: &Balancer,
    service: &ResolvedService,
) -> BTreeMap<ServiceKey, ServiceFlags> {
    let mut all = BTreeMap::new();
    for frontend in &balancer.frontends {
        let key = service_key(frontend, balancer.protocol);
        if frontend.kind == FrontendKind::NodePort && frontend.scope == Scope::Internal {
            let address = match frontend.address {
                IpAddr::V4(_) => LOOPBACK_V4,
                IpAddr::V6(_) => LOOPBACK_V6,
            };
            let scope = abi::Scope::LOOPBACK;
            let key = ServiceKey { address, ..key }.seen(scope);
            all.insert(key, ServiceFlags(0));
        }
        all.insert(key, frontend_flags(frontend, balancer.policy, service));
    }
    all
}

/// The key of a frontend.
#[must_use]
pub fn service_key(frontend: &Frontend, protocol: Protocol) -> ServiceKey {
    let key = ServiceKey::new(
        frontend.address.into(),
        Be16::new(frontend.port),
        proto(protocol),
    );
    key.seen(match (frontend.kind, frontend.scope) {
        (FrontendKind::ClusterIp, _) => abi::Scope::CLUSTER,
        (_, Scope::Internal) => abi::Scope::INSIDE,
        (_, Scope::External) => abi::Scope::OUTSIDE,
    })
}

/// By an address towards the outside a client keeps its own address where a local policy says so (E2); those inside whose
/// packets come by an uplink would not be answered by way of this node.
fn frontend_flags(
    frontend: &Frontend,
    policy: TrafficPolicy,
    service: &ResolvedService,
) -> ServiceFlags {
    if frontend.kind == FrontendKind::ClusterIp {
        return ServiceFlags(0);
    }
    let mut flags = ServiceFlags(0);
    if frontend.scope == Scope::Internal || policy == TrafficPolicy::Cluster {
        flags = flags.and(ServiceFlags::MASQUERADE);
    }
    if frontend.kind == FrontendKind::LoadBalancer && !service.source_ranges.is_empty() {
        flags = flags.and(ServiceFlags::GUARDED);
    }
    flags
}

/// Who may call a balancer by its guarded frontends (E4).
#[must_use]
pub fn sources(
    frontends: &BTreeMap<ServiceKey, ServiceFlags>,
    service: &ResolvedService,
    id: ServiceId,
) -> BTreeSet<SourcesKey> {
    let mut flags = frontends.values();
    if !flags.any(|flags| flags.has(ServiceFlags::GUARDED)) {
        return BTreeSet::new();
    }
    let ranges = service.source_ranges.iter();
    ranges
        .map(|net| SourcesKey::new(id, net.addr().into(), prefix(net)))
        .collect()
}

/// Bits of a range, as in IPv6.
const fn prefix(net: &IpNet) -> u8 {
    match net {
        IpNet::V4(net) => 96 + net.prefix_len(),
        IpNet::V6(net) => net.prefix_len(),
    }
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
        let whose = match whose {
            Inside::Pods => abi::Inside::PODS,
            Inside::Node => abi::Inside::NODE,
            Inside::OwnPods | Inside::OwnNode => abi::Inside::OWN,
        };
        (InsideKey::new(net.addr().into(), prefix(net)), whose)
    };
    let room = usize::try_from(abi::maps::INSIDE.entries).unwrap_or(usize::MAX);
    ranges.iter().take(room).map(entry).collect()
}

/// The addresses of the node for clients from outside.
#[must_use]
pub fn node(addresses: &[IpAddr]) -> BTreeMap<NodePlace, Addr> {
    let place = |address: &IpAddr| match address {
        IpAddr::V4(_) => NodePlace::V4,
        IpAddr::V6(_) => NodePlace::V6,
    };
    let addresses = addresses.iter();
    addresses
        .map(|address| (place(address), Addr::from(*address)))
        .collect()
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
