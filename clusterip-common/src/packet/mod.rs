//! The story of a packet.
//!
//! `from_pod` sees what a pod sends: a request to a service address gets a backend. `to_pod` sees what a pod
//! receives: a reply of such a flow gets its service address back. `from_uplink` sees what comes from other machines
//! (docs/packet-walk.md, docs/adr/0001-where-replies-turn.md).

mod checksum;
mod decide;
mod env;
mod family;
mod flow;
mod fragment;
mod frame;
mod icmp;
mod link;
mod open;
mod parse;
mod reject;
mod sctp;
mod select;
pub mod socket;
mod translate;
mod uplink;
mod verdict;

pub use checksum::Sum;
pub use env::{Env, FlowEntry, FlowError, Table};
pub use frame::{ChecksumFix, Frame, SliceFrame, Wire};
pub use link::{Link, Network, network};
pub use parse::{Ethernet, Ports, TcpFlags};
pub use sctp::advance as advance_crc;
pub use uplink::{admit, from_uplink};
pub use verdict::Verdict;

use crate::abi::{Direction, FlowKey, Outcome};
use decide::{Action, Decision};
use family::{Family, V4, V6};
use parse::{Packet, Read};

/// What a pod sends, seen where it comes out of the pod.
#[inline(always)]
pub fn from_pod<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    match network(frame, link) {
        Some(network) => request(frame, env, network),
        None => Verdict::Pass(Outcome::NotOurs),
    }
}

/// What a client sends, wherever it was seen.
#[inline(always)]
fn request<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    Network { offset, is_v6 }: Network,
) -> Verdict {
    frame.enter(offset);
    if is_icmp(frame, is_v6) {
        return icmp_from_pod(frame, env, is_v6);
    }
    match flow_from_pod(frame, env, is_v6) {
        Verdict::Refuse(outcome) => reject(frame, env, outcome, is_v6),
        verdict => verdict,
    }
}

/// What a pod is about to receive, seen just before it goes in.
#[inline(always)]
pub fn to_pod<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    let Some(Network { offset, is_v6 }) = network(frame, link) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    frame.enter(offset);
    if is_icmp(frame, is_v6) {
        icmp_to_pod(frame, env, is_v6)
    } else {
        flow_to_pod(frame, env, is_v6)
    }
}

/// Whether a frame takes the way of ICMP. This way, that of flows and that of answers are functions of their own, because
/// together they need more than the 512 bytes of stack that a program has. Each wants a frame that was entered.
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
    let network = frame.network();
    frame.pull(network + A::HEADERS);
    frame
        .at::<A::Header>(network)
        .is_some_and(|ip| A::quoted(ip).0 == A::ICMP)
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
    match header::<A, F>(frame) {
        Ok(ip) if A::is_for_service(ip, env.settings()) => {}
        Ok(_) => return Verdict::Pass(Outcome::NotOurs),
        Err(verdict) => return verdict,
    }
    match A::layout(frame) {
        Ok(layout) if layout.fragment.is_none() => {
            icmp::to_service::<A, F, E>(frame, env, layout.l4)
        }
        Ok(_) => Verdict::Drop(Outcome::Fragment),
        Err(outcome) => Verdict::Drop(outcome),
    }
}

#[inline(always)]
fn icmp_reply<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    if let Err(verdict) = header::<A, F>(frame) {
        return verdict;
    }
    match A::layout(frame) {
        Ok(layout) if layout.fragment.is_none() => icmp::to_pod::<A, F, E>(frame, env, layout.l4),
        Ok(_) | Err(_) => Verdict::Pass(Outcome::NotOurs),
    }
}

/// What a pod sends that is no ICMP. `Refuse`: call [`reject`].
#[inline(always)]
pub fn flow_from_pod<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool) -> Verdict {
    let read = if is_v6 {
        read_request::<V6, F, E>(frame, env)
    } else {
        read_request::<V4, F, E>(frame, env)
    };
    match read {
        Ok((packet, target)) => {
            let decision = match target {
                Target::Service => decide::request(env, &packet, || frame.len()),
                Target::Itself => decide::back_to_itself(env, &packet),
                Target::Endpoint => decide::direct(env, &packet),
            };
            carry_out(frame, &packet, &decision, Direction::REQUEST)
        }
        Err(verdict) => verdict,
    }
}

/// Answers what was refused.
#[inline(always)]
pub fn reject<F: Frame, E: Env>(frame: &mut F, env: &E, outcome: Outcome, is_v6: bool) -> Verdict {
    if is_v6 {
        reject::reject::<V6, F, E>(frame, env, outcome)
    } else {
        reject::reject::<V4, F, E>(frame, env, outcome)
    }
}

