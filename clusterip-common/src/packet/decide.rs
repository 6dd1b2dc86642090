//! What is to become of a packet: a function of values, the same text for both families and every hook.

use super::{
    env::{Env, FlowEntry as _, Table},
    flow::{self, Standing},
    parse::{Packet, TcpFlags},
    select,
};
use crate::{
    abi::{Direction, Flow, FlowState, Outcome, ServiceKey},
    wire::{Addr, Be16},
};

/// What is to become of a packet.
pub(super) enum Decision {
    /// One side gets this address and port, and the client's side this port.
    Translate {
        address: Addr,
        port: Be16,
        client_port: Be16,
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
        let Flow {
            address,
            port,
            client_port,
            ..
        } = *flow;
        Self::Translate {
            address,
            port,
            client_port,
            outcome,
        }
    }

    /// Of a packet for which there is no backend.
    #[inline(always)]
    const fn refuse(outcome: Outcome) -> Self {
        match outcome {
            Outcome::NoEndpoint | Outcome::NoService => Self::Reject(outcome),
            _ => Self::Drop(outcome),
        }
    }
}

/// A packet to an address of the service range.
#[inline(always)]
pub(super) fn request<E: Env>(env: &E, packet: &Packet, bytes: impl Fn() -> usize) -> Decision {
    let mut replaces = false;
    if let Some((table, entry)) = flow::find(env, &packet.key) {
        let flow = entry.get();
        match flow::standing(env, &flow, packet) {
            Standing::Keep(backend) => {
                if table == Table::HalfOpen && completes_handshake(&flow, packet) {
                    if let Err(outcome) = flow::promote(env, packet, &flow) {
                        return Decision::Drop(outcome);
                    }
                } else {
                    flow::note(env, table, &entry, &flow, packet);
                }
                env.count_request(backend.service, flow.backend, bytes());
                return Decision::translate(&flow, Outcome::Request);
            }
            Standing::Anew => {
                flow::leave(env, table, packet, &flow);
                replaces = true;
            }
            Standing::Dead => return flowless(env, packet),
        }
    } else if !packet.opens() {
        return flowless(env, packet);
    }
    let choice = match select::choose(env, &packet.key) {
        Ok(choice) => choice,
        Err(outcome) => return Decision::refuse(outcome),
    };
    match flow::open(env, packet, replaces, &choice) {
        Ok(flow) => {
            env.count_request(choice.backend.service, flow.backend, bytes());
            Decision::translate(&flow, Outcome::NewFlow)
        }
        Err(outcome) => Decision::Drop(outcome),
    }
}

/// Whether a TCP client shows that it has heard the other side: no flood of SYNs does.
#[inline(always)]
fn completes_handshake(flow: &Flow, packet: &Packet) -> bool {
    packet.is_tcp()
        && flow.state == FlowState::OPENING
        && !packet
            .flags
            .any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
}

/// TCP that is not a SYN and belongs to no flow: never balanced (C2).
#[inline(always)]
fn flowless<E: Env>(env: &E, packet: &Packet) -> Decision {
    let key = &packet.key;
    let vip = ServiceKey::new(key.destination, key.destination_port, key.protocol);
    match env.service(&vip) {
        Some(_) => Decision::Reject(Outcome::NoFlow),
        None => Decision::refuse(select::absent(env, key.destination)),
    }
}

/// A packet to a pod.
#[inline(always)]
pub(super) fn reply<E: Env>(env: &E, packet: &Packet, bytes: impl Fn() -> usize) -> Decision {
    let Some((table, entry)) = flow::find(env, &packet.key) else {
        return Decision::Pass;
    };
    let flow = entry.get();
    if flow.direction != Direction::REPLY {
        return Decision::Pass;
    }
    let Some(backend) = flow::backend(env, &flow) else {
        return Decision::Drop(Outcome::StaleReply);
    };
    // An answer over UDP is all there is of a handshake.
    if table == Table::HalfOpen && !packet.is_tcp() {
        if let Err(outcome) = flow::promote(env, packet, &flow) {
            return Decision::Drop(outcome);
        }
    } else {
        flow::note(env, table, &entry, &flow, packet);
    }
    env.count_reply(backend.service, flow.backend, bytes());
    Decision::translate(&flow, Outcome::Reply)
}
