//! The story of a packet.
//!
//! `from_pod` sees what a pod sends: a request to a service address gets a backend. `to_pod` sees what a pod
//! receives: a reply of such a flow gets its service address back. `from_uplink` sees what comes from other machines,
//! and of what leaves to them the node hides the clients that it stands for
//! (docs/packet-walk.md, docs/adr/0001-where-replies-turn.md).

mod checksum;
mod decide;
mod direct_return;
pub mod driver;
mod env;
pub mod event;
mod exit;
mod family;
mod flow;
mod fragment;
mod frame;
mod icmp;
mod leave;
mod link;
mod masquerade;
mod neighbour;
mod open;
mod parse;
mod reject;
mod sctp;
mod select;
pub mod socket;
mod translate;
mod uplink;
mod verdict;
mod way;

pub use checksum::Sum;
pub use direct_return::{forward, forwarded, may_be_forwarded, may_forward, returned};
pub use driver::{Delivery, at_driver};
pub use env::{Env, FlowEntry, FlowError, Table};
pub use exit::{Beyond, Exit, Found, Macs, Route, WAYS, Way};
pub use flow::{idle, is_idle_for, twin};
pub use frame::{ChecksumFix, Frame, SliceFrame, Wire};
pub use icmp::{icmp_from_pod, icmp_to_pod, is_icmp};
pub use leave::{Ask, ask, depart, exit, learn, stamp, turn};
pub use link::{Link, Network, network};
pub use masquerade::PORT_TRIES;
pub use neighbour::{
    Arp, Discovery, Mac, answer_neighbour, claim, is_solicitation, solicited_node,
};
pub use parse::{Ethernet, Ports, TcpFlags};
pub use sctp::advance as advance_crc;
pub use translate::{Translation, translate};
pub use uplink::{Origin, admit, from_uplink};
pub use verdict::Verdict;
pub use way::{
    Next, Work, beside, choose, flow_from_pod, flow_to_pod, mend, node_port, note, open, port,
    reject,
};

use crate::abi::{Direction, EventHook, Outcome};

/// What a pod sends, seen where it comes out of the pod.
#[inline(always)]
pub fn from_pod<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    match network(frame, link) {
        Some(network) => request(frame, env, network, (EventHook::FROM_POD, Origin::Pod)),
        None => Verdict::Pass(Outcome::NotOurs),
    }
}

/// What a client sends, wherever it was seen.
#[inline(always)]
fn request<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    Network { offset, is_v6 }: Network,
    (hook, origin): (EventHook, Origin),
) -> Verdict {
    frame.enter(offset);
    let mut work = Work::NONE;
    let verdict = if is_icmp(frame, is_v6) {
        if origin != Origin::Pod && is_solicitation(frame, is_v6) {
            return answer_neighbour(frame, env, is_v6);
        }
        icmp_from_pod(frame, env, is_v6)
    } else {
        flow_of(frame, env, (is_v6, origin), &mut work)
    };
    env.tell(frame, &work, (hook, is_v6), verdict);
    verdict
}

#[inline(always)]
fn flow_of<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    seen: (bool, Origin),
    work: &mut Work,
) -> Verdict {
    let next = match flow_from_pod(frame, env, seen, work) {
        Next::Choose { replaces } => begin(frame, env, work, replaces),
        Next::Turn => match turn_back(frame, env, seen.0, work) {
            Next::Beside => return go_beside(frame, env, seen, work),
            Next::Translate => return depart(frame, env, work, Exit::Peer).0,
            next => next,
        },
        Next::Beside => return go_beside(frame, env, seen, work),
        Next::Note => note(env, work),
        next => next,
    };
    match next {
        Next::Verdict(Verdict::Refuse(outcome)) => {
            env.keep(frame);
            reject(frame, env, work, outcome)
        }
        // The node stands for clients from outside at the device that a packet leaves by: behind the stack (E2).
        Next::Translate if env.settings().is_past_stack() && seen.1 == Origin::Pod => {
            let exit = match exit(frame, env, work, Direction::REQUEST) {
                Exit::Unknown => look_up(frame, env, work, Direction::REQUEST),
                exit => exit,
            };
            depart(frame, env, work, exit).0
        }
        Next::Translate if may_forward(env, seen.1) => forward(frame, env, work),
        next => carry_out(frame, env, next, work),
    }
}

#[inline(always)]
fn go_beside<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    seen: (bool, Origin),
    work: &mut Work,
) -> Verdict {
    if may_be_forwarded(env, seen.1) {
        match forwarded(frame, env, seen.0, work) {
            Next::Beside => {}
            next => return carry_out(frame, env, next, work),
        }
    }
    let next = beside(frame, env, seen, work);
    carry_out(frame, env, next, work)
}

#[inline(always)]
fn turn_back<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool, work: &mut Work) -> Next {
    match turn(frame, env, is_v6, work) {
        Next::LookUp => {
            look_up(frame, env, work, Direction::REPLY);
            turn(frame, env, is_v6, work)
        }
        next => next,
    }
}

/// The way of a packet, anew.
#[inline(always)]
fn look_up<F: Frame, E: Env>(frame: &F, env: &E, work: &mut Work, side: Direction) -> Exit {
    let ask = ask(env, work, side);
    learn(env, &ask, &env.route(&ask));
    exit(frame, env, work, side)
}

#[inline(always)]
fn begin<F: Frame, E: Env>(frame: &F, env: &E, work: &mut Work, replaces: bool) -> Next {
    let backend = match choose(env, work) {
        Next::Backend(backend) => backend,
        next => return next,
    };
    let port = match port(env, work, backend) {
        Next::Port(port) => port,
        next => return next,
    };
    for attempt in 0..PORT_TRIES {
        match node_port(frame, env, work, (backend, port), attempt) {
            Next::NodePort(node) => {
                match open(frame, env, work, replaces, (backend, (port, node))) {
                    Next::Taken => {}
                    next => return next,
                }
            }
            Next::Taken => {}
            next => return next,
        }
    }
    Next::Verdict(Verdict::Drop(Outcome::PortsExhausted))
}

/// What a pod is about to receive, seen just before it goes in.
#[inline(always)]
pub fn to_pod<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    let Some(Network { offset, is_v6 }) = network(frame, link) else {
        return Verdict::Pass(Outcome::NotOurs);
    };
    frame.enter(offset);
    let mut work = Work::NONE;
    let verdict = if is_icmp(frame, is_v6) {
        icmp_to_pod(frame, env, is_v6)
    } else {
        let next = match flow_to_pod(frame, env, is_v6, &mut work) {
            Next::Mend => match returned(env, frame.network(), &mut work) {
                Next::Mend => mend(env, frame.network(), &mut work),
                next => next,
            },
            next => next,
        };
        carry_out(frame, env, next, &work)
    };
    env.tell(frame, &work, (EventHook::TO_POD, is_v6), verdict);
    verdict
}

#[inline(always)]
fn carry_out<F: Frame, E: Env>(frame: &mut F, env: &E, next: Next, work: &Work) -> Verdict {
    let next = match next {
        Next::Note => note(env, work),
        next => next,
    };
    match next {
        Next::Translate => translate(frame, &work.translation),
        Next::Verdict(verdict) => verdict,
        Next::Choose { .. }
        | Next::Note
        | Next::Backend(_)
        | Next::Port(_)
        | Next::NodePort(_)
        | Next::Taken
        | Next::Beside
        | Next::Turn
        | Next::LookUp
        | Next::Mend => Verdict::Pass(Outcome::NotOurs),
    }
}