/// What a pod is about to receive that is no ICMP.
#[inline(always)]
pub fn flow_to_pod<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool) -> Verdict {
    let read = if is_v6 {
        read_reply::<V6, F, E>(frame, env)
    } else {
        read_reply::<V4, F, E>(frame, env)
    };
    match read {
        Ok(packet) => carry_out(
            frame,
            &packet,
            &decide::reply(env, &packet, || frame.len()),
            Direction::REPLY,
        ),
        Err(verdict) => verdict,
    }
}

/// Whom a packet from a pod concerns.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The service range.
    Service,
    /// The address that hides a pod from itself (D13).
    Itself,
    /// Perhaps a backend, by its own address (C12).
    Endpoint,
}

/// A packet that may concern us, or the verdict on one that does not, is no flow, or cannot be read.
#[inline(always)]
fn read_request<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
) -> Result<(Packet, Target), Verdict> {
    let pass = Verdict::Pass(Outcome::NotOurs);
    let ip = header::<A, F>(frame)?;
    let target = if A::is_for_service(ip, env.settings()) {
        Target::Service
    } else if A::is_hairpin(ip, env.settings()) {
        Target::Itself
    } else {
        // Most packets from a pod end here: no backend has the address and port they go to.
        let (address, (_, header)) = (A::destination(ip), A::quoted(ip));
        match frame.at::<Ports>(frame.network() + header) {
            Some(ports) if env.is_endpoint(address, ports.destination) => Target::Endpoint,
            _ => return Err(pass),
        }
    };
    let is_service = target == Target::Service;
    match parse::read::<A, F>(frame) {
        Ok(Read::Flow(mut packet, id)) => {
            if fragment::complete(env, &mut packet, id) {
                Ok((packet, target))
            } else if is_service {
                Err(Verdict::Drop(Outcome::Fragment))
            } else {
                Err(pass)
            }
        }
        Ok(Read::Other) if is_service => Err(Verdict::Drop(Outcome::OtherProtocol)),
        Err(outcome) if is_service => Err(Verdict::Drop(outcome)),
        Ok(Read::Other) | Err(_) => Err(pass),
    }
}

/// What cannot be read cannot be a reply of ours: the pod's own stack judges it.
#[inline(always)]
fn read_reply<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Result<Packet, Verdict> {
    let pass = Verdict::Pass(Outcome::NotOurs);
    header::<A, F>(frame)?;
    match parse::read::<A, F>(frame) {
        Ok(Read::Flow(mut packet, id)) => {
            // Most packets to a pod end here: no backend has the address and port they come from.
            let FlowKey {
                source,
                source_port,
                destination,
                ..
            } = packet.key;
            if !packet.is_later_fragment
                && source != destination
                && !env.is_endpoint(source, source_port)
            {
                return Err(pass);
            }
            if fragment::complete(env, &mut packet, id) {
                Ok(packet)
            } else {
                Err(pass)
            }
        }
        Ok(Read::Other) | Err(_) => Err(pass),
    }
}

/// Bytes that are pulled where a header has extensions.
const EXTENDED: usize = 512;

#[inline(always)]
fn header<A: Family, F: Frame>(frame: &mut F) -> Result<&A::Header, Verdict> {
    let truncated = Verdict::Pass(Outcome::Truncated);
    let network = frame.network();
    frame.pull(network + A::HEADERS);
    let ip = frame.at::<A::Header>(network).ok_or(truncated)?;
    if A::has_mapped_address(ip) {
        return Err(Verdict::Drop(Outcome::MappedAddress));
    }
    if A::has_extensions(ip) {
        frame.pull(EXTENDED);
    }
    frame.at::<A::Header>(network).ok_or(truncated)
}

#[inline(always)]
fn carry_out<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    decision: &Decision,
    side: Direction,
) -> Verdict {
    let Decision {
        action,
        outcome,
        address,
        port,
        client_port,
    } = *decision;
    match action {
        Action::Translate => {
            let done = if packet.is_v6 {
                translate::rewrite::<V6, F>(frame, packet, side, address, (port, client_port))
            } else {
                translate::rewrite::<V4, F>(frame, packet, side, address, (port, client_port))
            };
            match done {
                Ok(()) => Verdict::Translated(outcome),
                Err(outcome) => Verdict::Drop(outcome),
            }
        }
        Action::Reject => Verdict::Refuse(outcome),
        Action::Pass => Verdict::Pass(outcome),
        Action::Drop => Verdict::Drop(outcome),
    }
}
