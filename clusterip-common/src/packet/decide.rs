//! What is to become of a packet: a function of values, the same text for both families and every hook.

use super::{
    env::{Env, FlowEntry},
    flow::{self, Standing},
    parse::Packet,
    select,
};
use crate::{
    abi::{Direction, Flow, Outcome, ServiceKey},
    wire::{Addr, Be16},
};

/// What is to become of a packet.
pub(super) enum Decision {
    /// One side gets this address and port.
    Translate {
        address: Addr,
        port: Be16,
        outcome: Outcome,
    },
    /// The sender is told that there is nothing.
    Reject(Outcome),
    /// Not ours.
    Pass,
    /// Ends here.
    Drop(Outcome),
}

impl Decision {
    #[inline(always)]
    const fn translate(flow: &Flow, outcome: Outcome) -> Self {
        Self::Translate {
            address: flow.address,
            port: flow.port,
            outcome,
        }
    }
}

/// A packet to an address of the service range.
#[inline(always)]
pub(super) fn request<E: Env>(env: &E, packet: &Packet) -> Decision {
    let key = &packet.key;
    let vip = ServiceKey::new(key.destination, key.destination_port, key.protocol);
    let mut old = None;
    if let Some(entry) = env.flow(key) {
        let flow = entry.get();
        match flow::standing(env, &flow, packet) {
            Standing::Keep(backend) => {
                flow::note(env, &entry, &flow, packet);
                env.count_request(backend.service, flow.backend, packet.bytes);
                return Decision::translate(&flow, Outcome::Request);
            }
            Standing::Anew => old = Some((flow.direction, flow.address, flow.port)),
            Standing::Dead => return flowless(env, &vip),
        }
    } else if !packet.opens() {
        return flowless(env, &vip);
    }
    let choice = match select::choose(env, &vip) {
        Ok(choice) => choice,
        Err(Outcome::NotOurs) => return Decision::Pass,
        Err(Outcome::NoEndpoint) => return Decision::Reject(Outcome::NoEndpoint),
        Err(outcome) => return Decision::Drop(outcome),
    };
    if let Some((Direction::REQUEST, address, port)) = old {
        env.remove_flow(&flow::reply_key(packet, address, port));
    }
    match flow::open(env, packet, old.is_some(), &choice) {
        Ok(flow) => {
            // The loser of a race (C7) belongs to the flow that the winner counted.
            if flow.backend == choice.id {
                env.count_flow(choice.backend.service, choice.id);
            }
            env.count_request(choice.backend.service, flow.backend, packet.bytes);
            Decision::translate(&flow, Outcome::NewFlow)
        }
        Err(outcome) => Decision::Drop(outcome),
    }
}

/// TCP that is not a SYN and belongs to no flow: never balanced (C2).
#[inline(always)]
fn flowless<E: Env>(env: &E, vip: &ServiceKey) -> Decision {
    match env.service(vip) {
        Some(_) => Decision::Reject(Outcome::NoFlow),
        None => Decision::Pass,
    }
}

/// A packet to a pod.
#[inline(always)]
pub(super) fn reply<E: Env>(env: &E, packet: &Packet) -> Decision {
    let Some(entry) = env.flow(&packet.key) else {
        return Decision::Pass;
    };
    let flow = entry.get();
    if flow.direction != Direction::REPLY {
        return Decision::Pass;
    }
    let Some(backend) = flow::backend(env, &flow) else {
        return Decision::Drop(Outcome::StaleReply);
    };
    flow::note(env, &entry, &flow, packet);
    env.count_reply(backend.service, flow.backend, packet.bytes);
    Decision::translate(&flow, Outcome::Reply)
}
