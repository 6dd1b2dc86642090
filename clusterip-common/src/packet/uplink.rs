//! By an uplink: a `ClusterIP` answers inside the cluster and nowhere else (E1), addresses towards the outside answer anybody.

use super::{
    direct_return::ports_behind_note,
    env::Env,
    family::{Family, V4, V6},
    frame::Frame,
    link::{Link, Network, network},
    neighbour::{answer_neighbour, is_arp},
    parse::Ports,
    request,
    verdict::Verdict,
    way::{Work, may_turn, reach},
};
use crate::abi::{EventHook, Inside, Outcome, Scope};

/// Where a packet was seen, and who sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Origin {
    /// At a pod's device.
    Pod,
    /// At an uplink, from a pod or a node of the cluster.
    Inside,
    /// At an uplink, from anybody else.
    Outside,
}

impl Origin {
    /// By which scope such a client calls an address towards the outside (E3).
    #[inline(always)]
    pub(super) const fn scope(self) -> Scope {
        match self {
            Self::Pod | Self::Inside => Scope::INSIDE,
            Self::Outside => Scope::OUTSIDE,
        }
    }
}

/// What comes in by an uplink. What a node or a pod of the cluster sends to a service is served as if a pod of this node
/// had sent it (docs/adr/0006-from-outside.md), and so is what anybody sends to an address towards the outside.
#[inline(always)]
pub fn from_uplink<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    match admit::<true, F, E>(frame, env, link) {
        Ok((network, origin)) => request(frame, env, network, (EventHook::FROM_UPLINK, origin)),
        Err(Verdict::Refuse(_)) => answer_neighbour(frame, env, false),
        Err(verdict) => {
            let is_v6 = network(frame, link).is_some_and(|network| network.is_v6);
            env.tell(frame, &Work::NONE, (EventHook::FROM_UPLINK, is_v6), verdict);
            verdict
        }
    }
}

/// Whether a packet that came in by an uplink may concern a service that its sender reaches, and who that is; else the
/// verdict on it; what asks for a link address by ARP is to be answered. To a `ClusterIP` the IP header is enough: what else
/// is in the packet, and whether there is such a service, is nothing that is told outside (before B7 and B9). `TURNS`: what may
/// be an answer to a pod of this node is admitted too, where packets go past the stack.
#[inline(always)]
#[expect(
    clippy::missing_errors_doc,
    reason = "the error is the verdict, as above"
)]
pub fn admit<const TURNS: bool, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    link: Link,
) -> Result<(Network, Origin), Verdict> {
    let Some(found) = network(frame, link) else {
        return Err(match link {
            Link::Ethernet if is_arp(frame) => Verdict::Refuse(Outcome::Announced),
            _ => Verdict::Pass(Outcome::NotOurs),
        });
    };
    frame.enter(found.offset);
    let origin = if found.is_v6 {
        admit_of::<TURNS, V6, F, E>(frame, env)?
    } else {
        admit_of::<TURNS, V4, F, E>(frame, env)?
    };
    Ok((found, origin))
}

#[inline(always)]
fn admit_of<const TURNS: bool, A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
) -> Result<Origin, Verdict> {
    reach::<A, F>(frame);
    let ip = frame
        .at::<A::Header>(frame.network())
        .ok_or(Verdict::Pass(Outcome::Truncated))?;
    let is_cluster = A::is_for_service(ip, env.settings());
    let mut is_called = is_cluster;
    if !is_cluster {
        let concern = concern::<A, F, E>(frame, env, ip);
        // An error about a flow comes from anywhere on its way.
        if concern == Concern::Nobody
            && A::quoted(ip).0 != A::ICMP
            && !(TURNS && may_turn::<A, F, E>(frame, env, ip))
        {
            return Err(Verdict::Pass(Outcome::NotOurs));
        }
        is_called = concern == Concern::Frontend;
    }
    // It would be mistaken for a pod of IPv4 (D12).
    if A::has_mapped_address(ip) {
        return Err(if is_cluster {
            Verdict::Drop(Outcome::MappedAddress)
        } else {
            Verdict::Pass(Outcome::NotOurs)
        });
    }
    match env.inside(A::source(ip)) {
        // Elsewhere there are networks that lead what a node's pods say to each other out of it and in again.
        Inside::OWN if is_called => Err(Verdict::Drop(Outcome::Spoofed)),
        Inside::NONE if is_cluster && env.settings().expose_cluster_ips == 0 => {
            Err(Verdict::Drop(Outcome::FromOutside))
        }
        // A driver would send them on; the stack drops them, but would have a flow each.
        Inside::NONE if is_called && A::is_martian(A::source(ip)) => {
            Err(Verdict::Drop(Outcome::Spoofed))
        }
        Inside::NONE => Ok(Origin::Outside),
        _ => Ok(Origin::Inside),
    }
}

/// What a packet past the service range may concern.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// Nothing here.
    Nobody,
    /// A service that is called by an address towards the outside.
    Frontend,
    /// A backend by its own address, a pod that answers itself, or a client that the node stands for.
    Beside,
}

/// By bits alone: nearly every packet concerns nobody, and that is all it costs.
#[inline(always)]
pub(super) fn concern<A: Family, F: Frame, E: Env>(frame: &F, env: &E, ip: &A::Header) -> Concern {
    let (source, destination) = (A::source(ip), A::destination(ip));
    let (_, header) = A::quoted(ip);
    // Of a packet whose ports are not in reach, its address alone says whether a closer look is worth it.
    let hides_ports = A::hides_ports(ip);
    let ports = match frame.at::<Ports>(frame.network() + header) {
        Some(ports) if !hides_ports => *ports,
        _ if hides_ports => ports_behind_note::<A, F, E>(frame, env),
        _ => Ports::NONE,
    };
    if env.is_frontend(destination, ports.destination) {
        return Concern::Frontend;
    }
    if A::is_hairpin(ip, env.settings()) || env.is_endpoint(destination, ports.destination) {
        return Concern::Beside;
    }
    let is_node = env.node_address(A::IS_V6).is(destination);
    if is_node && (hides_ports || env.is_endpoint(source, ports.source)) {
        return Concern::Beside;
    }
    Concern::Nobody
}
