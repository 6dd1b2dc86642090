//! ICMP: pings to a service address, and errors about flows (D7).

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    checksum::Sum,
    env::{Env, FlowEntry as _},
    family::{Family, V4, V6},
    flow,
    frame::{ChecksumFix, Frame},
    parse::Ports,
    reject::turn_around,
    select,
    verdict::Verdict,
    way::{header, reach},
};
use crate::{
    abi::{Direction, FlowKey, Outcome, ServiceKey},
    wire::{Addr, Proto},
};

/// Bytes of an ICMP header.
const HEADER: usize = 8;
/// Where its checksum stands.
const CHECKSUM: usize = 2;

/// Whether a frame takes the way of ICMP.
#[inline(always)]
pub fn is_icmp<F: Frame>(frame: &mut F, is_v6: bool) -> bool {
    if is_v6 {
        is_icmp_of::<V6, F>(frame)
    } else {
        is_icmp_of::<V4, F>(frame)
    }
}

#[inline(always)]
fn is_icmp_of<A: Family, F: Frame>(frame: &mut F) -> bool {
    reach::<A, F>(frame) == Some(A::ICMP)
}

/// ICMP from a pod: a ping to a VIP, or an error about a flow.
#[inline(always)]
pub fn icmp_from_pod<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool) -> Verdict {
    if is_v6 {
        icmp_request::<V6, F, E>(frame, env)
    } else {
        icmp_request::<V4, F, E>(frame, env)
    }
}

/// ICMP to a pod: an error about a flow.
#[inline(always)]
pub fn icmp_to_pod<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool) -> Verdict {
    if is_v6 {
        icmp_reply::<V6, F, E>(frame, env)
    } else {
        icmp_reply::<V4, F, E>(frame, env)
    }
}

#[inline(always)]
fn icmp_request<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    let (layout, is_cluster, is_hairpin) = match header::<A, F>(frame) {
        Ok(ip) => (
            A::layout(frame, ip),
            A::is_for_service(ip, env.settings()),
            A::is_hairpin(ip, env.settings()),
        ),
        Err(verdict) => return verdict,
    };
    let pass = Verdict::Pass(Outcome::NotOurs);
    match layout {
        Ok(layout) if is_hairpin => {
            // No node has that address: what is no error about a flow ends here.
            let is_whole = layout.fragment.is_none() && layout.fits(frame);
            is_whole
                .then(|| to_itself::<A, F>(frame, layout.l4))
                .flatten()
                .unwrap_or(Verdict::Drop(Outcome::StaleReply))
        }
        Err(_) if is_hairpin => Verdict::Drop(Outcome::StaleReply),
        Ok(layout) if layout.fragment.is_none() && layout.fits(frame) => {
            to_service::<A, F, E>(frame, env, layout.l4, is_cluster)
        }
        Ok(_) | Err(_) if !is_cluster => pass,
        Ok(layout) if !layout.fits(frame) => Verdict::Drop(Outcome::Malformed),
        Ok(_) => Verdict::Drop(Outcome::Fragment),
        Err(outcome) => Verdict::Drop(outcome),
    }
}

#[inline(always)]
fn icmp_reply<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    let layout = match header::<A, F>(frame) {
        Ok(ip) => A::layout(frame, ip),
        Err(verdict) => return verdict,
    };
    match layout {
        Ok(layout) if layout.fragment.is_none() && layout.fits(frame) => {
            to_pod::<A, F, E>(frame, env, layout.l4)
        }
        Ok(_) | Err(_) => Verdict::Pass(Outcome::NotOurs),
    }
}

/// ICMP to an address of the service range, or to another one, to which errors may come about flows from outside.
#[inline(always)]
fn to_service<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    icmp: usize,
    is_cluster: bool,
) -> Verdict {
    let Some([kind, code]) = frame.at::<[u8; 2]>(icmp).copied() else {
        return Verdict::Drop(Outcome::Truncated);
    };
    let (request, answer) = A::ECHO;
    if kind == request && code == 0 && is_cluster {
        return pong::<A, F, E>(frame, env, icmp, answer);
    }
    let other = if is_cluster {
        Verdict::Drop(Outcome::OtherProtocol)
    } else {
        Verdict::Pass(Outcome::NotOurs)
    };
    if !A::is_error(kind) {
        return other;
    }
    error::<A, F, E>(frame, env, icmp, Direction::REQUEST).unwrap_or(other)
}

