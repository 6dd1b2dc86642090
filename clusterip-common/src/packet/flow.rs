//! Flows: whether an entry still stands, and how both sides of it stay together.

use super::{
    env::{Env, FlowEntry, FlowError, Table},
    parse::{Packet, TcpFlags},
};
use crate::abi::{Backend, BackendState, Direction, Flow, FlowKey, FlowState, Outcome};

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
pub(super) fn standing<E: Env>(env: &E, flow: &Flow, packet: &Packet, now: u64) -> Standing {
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
    // C3, C8; but C1 for what goes on.
    if packet.opens() && backend.state == BackendState::GONE {
        return Standing::Anew;
    }
    let has_ended = packet.has_handshake() && flow.state >= FlowState::ENDED;
    if packet.opens() && has_ended {
        // C4: whether it is too late for the last ACKs does not matter here.
        return if idle(now, flow) > env.settings().closing_reuse {
            Standing::Anew
        } else {
            Standing::Keep(backend)
        };
    }
    if is_over(env, &packet.key, flow, now) {
        return gone;
    }
    Standing::Keep(backend) // C1, C2
}

/// Whether nothing has taken away what a flow leads to.
#[inline(always)]
pub(super) fn is_standing<E: Env>(env: &E, flow: &Flow) -> bool {
    flow.direction.is_direct() || backend(env, flow).is_some()
}

/// Nanoseconds since the last packet that counts. Another CPU's clock may be a tick ahead (C15).
#[inline(always)]
#[must_use]
pub const fn idle(now: u64, flow: &Flow) -> u64 {
    let idle = now.wrapping_sub(flow.last_seen);
    if idle.cast_signed() < 0 { 0 } else { idle }
}

/// Whether a flow has been idle for longer than `limit` nanoseconds. A side that listens is as alive as the one that talks:
/// `other` finds that side's entry.
#[inline(always)]
pub fn is_idle_for(
    limit: u64,
    now: u64,
    flow: &Flow,
    other: impl FnOnce() -> Option<Flow>,
) -> bool {
    idle(now, flow) > limit && other().is_none_or(|other| idle(now, &other) > limit)
}

/// Whether the time of a flow has run out.
#[inline(always)]
pub(super) fn is_over<E: Env>(env: &E, key: &FlowKey, flow: &Flow, now: u64) -> bool {
    is_over_as::<false, E>(env, key, flow, now)
}

/// As above, of either kind of flow: see [`twin_as`].
#[inline(always)]
pub(super) fn is_over_as<const FORWARDED: bool, E: Env>(
    env: &E,
    key: &FlowKey,
    flow: &Flow,
    now: u64,
) -> bool {
    let limit = env.settings().timeout(key.protocol, flow.state);
    is_idle_for(limit, now, flow, || {
        let (key, _) = twin_as::<FORWARDED>(key, flow);
        find(env, &key).map(|(_, twin)| twin.get())
    })
}

/// The state after one more packet of this side.
#[inline(always)]
pub(super) fn next_state(state: FlowState, packet: &Packet) -> FlowState {
    if !packet.has_handshake() {
        FlowState::ESTABLISHED
    } else if packet.flags.any(TcpFlags::RST) {
        FlowState::CLOSING
    } else if packet.opens() {
        FlowState::OPENING
    } else if state >= FlowState::ENDED {
        state
    } else if packet.flags.any(TcpFlags::FIN) {
        FlowState::ENDED
    } else {
        FlowState::ESTABLISHED
    }
}

/// The tuple and the entry of a flow's other side.
#[inline(always)]
#[must_use]
pub const fn twin(key: &FlowKey, flow: &Flow) -> (FlowKey, Flow) {
    if flow.direction.is_forwarded() {
        twin_as::<true>(key, flow)
    } else {
        twin_as::<false>(key, flow)
    }
}

/// The same of a flow that is known to be one that another node forwarded, or none: what is proved of a program is proved for each of the ways
/// that lead on from a test.
#[inline(always)]
pub(super) const fn twin_as<const FORWARDED: bool>(key: &FlowKey, flow: &Flow) -> (FlowKey, Flow) {
    let is_request = flow.direction.is_request();
    // Of a request's entry the other side is the backend's, of a reply's the client's. Both sides of a flow that another node forwarded have one
    // tuple, and name what was called.
    let (source, source_port, destination, destination_port) = if FORWARDED {
        (
            key.destination,
            key.destination_port,
            key.source,
            key.source_port,
        )
    } else if is_request {
        (flow.address, flow.port, key.source, flow.client_port)
    } else {
        (key.destination, flow.client_port, flow.address, flow.port)
    };
    let (address, port, client_port) = if FORWARDED {
        (flow.address, flow.port, flow.client_port)
    } else if is_request {
        (key.destination, key.destination_port, key.source_port)
    } else {
        (key.source, key.source_port, key.destination_port)
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
        direction: flow.direction.other(),
        state: flow.state,
        backend: flow.backend,
        generation: flow.generation,
        client_port,
        node_port: flow.node_port,
    };
    (tuple, other)
}

