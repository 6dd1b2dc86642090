//! Flows: whether an entry still stands, and how one is made.

use super::{
    env::{Env, FlowEntry, FlowError},
    parse::{Packet, TcpFlags},
    select::Choice,
};
use crate::{
    abi::{Backend, BackendState, Direction, Flow, FlowKey, FlowState, Outcome},
    wire::{Addr, Be16},
};

/// What an entry is worth to a packet.
pub(super) enum Standing {
    /// It translates the packet.
    Keep(Backend),
    /// The packet chooses a backend anew, in its place.
    Anew,
    /// It is as if there were none.
    Dead,
}

/// The backend that an entry names, if it is still the one that was meant (C10).
#[inline(always)]
pub(super) fn backend<E: Env>(env: &E, flow: &Flow) -> Option<Backend> {
    let backend = env.backend(flow.backend)?;
    (backend.generation == flow.generation && backend.state != BackendState::FREE)
        .then_some(backend)
}

/// What the entry of a request is worth.
#[inline(always)]
pub(super) fn standing<E: Env>(env: &E, flow: &Flow, packet: &Packet) -> Standing {
    if flow.direction != Direction::REQUEST {
        return if packet.opens() {
            Standing::Anew
        } else {
            Standing::Dead
        };
    }
    let Some(backend) = backend(env, flow) else {
        return if packet.opens() {
            Standing::Anew
        } else {
            Standing::Dead
        };
    };
    if !packet.opens() {
        return Standing::Keep(backend); // C1
    }
    if backend.state == BackendState::GONE {
        return Standing::Anew; // C3, C8
    }
    if packet.is_tcp()
        && flow.state == FlowState::CLOSING
        && env.now().wrapping_sub(flow.last_seen) > env.settings().closing_reuse
    {
        return Standing::Anew; // C4
    }
    Standing::Keep(backend) // C2
}

/// The state after one more packet.
#[inline(always)]
fn next_state(state: FlowState, packet: &Packet) -> FlowState {
    if !packet.is_tcp() {
        FlowState::ESTABLISHED
    } else if packet.flags.any(TcpFlags::FIN | TcpFlags::RST) {
        FlowState::CLOSING
    } else if packet.flags.any(TcpFlags::SYN) {
        FlowState::OPENING
    } else if state == FlowState::CLOSING {
        state
    } else {
        FlowState::ESTABLISHED
    }
}

/// Notes a packet in its entry.
#[inline(always)]
pub(super) fn note<E: Env>(env: &E, entry: &impl FlowEntry, flow: &Flow, packet: &Packet) {
    let state = next_state(flow.state, packet);
    // C5: late packets do not prolong the life of a closing flow.
    if flow.state != FlowState::CLOSING || state != FlowState::CLOSING {
        entry.seen(env.now(), state);
    }
}

/// The tuple of the replies of `packet`'s flow to a backend.
#[inline(always)]
pub(super) const fn reply_key(packet: &Packet, address: Addr, port: Be16) -> FlowKey {
    FlowKey {
        source: address,
        destination: packet.key.source,
        source_port: port,
        destination_port: packet.key.source_port,
        protocol: packet.key.protocol,
        zero: 0,
        zero_tail: 0,
    }
}

/// Makes both entries of a flow, over an old one if it `replaces` it. The answer is the request's entry that counts:
/// another one than `choice` if somebody was faster (C7). `FlowTableFull`: nothing was left behind (C6).
#[inline(always)]
pub(super) fn open<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    choice: &Choice,
) -> Result<Flow, Outcome> {
    let mut flow = Flow {
        last_seen: env.now(),
        address: choice.backend.address,
        port: choice.backend.port,
        direction: Direction::REQUEST,
        state: next_state(FlowState::OPENING, packet),
        backend: choice.id,
        generation: choice.backend.generation,
        client_port: packet.key.source_port,
        zero: 0,
    };
    let request = if replaces {
        env.put_flow(&packet.key, &flow)
    } else {
        env.add_flow(&packet.key, &flow)
    };
    match request {
        Ok(()) => {}
        Err(FlowError::Exists) => {
            let winner = env.flow(&packet.key).map(|winner| winner.get());
            return winner.ok_or(Outcome::FlowTableFull);
        }
        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
    }
    // One value serves both entries: the stack has 512 bytes.
    flow.address = packet.key.destination;
    flow.port = packet.key.destination_port;
    flow.direction = Direction::REPLY;
    let key = reply_key(packet, choice.backend.address, choice.backend.port);
    if env.put_flow(&key, &flow).is_err() {
        env.remove_flow(&packet.key);
        return Err(Outcome::FlowTableFull);
    }
    flow.address = choice.backend.address;
    flow.port = choice.backend.port;
    Ok(flow)
}