/// ICMP to a pod; what is no error about a flow of ours passes.
#[inline(always)]
fn to_pod<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E, icmp: usize) -> Verdict {
    match frame.at::<[u8; 1]>(icmp) {
        Some([kind]) if A::is_error(*kind) => {}
        _ => return Verdict::Pass(Outcome::NotOurs),
    }
    error::<A, F, E>(frame, env, icmp, Direction::REPLY).unwrap_or(Verdict::Pass(Outcome::NotOurs))
}

/// Answers a ping to a live VIP (B10).
#[inline(always)]
fn pong<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E, icmp: usize, kind: u8) -> Verdict {
    let Some(ip) = frame.at_mut::<A::Header>(frame.network()) else {
        return Verdict::Drop(Outcome::Truncated);
    };
    let (client, vip) = (A::source(ip), A::destination(ip));
    if select::absent(env, &ServiceKey::address(vip)) != Outcome::NoService {
        return Verdict::Drop(Outcome::Unallocated);
    }
    if !A::is_host(client) {
        return Verdict::Drop(Outcome::Ping);
    }
    A::swap(ip);
    let Some([field]) = frame.at_mut::<[u8; 1]>(icmp) else {
        return Verdict::Drop(Outcome::Truncated);
    };
    let old = core::mem::replace(field, kind);
    let fix = ChecksumFix {
        addresses: Sum::ZERO,
        ports: Sum::change(&[old, 0], &[kind, 0]),
        zero_is_none: false,
        ipv6: A::IS_V6,
    };
    if turn_around(frame).is_none() || !frame.fix_checksum(icmp + CHECKSUM, fix) {
        return Verdict::Drop(Outcome::ReplyFailed);
    }
    Verdict::Reply(Outcome::Ping)
}

/// Translates an error with the flow it is about. `side` is that of the packet which carries it: an error that a client
/// sends goes to the backend, one about a client's packet tells of the VIP. None: no flow of ours.
#[inline(always)]
fn error<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    icmp: usize,
    side: Direction,
) -> Option<Verdict> {
    let inner = icmp + HEADER;
    frame.pull(inner + A::QUOTED);
    let ip = frame.at::<A::Header>(inner)?;
    let (protocol, header) = A::quoted(ip);
    let (source, destination) = (A::source(ip), A::destination(ip));
    if !matches!(protocol, Proto::TCP | Proto::UDP | Proto::SCTP) || !A::quotes_ports(ip) {
        return None;
    }
    let l4 = inner + header;
    let ports = *frame.at::<Ports>(l4)?;
    // The tuple of a packet that would answer the quoted one.
    let key = FlowKey {
        source: destination,
        destination: source,
        source_port: ports.destination,
        destination_port: ports.source,
        protocol,
        zero: 0,
        zero_tail: 0,
    };
    let (_, entry) = flow::find(env, &key)?;
    let flow = entry.get();
    // What goes to a backend by its own address is told of as it is.
    let is_direct = side == Direction::REQUEST && flow.direction.is_direct();
    if flow.direction.is_request() != side.is_request() || is_direct {
        return None;
    }
    if !flow::is_standing(env, &flow) {
        return Some(Verdict::Drop(Outcome::StaleReply));
    }
    // The quoted packet went the other way: what is the destination now was its source.
    let (quoted, new) = if side == Direction::REQUEST {
        (
            Direction::REPLY,
            Ports {
                source: flow.port,
                destination: flow.client_port,
            },
        )
    } else {
        (
            Direction::REQUEST,
            Ports {
                source: flow.client_port,
                destination: flow.port,
            },
        )
    };
    let payload = requote::<A, F>(frame, (inner, l4), quoted, flow.address, new)?;
    let outer = redirect::<A, F>(frame, side, key.source, flow.address)?;
    Some(settle::<A, F>(frame, icmp, outer, payload))
}

