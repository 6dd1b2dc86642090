//! How a flow begins: both its entries, under a port that tells it from all others.

use super::{
    env::{Env, FlowEntry as _, FlowError, Table},
    flow::{find, is_over, is_standing, next_state, twin},
    parse::Packet,
    select::Choice,
};
use crate::{
    abi::{BackendId, Direction, Flow, FlowKey, FlowState, Outcome},
    wire::Be16,
};

/// Ports tried for a flow that would look like another one to the backend (C12).
const PORT_TRIES: u32 = 3;
/// Ports that are taken for it: the ephemeral range of most systems.
const FIRST_PORT: u32 = 32_768;
const PORTS: u32 = 28_232;
/// The backend of a flow of no service.
const NO_BACKEND: BackendId = BackendId(u32::MAX);

/// Makes both entries of a flow, over an old one if it `replaces` it. The answer is the request's entry that counts:
/// another one than `choice` if somebody was faster (C7). On an error nothing was left behind (C6).
#[inline(always)]
pub(super) fn open<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    choice: &Choice,
) -> Result<Flow, Outcome> {
    let flow = Flow {
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
    let (flow, is_mine) = make(env, packet, replaces, flow)?;
    // Counted by who made it: the loser of a race (C7) belongs to the winner's flow, whichever backend it chose itself.
    if is_mine {
        env.add_live_flow(choice.id, true);
        env.count_flow(choice.backend.service, choice.id);
    }
    Ok(flow)
}

/// Makes both entries of a flow that goes to a backend by its own address (C12).
#[inline(always)]
pub(super) fn open_direct<E: Env>(env: &E, packet: &Packet) -> Result<Flow, Outcome> {
    let flow = Flow {
        last_seen: env.now(),
        address: packet.key.destination,
        port: packet.key.destination_port,
        direction: Direction::DIRECT,
        state: next_state(FlowState::OPENING, packet),
        backend: NO_BACKEND,
        generation: 0,
        client_port: packet.key.source_port,
        zero: 0,
    };
    make(env, packet, true, flow).map(|(flow, _)| flow)
}

/// Makes the entries of `flow`, whose client gets a port of its own. The entry that counts, and whether it is this one.
#[inline(always)]
fn make<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    mut flow: Flow,
) -> Result<(Flow, bool), Outcome> {
    find_port(env, packet, &mut flow)?;
    let request = if replaces {
        env.put_flow(Table::HalfOpen, &packet.key, &flow)
    } else {
        env.add_flow(Table::HalfOpen, &packet.key, &flow)
    };
    match request {
        Ok(()) => {}
        Err(FlowError::Exists) => {
            let winner = env
                .flow(Table::HalfOpen, &packet.key)
                .map(|winner| (winner.get(), false));
            return winner.ok_or(Outcome::FlowTableFull);
        }
        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
    }
    let (key, other) = twin(&packet.key, &flow);
    if env.put_flow(Table::HalfOpen, &key, &other).is_err() {
        env.remove_flow(Table::HalfOpen, &packet.key);
        return Err(Outcome::FlowTableFull);
    }
    Ok((flow, true))
}

/// Gives a flow another client port if the backend could not tell it from one that lives (C12).
#[inline(always)]
fn find_port<E: Env>(env: &E, packet: &Packet, flow: &mut Flow) -> Result<(), Outcome> {
    for _ in 0..PORT_TRIES {
        let (key, mine) = twin(&packet.key, flow);
        if is_free(env, &key, &mine) {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "a port of the range above")]
        let port = (FIRST_PORT + env.random() % PORTS) as u16;
        flow.client_port = Be16::new(port);
    }
    Err(Outcome::PortsExhausted)
}

/// Whether the tuple of a reply is nobody else's.
#[inline(always)]
fn is_free<E: Env>(env: &E, key: &FlowKey, mine: &Flow) -> bool {
    // Of a pod that calls itself, request and reply differ by their ports alone (D13).
    if key.source == key.destination
        && (key.source_port == key.destination_port || find(env, &key.turned()).is_some())
    {
        return false;
    }
    let Some((table, entry)) = find(env, key) else {
        return true;
    };
    let other = entry.get();
    let is_mine = other.address == mine.address
        && other.port == mine.port
        && other.client_port == mine.client_port
        && other.direction == mine.direction;
    if is_mine {
        return true;
    }
    if is_standing(env, &other) && !is_over(env, key, &other) {
        return false;
    }
    let (old, _) = twin(key, &other);
    env.remove_flow(table, &old);
    env.remove_flow(table, key);
    true
}
