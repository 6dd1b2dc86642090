//! Clients from outside under the node's address (E2): the backend answers the node, and the node the client.
//!
//! The destination changes on the way in and the source on the way out, as the stack in between wants it: it takes no
//! packet for good that comes in from its own address. So such a flow has two pairs of entries, one of the service and this
//! one, in which the backend calls the node and is led to the client (docs/adr/0015-from-outside-served.md).

use super::{
    decide::Decision,
    direct_return,
    env::{Env, FlowEntry as _, FlowError, Table},
    flow::{backend, find, next_state, twin_as},
    frame::Frame,
    open::{Mine, is_free},
    parse::Packet,
    select::Choice,
    uplink::Origin,
};
use crate::{
    abi::{Backend, Direction, Flow, FlowKey, FlowState, Outcome, Scope, ServiceFlags},
    wire::{Addr, Be16},
};

/// Ports tried for a client, its own first (E8). Each is a call of its own, so that the verifier looks at one.
pub const PORT_TRIES: u32 = 16;
/// No port of the node: the client keeps its address.
pub(super) const NONE: Be16 = Be16::new(0);

/// Whether it is a port of the node, and no word for none.
#[inline(always)]
pub(super) fn is_port(node_port: Be16) -> bool {
    node_port != NONE && node_port != Flow::ITSELF
}

/// What came of a try for a port.
pub(super) enum Tried {
    /// It is free; or [`NONE`], as the client keeps its address.
    Port(Be16),
    /// Somebody has it.
    Taken,
}

/// The node's port for a client that comes by an uplink, in a flow with this backend, where the client's port is
/// `client_port`; [`NONE`] if the client keeps its address. The client's own port in the first try (E8), any other one of the
/// range in the next ones.
#[inline(always)]
pub(super) fn find_port<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    packet: &Packet,
    (backend, client_port): (&Backend, Be16),
    attempt: u32,
) -> Result<Tried, Outcome> {
    if !is_due(env, packet) {
        return Ok(Tried::Port(NONE));
    }
    if direct_return::is_for(frame, env, packet, backend.address) {
        return Ok(Tried::Port(Flow::ITSELF));
    }
    let node = env.node_address(packet.is_v6);
    if node.is(Addr::UNSPECIFIED) {
        return Err(Outcome::NoNodeAddress);
    }
    let mut key = FlowKey {
        source: backend.address,
        destination: node,
        source_port: backend.port,
        destination_port: packet.key.source_port,
        protocol: packet.key.protocol,
        zero: 0,
        zero_tail: 0,
    };
    if attempt > 0 {
        let settings = env.settings();
        let count = settings.masquerade_count.max(1);
        #[expect(clippy::cast_possible_truncation, reason = "a port of that range")]
        let port = (settings.masquerade_first + env.random() % count) as u16;
        key.destination_port = Be16::new(port);
    }
    let mine = Mine {
        address: packet.key.source,
        port: client_port,
        client_port: backend.port,
        direction: Direction::UNMASQUERADE,
    };
    // What answers come to must be no service's, nobody else's, and no socket's of the node.
    if key.destination_port != Flow::ITSELF
        && !env.is_frontend(node, key.destination_port)
        && is_free(env, &mut key, &mine)
        && !frame.has_socket(&key)
    {
        Ok(Tried::Port(key.destination_port))
    } else if attempt + 1 < PORT_TRIES {
        Ok(Tried::Taken)
    } else {
        Err(Outcome::PortsExhausted)
    }
}

/// Whether a client gets the node's address: the backend would answer past this node, or shall not see it (E2).
#[inline(always)]
fn is_due<E: Env>(env: &E, packet: &Packet) -> bool {
    if packet.origin == Origin::Pod {
        return false;
    }
    // A stranger to a ClusterIP has no way back of its own (--expose-cluster-ips).
    if packet.origin == Origin::Outside && packet.scope == Scope::CLUSTER {
        return true;
    }
    env.service(&packet.vip())
        .is_some_and(|head| head.flags.has(ServiceFlags::MASQUERADE))
}

/// The tuple of a backend's answer to the node.
#[inline(always)]
fn answer<E: Env>(env: &E, packet: &Packet, choice: &Choice, node_port: Be16) -> FlowKey {
    FlowKey {
        source: choice.backend.address,
        destination: env.node_address(packet.is_v6),
        source_port: choice.backend.port,
        destination_port: node_port,
        protocol: packet.key.protocol,
        zero: 0,
        zero_tail: 0,
    }
}

