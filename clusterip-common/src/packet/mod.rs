//! The story of a packet.
//!
//! `from_pod` sees what a pod sends: a request to a service address gets a backend. `to_pod` sees what a pod
//! receives: a reply of such a flow gets its service address back. `from_uplink` sees what comes from other machines
//! (docs/packet-walk.md, docs/adr/0001-where-replies-turn.md).

mod checksum;
mod decide;
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
pub use env::{Env, FlowEntry, FlowError, Table};
pub use exit::{Beyond, Exit, Found, Macs, Route, WAYS, Way};
pub use flow::{idle, is_idle_for, twin};
pub use frame::{ChecksumFix, Frame, SliceFrame, Wire};
pub use leave::{Ask, ask, depart, exit, learn, stamp, turn};
pub use link::{Link, Network, network};
pub use parse::{Ethernet, Ports, TcpFlags};
pub use sctp::advance as advance_crc;
pub use translate::{Translation, translate};
pub use uplink::{admit, from_uplink};
pub use verdict::Verdict;
pub use way::{
    Next, Work, beside, choose, flow_from_pod, flow_to_pod, icmp_from_pod, icmp_to_pod, is_icmp,
    open, port, reject,
};

use crate::abi::{Direction, EventHook, Outcome};

/// What a pod sends, seen where it comes out of the pod.
#[inline(always)]
pub fn from_pod<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Verdict {
    match network(frame, link) {
        Some(network) => request(frame, env, network, EventHook::FROM_POD),
        None => Verdict::Pass(Outcome::NotOurs),
    }
}

/// What a client sends, wherever it was seen.
#[inline(always)]
fn request<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    Network { offset, is_v6 }: Network,
    hook: EventHook,
) -> Verdict {
    frame.enter(offset);
    let mut work = Work::NONE;
    let verdict = if is_icmp(frame, is_v6) {
        icmp_from_pod(frame, env, is_v6)
    } else {
        flow_of(frame, env, is_v6, &mut work)
    };
    env.tell(frame, &work, (hook, is_v6), verdict);
    verdict
}

#[inline(always)]
fn flow_of<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool, work: &mut Work) -> Verdict {
    let next = match flow_from_pod(frame, env, is_v6, work) {
        Next::Choose { replaces } => begin(frame, env, work, replaces),
        Next::Turn => match turn_back(frame, env, is_v6, work) {
            Next::Beside => return go_beside(frame, env, is_v6, work),
            Next::Translate => return depart(frame, env, work, Direction::REPLY, Exit::Peer).0,
            next => next,
        },
        Next::Beside => return go_beside(frame, env, is_v6, work),
        next => next,
    };
    match next {
        Next::Verdict(Verdict::Refuse(outcome)) => {
            env.keep(frame);
            reject(frame, env, work, outcome)
        }
        Next::Translate if env.settings().is_past_stack() => {
            let exit = match exit(frame, env, work, Direction::REQUEST) {
                Exit::Unknown => look_up(frame, env, work, Direction::REQUEST),
                exit => exit,
            };
            depart(frame, env, work, Direction::REQUEST, exit).0
        }
        next => carry_out(frame, next, work),
    }
}

#[inline(always)]
fn go_beside<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool, work: &mut Work) -> Verdict {
    let next = beside(frame, env, is_v6, work);
    carry_out(frame, next, work)
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
fn look_up<F: Frame, E: Env>(frame: &F, env: &E, work: &Work, side: Direction) -> Exit {
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
    match port(env, work, backend) {
        Next::Port(port) => open(frame, env, work, replaces, (backend, port)),
        next => next,
    }
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
        let next = flow_to_pod(frame, env, is_v6, &mut work);
        carry_out(frame, next, &work)
    };
    env.tell(frame, &work, (EventHook::TO_POD, is_v6), verdict);
    verdict
}

#[inline(always)]
fn carry_out<F: Frame>(frame: &mut F, next: Next, work: &Work) -> Verdict {
    match next {
        Next::Translate => translate(frame, &work.translation),
        Next::Verdict(verdict) => verdict,
        Next::Choose { .. }
        | Next::Backend(_)
        | Next::Port(_)
        | Next::Beside
        | Next::Turn
        | Next::LookUp => Verdict::Pass(Outcome::NotOurs),
    }
}
