//! Flows: whether an entry still stands, how one is made, and how both sides of it stay together.

use super::{
    env::{Env, FlowEntry, FlowError, Table},
    parse::{Packet, TcpFlags},
    select::Choice,
};
use crate::{
    abi::{Backend, BackendState, Direction, Flow, FlowKey, FlowState, Outcome},
    wire::Be16,
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

/// How often a flow looks after the entry of its other side (C14).
const TWIN_CHECK: u64 = 1_000_000_000;
/// How long a flow that has ended still holds its tuple: the last ACKs are still on their way (C5).
const LINGER: u64 = 10_000_000_000;
/// Ports tried for a flow that would look like another one to the backend (C12).
const PORT_TRIES: u32 = 3;
/// Ports that are taken for it: the ephemeral range of most systems.
const FIRST_PORT: u32 = 32_768;
const PORTS: u32 = 28_232;

/// The entry of a 5-tuple, wherever it is.
#[inline(always)]
pub(super) fn find<'a, E: Env>(env: &'a E, key: &FlowKey) -> Option<(Table, E::Entry<'a>)> {
    if let Some(entry) = env.flow(Table::Talking, key) {
        return Some((Table::Talking, entry));
    }
    env.flow(Table::HalfOpen, key)
        .map(|entry| (Table::HalfOpen, entry))
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
    let gone = if packet.opens() {
        Standing::Anew
    } else {
        Standing::Dead
    };
    if flow.direction != Direction::REQUEST {
        return gone;
    }
    let Some(backend) = backend(env, flow) else {
        return gone;
    };
    if !packet.opens() {
        return Standing::Keep(backend); // C1
    }
    if backend.state == BackendState::GONE {
        return Standing::Anew; // C3, C8
    }
    if packet.has_handshake()
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
    if !packet.has_handshake() {
        FlowState::ESTABLISHED
    } else if packet.flags.any(TcpFlags::FIN | TcpFlags::RST) {
        FlowState::CLOSING
    } else if packet.opens() {
        FlowState::OPENING
    } else if state == FlowState::CLOSING {
        state
    } else {
        FlowState::ESTABLISHED
    }
}

/// The tuple and the entry of a flow's other side.
#[inline(always)]
fn twin(key: &FlowKey, flow: &Flow) -> (FlowKey, Flow) {
    let is_request = flow.direction == Direction::REQUEST;
    // Of a request's entry the other side is the backend's, of a reply's the client's.
    let (source, source_port, destination, destination_port) = if is_request {
        (flow.address, flow.port, key.source, flow.client_port)
    } else {
        (key.destination, flow.client_port, flow.address, flow.port)
    };
    let (direction, address, port, client_port) = if is_request {
        (
            Direction::REPLY,
            key.destination,
            key.destination_port,
            key.source_port,
        )
    } else {
        (
            Direction::REQUEST,
            key.source,
            key.source_port,
            key.destination_port,
        )
    };
    let tuple = FlowKey {
        source,
        destination,
        source_port,
        destination_port,
        protocol: key.protocol,
        zero: 0,
        zero_tail: 0,
    };
    let other = Flow {
        last_seen: flow.last_seen,
        address,
        port,
        direction,
        state: flow.state,
        backend: flow.backend,
        generation: flow.generation,
        client_port,
        zero: 0,
    };
    (tuple, other)
}

/// Notes a packet in its entry; now and then, and when the flow ends, in that of the other side too.
#[inline(always)]
pub(super) fn note<E: Env>(
    env: &E,
    table: Table,
    entry: &E::Entry<'_>,
    flow: &Flow,
    packet: &Packet,
) {
    let state = next_state(flow.state, packet);
    let (was_closing, closes) = (
        flow.state == FlowState::CLOSING,
        state == FlowState::CLOSING,
    );
    // C5: late packets do not prolong the life of a closing flow.
    if was_closing && closes {
        return;
    }
    let now = env.now();
    entry.seen(now, state);
    if was_closing != closes {
        env.add_live_flow(flow.backend, was_closing);
    }
    let is_due = now.wrapping_sub(flow.last_seen) > TWIN_CHECK && table == Table::Talking;
    if is_due || closes {
        let (key, mut other) = twin(&packet.key, flow);
        match env.flow(table, &key) {
            Some(twin) if closes => twin.seen(now, state),
            Some(_) => {}
            // C14: an LRU table may have let go of one side. A failure is mended by a later packet.
            None => {
                other.last_seen = now;
                let _result = env.put_flow(table, &key, &other);
            }
        }
    }
}