/// Makes both entries that hide a client. An error leaves nothing behind, and nothing of anybody else's is touched (E8).
#[inline(always)]
pub(super) fn hide<E: Env>(
    env: &E,
    packet: &Packet,
    choice: &Choice,
    client_port: Be16,
    node_port: Be16,
) -> Result<(), Outcome> {
    let key = answer(env, packet, choice, node_port);
    let flow = Flow {
        last_seen: env.now(),
        address: packet.key.source,
        port: client_port,
        direction: Direction::UNMASQUERADE,
        state: next_state(FlowState::OPENING, packet),
        backend: choice.id,
        generation: choice.backend.generation,
        client_port: choice.backend.port,
        node_port: NONE,
    };
    let (request, other) = twin_as::<false>(&key, &flow);
    match env.add_flow(Table::HalfOpen, &key, &flow) {
        Ok(()) => {}
        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),
        // Another CPU may have the same packet, or an earlier one of this flow was here.
        Err(FlowError::Exists) => {
            let is_same = env.flow(Table::HalfOpen, &key).is_some_and(|entry| {
                let other = entry.get();
                other.address == flow.address
                    && other.port == flow.port
                    && other.direction == flow.direction
            });
            if !is_same {
                return Err(Outcome::PortsExhausted);
            }
            if env.put_flow(Table::HalfOpen, &key, &flow).is_err() {
                return Err(Outcome::FlowTableFull);
            }
        }
    }
    if env.put_flow(Table::HalfOpen, &request, &other).is_err() {
        env.remove_flow(Table::HalfOpen, &key);
        return Err(Outcome::FlowTableFull);
    }
    // An earlier flow with these ends was seen among those that talk first.
    env.remove_flow(Table::Talking, &key);
    env.remove_flow(Table::Talking, &request);
    Ok(())
}

/// Takes back what [`hide`] made.
#[inline(always)]
pub(super) fn unhide<E: Env>(env: &E, packet: &Packet, choice: &Choice, ports: (Be16, Be16)) {
    let (client_port, node_port) = ports;
    let key = answer(env, packet, choice, node_port);
    let mut request = key;
    request.turn();
    request.source = packet.key.source;
    request.source_port = client_port;
    env.remove_flow(Table::HalfOpen, &key);
    env.remove_flow(Table::HalfOpen, &request);
}

/// What leaves without an entry, or with one whose time has run out, and may be a part of a flow in which the node stands for the client:
/// one of the two pairs of entries can be let go of before the other (C14). A client's packet never leaves under its own address
/// then, nor a backend's answer under the backend's (C11).
///
/// One key and one entry become what is wanted one after the other: there is no room for more on the stack.
#[inline(always)]
pub(super) fn mend<E: Env>(env: &E, packet: &Packet) -> Decision {
    let ends = &packet.key;
    // As the backend answers the client: the service's entry.
    let mut key = *ends;
    key.turn();
    let Some((table, entry)) = find(env, &key) else {
        return Decision::pass();
    };
    let mut flow = entry.get();
    if flow.direction == Direction::MASQUERADE {
        // The backend's answer, of which only the entry of the service's could say what its source is to be.
        return Decision::drop(Outcome::StaleReply);
    }
    if flow.direction != Direction::REPLY || !is_port(flow.node_port) {
        return Decision::pass();
    }
    if backend(env, &flow).is_none() {
        return Decision::drop(Outcome::StaleReply);
    }
    let (frontend, frontend_port, client_port) = (flow.address, flow.port, flow.client_port);
    let (node, node_port) = (env.node_address(packet.is_v6), flow.node_port);
    // As it answers the node, under the port that it knows.
    key.destination = node;
    key.destination_port = node_port;
    let mine = Mine {
        address: ends.source,
        port: ends.source_port,
        client_port: ends.destination_port,
        direction: Direction::UNMASQUERADE,
    };
    // Somebody else may have got it (E8).
    let is_mine = !node.is(Addr::UNSPECIFIED)
        && !env.is_frontend(node, node_port)
        && is_free(env, &mut key, &mine);
    if is_mine {
        flow.last_seen = env.now();
        flow.address = ends.source;
        flow.port = ends.source_port;
        flow.client_port = ends.destination_port;
        flow.node_port = NONE;
        flow.direction = Direction::UNMASQUERADE;
        if env.put_flow(table, &key, &flow).is_ok() {
            flow.address = node;
            flow.port = node_port;
            flow.direction = Direction::MASQUERADE;
            if env.put_flow(table, ends, &flow).is_ok() {
                return Decision::translate(&flow, Outcome::Masqueraded);
            }
        }
    }
    // The service's entries end, so that the client's next SYN, or datagram, begins anew.
    if flow.state != FlowState::CLOSING {
        env.add_live_flow(flow.backend, false);
    }
    key.destination = ends.source;
    key.destination_port = ends.source_port;
    env.remove_flow(table, &key);
    key.source = ends.source;
    key.source_port = client_port;
    key.destination = frontend;
    key.destination_port = frontend_port;
    env.remove_flow(table, &key);
    Decision::drop(Outcome::PortLost)
}
