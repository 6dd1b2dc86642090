//! The story of a packet.
//!
//! `from_pod` sees what a pod sends: a request to a service address gets a backend. `to_pod` sees what a pod
//! receives: a reply of such a flow gets its service address back (docs/packet-walk.md, docs/adr/0001-where-replies-turn.md).

mod checksum;
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

use crate::abi::{Direction, Outcome, ServiceKey};
use family::{Family, V4, V6};
use flow::Standing;
use parse::Packet;

/// What a pod sends, seen where it comes out of the pod.
#[inline(always)]
pub fn from_pod<F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    match parse::ether_type(frame) {
        Some(V4::ETHER_TYPE) => request::<V4, F, E>(frame, env),
        Some(V6::ETHER_TYPE) => request::<V6, F, E>(frame, env),
        _ => Verdict::Pass(Outcome::NotOurs),
    }
}

/// What a pod is about to receive, seen just before it goes in.
#[inline(always)]
pub fn to_pod<F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    match parse::ether_type(frame) {
        Some(V4::ETHER_TYPE) => reply::<V4, F, E>(frame, env),
        Some(V6::ETHER_TYPE) => reply::<V6, F, E>(frame, env),
        _ => Verdict::Pass(Outcome::NotOurs),
    }
}

#[inline(always)]
fn request<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    frame.pull(A::HEADERS);
    let Some(ip) = frame.at::<A::Header>(L3) else {
        return Verdict::Pass(Outcome::Truncated);
    };
    if A::has_mapped_address(ip) {
        return Verdict::Drop(Outcome::MappedAddress);
    }
    if !A::is_for_service(ip, env.settings()) {
        return Verdict::Pass(Outcome::NotOurs);
    }
    let packet = match parse::packet::<A, F>(frame) {
        Ok(packet) => packet,
        // Nothing but TCP and UDP is balanced yet; the rest takes its way untranslated.
        Err(Outcome::NotOurs) => return Verdict::Pass(Outcome::NotOurs),
        Err(outcome) => return Verdict::Drop(outcome),
    };
    let key = &packet.key;
    let vip = ServiceKey::new(key.destination, key.destination_port, key.protocol);

    let old = match env.flow(key) {
        Some(entry) => {
            let flow = entry.get();
            match flow::standing(env, &flow, &packet) {
                Standing::Keep(backend) => {
                    entry.seen(env.now(), flow::next_state(flow.state, &packet));
                    let to = (flow.address, flow.port);
                    if !translate::rewrite::<A, F>(frame, &packet, Direction::REQUEST, to) {
                        return Verdict::Drop(Outcome::Truncated);
                    }
                    env.count_request(backend.service, flow.backend, frame.len());
                    return Verdict::Translated(Outcome::Request);
                }
                Standing::Anew => Some(flow),
                Standing::Dead => return flowless::<A, F, E>(frame, env, &packet, &vip),
            }
        }
        None if packet.opens() => None,
        None => return flowless::<A, F, E>(frame, env, &packet, &vip),
    };

    let choice = match select::choose(env, &vip) {
        Ok(choice) => choice,
        Err(Outcome::NoEndpoint) => {
            return reject::reject::<A, F>(frame, &packet, Outcome::NoEndpoint);
        }
        Err(Outcome::NotOurs) => return Verdict::Pass(Outcome::NotOurs),
        Err(outcome) => return Verdict::Drop(outcome),
    };
    let flow = match flow::open(env, &packet, old.as_ref(), &choice) {
        Ok(flow) => flow,
        Err(outcome) => return Verdict::Drop(outcome),
    };
    let to = (flow.address, flow.port);
    if !translate::rewrite::<A, F>(frame, &packet, Direction::REQUEST, to) {
        return Verdict::Drop(Outcome::Truncated);
    }
    // The loser of a race (C7) belongs to the flow that the winner counted.
    if flow.backend == choice.id {
        env.count_flow(choice.backend.service, choice.id);
    }
    env.count_request(choice.backend.service, flow.backend, frame.len());
    Verdict::Translated(Outcome::NewFlow)
}

/// TCP that is not a SYN and belongs to no flow: never balanced (C2).
#[inline(always)]
fn flowless<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    packet: &Packet,
    vip: &ServiceKey,
) -> Verdict {
    match env.service(vip) {
        Some(_) => reject::reject::<A, F>(frame, packet, Outcome::NoFlow),
        None => Verdict::Pass(Outcome::NotOurs),
    }
}

#[inline(always)]
fn reply<A: Family, F: Frame, E: Env>(frame: &mut F, env: &E) -> Verdict {
    frame.pull(A::HEADERS);
    let Some(ip) = frame.at::<A::Header>(L3) else {
        return Verdict::Pass(Outcome::Truncated);
    };
    if A::has_mapped_address(ip) {
        return Verdict::Drop(Outcome::MappedAddress);
    }
    // What cannot be read cannot be a reply of ours; the pod's own stack judges it.
    let Ok(packet) = parse::packet::<A, F>(frame) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    let Some(entry) = env.flow(&packet.key) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    let flow = entry.get();
    if flow.direction != Direction::REPLY {
        return Verdict::Pass(Outcome::NotOurs);
    }
    let Some(backend) = flow::backend(env, &flow) else {
        return Verdict::Drop(Outcome::StaleReply);
    };
    entry.seen(env.now(), flow::next_state(flow.state, &packet));
    if !translate::rewrite::<A, F>(frame, &packet, Direction::REPLY, (flow.address, flow.port)) {
        return Verdict::Drop(Outcome::Truncated);
    }
    env.count_reply(backend.service, flow.backend, frame.len());
    Verdict::Translated(Outcome::Reply)
}