/// The other side has spoken: the flow moves to the table that no flood reaches (C13). Without room there the packet is
/// dropped (C6), and the next one tries again.
#[inline(always)]
pub(super) fn promote<E: Env>(env: &E, packet: &Packet, flow: &Flow) -> Result<(), Outcome> {
    let full = |_: FlowError| Outcome::FlowTableFull;
    let mut own = *flow;
    own.state = FlowState::ESTABLISHED;
    own.last_seen = env.now();
    env.put_flow(Table::Talking, &packet.key, &own)
        .map_err(full)?;
    let (key, other) = twin(&packet.key, &own);
    if env.put_flow(Table::Talking, &key, &other).is_err() {
        env.remove_flow(Table::Talking, &packet.key);
        return Err(Outcome::FlowTableFull);
    }
    env.remove_flow(Table::HalfOpen, &packet.key);
    env.remove_flow(Table::HalfOpen, &key);
    Ok(())
}

/// Removes a flow's other side, before the flow chooses anew.
#[inline(always)]
pub(super) fn leave<E: Env>(env: &E, table: Table, packet: &Packet, flow: &Flow) {
    if flow.direction == Direction::REQUEST {
        let (key, _) = twin(&packet.key, flow);
        env.remove_flow(table, &key);
    }
    // The count of an id that has another owner began anew without this flow.
    if flow.state != FlowState::CLOSING && backend(env, flow).is_some() {
        env.add_live_flow(flow.backend, false);
    }
    // A flow begins among the half-open ones, whatever it was before.
    if table == Table::Talking {
        env.remove_flow(table, &packet.key);
    }
}

/// Makes both entries of a flow, over an old one if it `replaces` it. The answer is the request's entry that counts:
/// another one than `choice` if somebody was faster (C7). On an error nothing was left behind (C6).
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
                .map(|winner| winner.get());
            return winner.ok_or(Outcome::FlowTableFull);
        }
        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
    }
    let (key, other) = twin(&packet.key, &flow);
    if env.put_flow(Table::HalfOpen, &key, &other).is_err() {
        env.remove_flow(Table::HalfOpen, &packet.key);
        return Err(Outcome::FlowTableFull);
    }
    // Counted by who made it: the loser of a race (C7) belongs to the winner's flow, whichever backend it chose itself.
    env.add_live_flow(choice.id, true);
    env.count_flow(choice.backend.service, choice.id);
    Ok(flow)
}

/// Gives a flow another client port if the backend could not tell it from one that lives (C12).
#[inline(always)]
fn find_port<E: Env>(env: &E, packet: &Packet, flow: &mut Flow) -> Result<(), Outcome> {
    for _ in 0..PORT_TRIES {
        let (key, mine) = twin(&packet.key, flow);
        let Some((table, entry)) = find(env, &key) else {
            return Ok(());
        };
        let other = entry.get();
        let is_mine = other.address == mine.address
            && other.port == mine.port
            && other.client_port == mine.client_port;
        if is_mine {
            return Ok(());
        }
        let has_ended =
            other.state == FlowState::CLOSING && env.now().wrapping_sub(other.last_seen) > LINGER;
        if has_ended || backend(env, &other).is_none() {
            let (old, _) = twin(&key, &other);
            env.remove_flow(table, &old);
            env.remove_flow(table, &key);
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "a port of the range above")]
        let port = (FIRST_PORT + env.random() % PORTS) as u16;
        flow.client_port = Be16::new(port);
    }
    Err(Outcome::PortsExhausted)
}