/// Writes an address and ports into the quoted packet that begins at `inner`, its L4 at `l4`: the change of the payload.
#[inline(always)]
fn requote<A: Family, F: Frame>(
    frame: &mut F,
    (inner, l4): (usize, usize),
    side: Direction,
    address: Addr,
    new: Ports,
) -> Option<Sum> {
    let (protocol, _) = A::quoted(frame.at::<A::Header>(inner)?);
    let mut payload = Sum::ZERO;
    let addresses = A::set_address(frame.at_mut::<A::Header>(inner)?, side, address);
    if A::IS_V6 {
        // IPv4's own checksum makes up for the change within the header.
        payload = payload.and(addresses);
    }
    let old = core::mem::replace(frame.at_mut::<Ports>(l4)?, new);
    let changed = Sum::ZERO
        .minus(&old.source.0)
        .minus(&old.destination.0)
        .plus(&new.source.0)
        .plus(&new.destination.0);
    payload = payload.and(changed);
    let field = if protocol == Proto::TCP {
        offset_of!(TcpHdr, check)
    } else {
        offset_of!(UdpHdr, check)
    };
    // Of TCP the quotation may end before it. SCTP's covers what is not quoted: nobody can check it.
    if protocol != Proto::SCTP
        && let Some(checksum) = frame.at_mut::<[u8; 2]>(l4 + field)
        && (protocol == Proto::TCP || *checksum != [0; 2])
    {
        let mut fixed = addresses.and(changed).fix(*checksum);
        if protocol == Proto::UDP && fixed == [0; 2] {
            fixed = [0xff; 2]; // D1
        }
        payload = payload.and(Sum::change(&*checksum, &fixed));
        *checksum = fixed;
    }
    Some(payload)
}

/// The checksum of an error whose addresses and payload have changed.
#[inline(always)]
fn settle<A: Family, F: Frame>(frame: &mut F, icmp: usize, outer: Sum, payload: Sum) -> Verdict {
    let fix = ChecksumFix {
        addresses: if A::IS_V6 { outer } else { Sum::ZERO },
        ports: payload,
        zero_is_none: false,
        ipv6: A::IS_V6,
    };
    if frame.fix_checksum(icmp + CHECKSUM, fix) {
        Verdict::Translated(Outcome::IcmpError)
    } else {
        Verdict::Drop(Outcome::Truncated)
    }
}

/// An error that a pod sends to the address which hides it from itself: its own request through a service failed (D13). It goes
/// back to the pod under the pod's address, and is translated there like any other.
#[inline(always)]
fn to_itself<A: Family, F: Frame>(frame: &mut F, icmp: usize) -> Option<Verdict> {
    let [kind] = *frame.at::<[u8; 1]>(icmp)?;
    if !A::is_error(kind) {
        return None;
    }
    let inner = icmp + HEADER;
    frame.pull(inner + A::QUOTED);
    let outer = frame.at::<A::Header>(frame.network())?;
    let (pod, hidden) = (A::source(outer), A::destination(outer));
    let ip = frame.at::<A::Header>(inner)?;
    let (protocol, header) = A::quoted(ip);
    let is_own = A::source(ip).is(hidden) && A::destination(ip).is(pod);
    if !is_own || !matches!(protocol, Proto::TCP | Proto::UDP | Proto::SCTP) || !A::quotes_ports(ip)
    {
        return None;
    }
    let l4 = inner + header;
    let ports = *frame.at::<Ports>(l4)?;
    let payload = requote::<A, F>(frame, (inner, l4), Direction::REPLY, pod, ports)?;
    let ip = frame.at_mut::<A::Header>(frame.network())?;
    let outer = A::set_address(ip, Direction::REQUEST, pod);
    Some(settle::<A, F>(frame, icmp, outer, payload))
}

/// The outer header: an error to the VIP goes to the backend; one that the backend itself sends comes from the VIP, one of
/// a router on the way keeps its sender.
#[inline(always)]
fn redirect<A: Family, F: Frame>(
    frame: &mut F,
    side: Direction,
    backend: Addr,
    address: Addr,
) -> Option<Sum> {
    let ip = frame.at_mut::<A::Header>(frame.network())?;
    if side == Direction::REPLY && A::source(ip) != backend {
        return Some(Sum::ZERO);
    }
    Some(A::set_address(ip, side, address))
}
