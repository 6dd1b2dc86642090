//! The story of a packet.
//!
//! `from_pod` sees what a pod sends: a request to a service address gets a backend. `to_pod` sees what a pod
//! receives: a reply of such a flow gets its service address back (docs/packet-walk.md, docs/adr/0001-where-replies-turn.md).

mod checksum;
mod decide;
mod env;
mod family;
mod flow;
mod frame;
mod parse;
mod reject;
mod select;
mod translate;
mod verdict;

pub use checksum::Sum;
pub use env::{Env, FlowEntry, FlowError};
pub use frame::{ChecksumFix, Frame, SliceFrame, Wire};
pub use parse::{Ethernet, L3, Ports, TcpFlags};
pub use verdict::Verdict;

use crate::abi::{Direction, Outcome};
use decide::Decision;
use family::{Family, V4, V6};
use parse::Packet;

/// What a pod sends, seen where it comes out of the pod.
#[inline(always)]
pub fn from_pod<F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    let read = match parse::ether_type(frame) {
        Some(V4::ETHER_TYPE) => read_request::<V4, F, E>(frame, env),
        Some(V6::ETHER_TYPE) => read_request::<V6, F, E>(frame, env),
        _ => return Verdict::Pass(Outcome::NotOurs),
    };
    match read {
        Ok(packet) => carry_out(
            frame,
            &packet,
            &decide::request(env, &packet),
            Direction::REQUEST,
        ),
        Err(verdict) => verdict,
    }
}

/// What a pod is about to receive, seen just before it goes in.
#[inline(always)]
pub fn to_pod<F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    let read = match parse::ether_type(frame) {
        Some(V4::ETHER_TYPE) => read_reply::<V4, F>(frame),
        Some(V6::ETHER_TYPE) => read_reply::<V6, F>(frame),
        _ => return Verdict::Pass(Outcome::NotOurs),
    };
    match read {
        Ok(packet) => carry_out(
            frame,
            &packet,
            &decide::reply(env, &packet),
            Direction::REPLY,
        ),
        Err(verdict) => verdict,
    }
}

/// A packet that may concern a service, or the verdict on one that does not or cannot be read.
#[inline(always)]
fn read_request<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Result<Packet, Verdict> {
    let ip = header::<A, F>(frame)?;
    if !A::is_for_service(ip, env.settings()) {
        return Err(Verdict::Pass(Outcome::NotOurs));
    }
    parse::packet::<A, F>(frame).map_err(|outcome| match outcome {
        // Nothing but TCP and UDP is balanced yet; the rest takes its way untranslated.
        Outcome::NotOurs => Verdict::Pass(outcome),
        outcome => Verdict::Drop(outcome),
    })
}

/// What cannot be read cannot be a reply of ours: the pod's own stack judges it.
#[inline(always)]
fn read_reply<A: Family, F: Frame>(frame: &mut F) -> Result<Packet, Verdict> {
    header::<A, F>(frame)?;
    parse::packet::<A, F>(frame).map_err(|_outcome| Verdict::Pass(Outcome::NotOurs))
}

#[inline(always)]
fn header<A: Family, F: Frame>(frame: &mut F) -> Result<&A::Header, Verdict> {
    frame.pull(A::HEADERS);
    let ip = frame
        .at::<A::Header>(L3)
        .ok_or(Verdict::Pass(Outcome::Truncated))?;
    if A::has_mapped_address(ip) {
        Err(Verdict::Drop(Outcome::MappedAddress))
    } else {
        Ok(ip)
    }
}

#[inline(always)]
fn carry_out<F: Frame>(
    frame: &mut F,
    packet: &Packet,
    decision: &Decision,
    side: Direction,
) -> Verdict {
    match *decision {
        Decision::Translate {
            address,
            port,
            outcome,
        } => {
            let done = if packet.is_v6 {
                translate::rewrite::<V6, F>(frame, packet, side, address, port)
            } else {
                translate::rewrite::<V4, F>(frame, packet, side, address, port)
            };
            if done {
                Verdict::Translated(outcome)
            } else {
                Verdict::Drop(Outcome::Truncated)
            }
        }
        Decision::Reject(outcome) => {
            if packet.is_v6 {
                reject::reject::<V6, F>(frame, packet, outcome)
            } else {
                reject::reject::<V4, F>(frame, packet, outcome)
            }
        }
        Decision::Pass => Verdict::Pass(Outcome::NotOurs),
        Decision::Drop(outcome) => Verdict::Drop(outcome),
    }
}