/// Notes a packet in its entry. True: it is not noted yet, because it concerns the other side's entry too: call
/// [`note_both`]. That is so now and then, and where a flow ends or begins anew; all other packets pay for no more than this.
#[inline(always)]
#[must_use]
pub(super) fn note<E: Env>(
    table: Table,
    entry: &E::Entry<'_>,
    flow: &Flow,
    packet: &Packet,
    now: u64,
) -> bool {
    let state = next_state(flow.state, packet);
    // C5: late packets do not prolong the life of a closing flow.
    if flow.state == FlowState::CLOSING && state == FlowState::CLOSING {
        return false;
    }
    let is_due = now.wrapping_sub(flow.last_seen) > TWIN_CHECK && table == Table::Talking;
    if is_due || says_the_end(flow.state, state, packet) {
        return true;
    }
    // Nor those of a side that has ended that of its own entry.
    let is_late = is_late(flow, state);
    entry.seen(if is_late { flow.last_seen } else { now }, state);
    false
}

/// Whether a side has ended before, so that what it still sends does not prolong its life; where it is the only one that is seen here, it does.
#[inline(always)]
fn is_late(flow: &Flow, state: FlowState) -> bool {
    flow.state == FlowState::ENDED && state == FlowState::ENDED && !flow.is_one_sided()
}

/// Whether a packet ends its flow, or begins one anew in its place.
#[inline(always)]
fn says_the_end(before: FlowState, after: FlowState, packet: &Packet) -> bool {
    let begins_anew = before >= FlowState::ENDED && after == FlowState::OPENING;
    let has_fin = packet.has_handshake() && packet.flags.any(TcpFlags::FIN);
    after == FlowState::CLOSING || has_fin || begins_anew
}

/// What [`note`] has left to do.
#[inline(always)]
pub(super) fn note_both<E: Env>(env: &E, packet: &Packet) {
    note_both_as::<false, E>(env, packet);
}

/// As above, of either kind of flow: see [`twin_as`].
#[inline(always)]
pub(super) fn note_both_as<const FORWARDED: bool, E: Env>(env: &E, packet: &Packet) {
    let Some((table, entry)) = find(env, &packet.key) else {
        return;
    };
    let (flow, now) = (entry.get(), env.now());
    let mut state = next_state(flow.state, packet);
    let says_the_end = says_the_end(flow.state, state, packet);
    let (key, mut other) = twin_as::<FORWARDED>(&packet.key, &flow);
    match env.flow(table, &key) {
        Some(twin) if says_the_end => {
            if state == FlowState::ENDED && twin.get().state >= FlowState::ENDED {
                state = FlowState::CLOSING;
            }
            if state != FlowState::ENDED {
                twin.seen(now, state);
            }
        }
        Some(_) => {}
        // C14: an LRU table may have let go of one side. A failure is mended by a later packet.
        None => {
            other.last_seen = now;
            let _result = env.put_flow(table, &key, &other);
        }
    }
    let is_late = is_late(&flow, state);
    entry.seen(if is_late { flow.last_seen } else { now }, state);
    let (was_closing, closes) = (
        flow.state == FlowState::CLOSING,
        state == FlowState::CLOSING,
    );
    if !FORWARDED
        && was_closing != closes
        && !flow.direction.is_direct()
        && !flow.direction.is_masquerade()
    {
        env.add_live_flow(flow.backend, was_closing);
    }
}

/// The other side has spoken: the flow moves to the table that no flood reaches (C13). Without room there the packet is
/// dropped (C6), and the next one tries again.
#[inline(always)]
pub(super) fn promote<E: Env>(env: &E, packet: &Packet, flow: &Flow) -> Result<(), Outcome> {
    promote_as::<false, E>(env, packet, flow)
}

/// As above, of either kind of flow: see [`twin_as`].
#[inline(always)]
pub(super) fn promote_as<const FORWARDED: bool, E: Env>(
    env: &E,
    packet: &Packet,
    flow: &Flow,
) -> Result<(), Outcome> {
    let full = |_: FlowError| Outcome::FlowTableFull;
    let mut own = *flow;
    own.state = FlowState::ESTABLISHED;
    own.last_seen = env.now();
    env.put_flow(Table::Talking, &packet.key, &own)
        .map_err(full)?;
    let (key, other) = twin_as::<FORWARDED>(&packet.key, &own);
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
    if flow.direction.is_request() {
        let (key, _) = twin_as::<false>(&packet.key, flow);
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
