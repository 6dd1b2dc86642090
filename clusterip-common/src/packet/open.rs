//! How a flow begins: both its entries, under a port that tells it from all others.

use super::{
    env::{Env, FlowEntry as _, FlowError, Table},
    flow::{find, is_over, is_standing, next_state, twin_as},
    masquerade,
    parse::Packet,
    select::Choice,
};
use crate::{
    abi::{BackendId, Direction, Flow, FlowKey, FlowState, Outcome},
    wire::{Addr, Be16},
};

/// Ports tried for a flow that would look like another one to the backend (C12).
const PORT_TRIES: u32 = 3;
/// Ports that are taken for it: the ephemeral range of most systems.
const FIRST_PORT: u32 = 32_768;
const PORTS: u32 = 28_232;
/// The backend of a flow of no service.
const NO_BACKEND: BackendId = BackendId(u32::MAX);

/// Makes both entries of a flow, over an old one if it `replaces` it. The answer is the request's entry that counts:
/// another one than `choice` if somebody was faster (C7). On an error nothing was left behind (C6). Where the node stands for
/// the client it has `node_port` towards the backend.
#[inline(always)]
pub(super) fn open<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    choice: &Choice,
    (client_port, node_port): (Be16, Be16),
) -> Result<Flow, Outcome> {
    // First: nobody may follow the flow under the client's own address.
    let is_hidden = masquerade::is_port(node_port);
    if is_hidden {
        masquerade::hide(env, packet, choice, client_port, node_port)?;
    }
    let mut flow = Flow {
        last_seen: env.now(),
        address: choice.backend.address,
        port: choice.backend.port,
        direction: Direction::REQUEST,
        state: next_state(FlowState::OPENING, packet),
        backend: choice.id,
        generation: choice.backend.generation,
        client_port,
        node_port,
    };
    // Counted by who made it: the loser of a race (C7) belongs to the winner's flow, whichever backend it chose itself.
    let made = make(env, packet, replaces, &mut flow);
    let is_useless = made.is_err() || flow.backend != choice.id;
    if is_hidden && is_useless {
        masquerade::unhide(env, packet, choice, (client_port, node_port));
    }
    if made? {
        env.add_live_flow(choice.id, true);
        env.count_flow(choice.backend.service, choice.id);
    }
    Ok(flow)
}

/// Makes both entries of a flow that goes to a backend by its own address (C12).
#[inline(always)]
pub(super) fn open_direct<E: Env>(
    env: &E,
    packet: &Packet,
    client_port: Be16,
) -> Result<Flow, Outcome> {
    let mut flow = Flow {
        last_seen: env.now(),
        address: packet.key.destination,
        port: packet.key.destination_port,
        direction: Direction::DIRECT,
        state: next_state(FlowState::OPENING, packet),
        backend: NO_BACKEND,
        generation: 0,
        client_port,
        node_port: masquerade::NONE,
    };
    make(env, packet, true, &mut flow)?;
    Ok(flow)
}

/// Makes both entries of a flow that another node forwarded, of a client that called the service by this address and port.
#[inline(always)]
pub(super) fn open_forwarded<E: Env>(
    env: &E,
    packet: &Packet,
    (address, port): (Addr, Be16),
) -> Result<(), Outcome> {
    let flow = Flow {
        last_seen: env.now(),
        address,
        port,
        direction: Direction::FORWARDED,
        state: next_state(FlowState::OPENING, packet),
        backend: NO_BACKEND,
        generation: 0,
        client_port: packet.key.source_port,
        node_port: masquerade::NONE,
    };
    if env.put_flow(Table::HalfOpen, &packet.key, &flow).is_err() {
        return Err(Outcome::FlowTableFull);
    }
    let (mut key, mut other) = (packet.key, flow);
    key.turn();
    other.direction = Direction::RETURN;
    if env.put_flow(Table::HalfOpen, &key, &other).is_err() {
        env.remove_flow(Table::HalfOpen, &packet.key);
        return Err(Outcome::FlowTableFull);
    }
    Ok(())
}

/// Makes the entries of `flow`, and says whether they are its own: else it has become the one that counts.
#[inline(always)]
fn make<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    flow: &mut Flow,
) -> Result<bool, Outcome> {
    let request = if replaces {
        env.put_flow(Table::HalfOpen, &packet.key, flow)
    } else {
        env.add_flow(Table::HalfOpen, &packet.key, flow)
    };
    match request {
        Ok(()) => {}
        Err(FlowError::Exists) => {
            let winner = env
                .flow(Table::HalfOpen, &packet.key)
                .ok_or(Outcome::FlowTableFull)?;
            *flow = winner.get();
            return Ok(false);
        }
        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
    }
    let (key, other) = twin_as::<false>(&packet.key, flow);
    if env.put_flow(Table::HalfOpen, &key, &other).is_err() {
        env.remove_flow(Table::HalfOpen, &packet.key);
        return Err(Outcome::FlowTableFull);
    }
    Ok(true)
}

/// The client's port of a new flow to a backend: its own, or another one if the backend could not tell the flow from one
/// that lives (C12).
#[inline(always)]
pub(super) fn find_port<E: Env>(
    env: &E,
    packet: &Packet,
    (address, port): (Addr, Be16),
    is_direct: bool,
) -> Result<Be16, Outcome> {
    // As the backend answers.
    let mut key = FlowKey {
        source: address,
        destination: packet.key.source,
        source_port: port,
        destination_port: packet.key.source_port,
        protocol: packet.key.protocol,
        zero: 0,
        zero_tail: 0,
    };
    let mine = Mine {
        address: packet.key.destination,
        port: packet.key.destination_port,
        client_port: packet.key.source_port,
        direction: if is_direct {
            Direction::DIRECT_REPLY
        } else {
            Direction::REPLY
        },
    };
    for _ in 0..PORT_TRIES {
        if is_free(env, &mut key, &mine) {
            return Ok(key.destination_port);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a port of the range above")]
        let port = (FIRST_PORT + env.random() % PORTS) as u16;
        key.destination_port = Be16::new(port);
    }
    Err(Outcome::PortsExhausted)
}

/// The entry of an answer that is this very flow's.
pub(super) struct Mine {
    pub(super) address: Addr,
    pub(super) port: Be16,
    pub(super) client_port: Be16,
    pub(super) direction: Direction,
}

/// Whether the tuple of an answer is nobody else's. The key is as it was afterwards.
#[inline(always)]
pub(super) fn is_free<E: Env>(env: &E, key: &mut FlowKey, mine: &Mine) -> bool {
    // Of a pod that calls itself, request and reply differ by their ports alone (D13).
    if key.source == key.destination {
        if key.source_port == key.destination_port {
            return false;
        }
        key.turn();
        let is_taken = find(env, key).is_some();
        key.turn();
        if is_taken {
            return false;
        }
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
    if is_standing(env, &other) && !is_over(env, key, &other, env.now()) {
        return false;
    }
    let (old, _) = twin_as::<false>(key, &other);
    env.remove_flow(table, &old);
    env.remove_flow(table, key);
    true
}
