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
pub(super) fn next_state(state: FlowState, packet: &Packet) -> FlowState {
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

/// The tuple of the replies of `packet`'s flow to a backend.
#[inline(always)]
const fn reply_key(packet: &Packet, backend: (Addr, Be16)) -> FlowKey {
    FlowKey {
        source: backend.0,
        destination: packet.key.source,
        source_port: backend.1,
        destination_port: packet.key.source_port,
        protocol: packet.key.protocol,
        zero: [0; 3],
    }
}

/// Makes both entries of a flow, in place of `old` if there is one. The answer is the entry that counts: another
/// one than `choice` if somebody was faster (C7). `FlowTableFull`: nothing was left behind (C6).
#[inline(always)]
pub(super) fn open<E: Env>(
    env: &E,
    packet: &Packet,
    old: Option<&Flow>,
    choice: &Choice,
) -> Result<Flow, Outcome> {
    let request = Flow {
        last_seen: env.now(),
        address: choice.backend.address,
        port: choice.backend.port,
        direction: Direction::REQUEST,
        state: next_state(FlowState::OPENING, packet),
        backend: choice.id,
        generation: choice.backend.generation,
        zero: 0,
    };
    if let Some(old) = old {
        if old.direction == Direction::REQUEST {
            env.remove_flow(&reply_key(packet, (old.address, old.port)));
        }
        env.put_flow(&packet.key, &request).map_err(full)?;
    } else {
        match env.add_flow(&packet.key, &request) {
            Ok(()) => {}
            Err(FlowError::Exists) => {
                return env
                    .flow(&packet.key)
                    .map(|winner| winner.get())
                    .ok_or(Outcome::FlowTableFull);
            }
            Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
        }
    }
    let reply = Flow {
        address: packet.key.destination,
        port: packet.key.destination_port,
        direction: Direction::REPLY,
        ..request
    };
    if env
        .put_flow(&reply_key(packet, (request.address, request.port)), &reply)
        .is_err()
    {
        env.remove_flow(&packet.key);
        return Err(Outcome::FlowTableFull);
    }
    Ok(request)
}

#[inline(always)]
const fn full(_: FlowError) -> Outcome {
    Outcome::FlowTableFull
}
