//! What is to become of a packet: a function of values, the same text for both families and every hook.

use super::{
    env::{Env, FlowEntry as _, Table},
    flow::{self, Standing},
    frame::Frame,
    masquerade, open,
    parse::{Packet, TcpFlags},
    select::{self, Choice},
    uplink::Origin,
    verdict::Verdict,
};
use crate::{
    abi::{Backend, BackendId, BackendState, Direction, Flow, FlowKey, FlowState, Outcome},
    wire::{Addr, Be16},
};

/// What is to be done with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It goes on as somebody else's.
    Translate,
    /// It begins a flow: a backend is to be chosen.
    Begin,
    /// As above, in the place of an entry that there is.
    BeginAnew,
    /// It may belong to a flow in which the node stands for the client, and has no entry; or to one that another node forwarded.
    Mend,
    /// The sender is told that there is nothing.
    Reject,
    /// Not ours.
    Pass,
    /// Ends here.
    Drop,
}

impl Action {
    /// What is left to say of a packet that is not translated.
    #[inline(always)]
    pub(super) const fn verdict(self, outcome: Outcome) -> Verdict {
        match self {
            Self::Translate => Verdict::Translated(outcome),
            Self::Reject => Verdict::Refuse(outcome),
            Self::Pass | Self::Begin | Self::BeginAnew | Self::Mend => Verdict::Pass(outcome),
            Self::Drop => Verdict::Drop(outcome),
        }
    }
}

/// What is to become of a packet, and why. All of it has a value whatever the action is: of an enum with fields the
/// compiler keeps some that were never set, and the verifier refuses to see them kept.
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) outcome: Outcome,
    /// One side gets this address and port,
    pub(super) address: Addr,
    pub(super) port: Be16,
    /// and the client's side this port.
    pub(super) client_port: Be16,
    /// It is to be noted in the entries of both sides before that.
    pub(super) concerns_both: bool,
}

impl Decision {
    #[inline(always)]
    pub(super) const fn translate(flow: &Flow, outcome: Outcome) -> Self {
        Self {
            action: Action::Translate,
            outcome,
            address: flow.address,
            port: flow.port,
            client_port: flow.client_port,
            concerns_both: false,
        }
    }

    #[inline(always)]
    const fn noting(mut self, concerns_both: bool) -> Self {
        self.concerns_both = concerns_both;
        self
    }

    #[inline(always)]
    const fn plain(action: Action, outcome: Outcome) -> Self {
        Self {
            action,
            outcome,
            address: Addr::UNSPECIFIED,
            port: Be16::new(0),
            client_port: Be16::new(0),
            concerns_both: false,
        }
    }

    #[inline(always)]
    pub(super) const fn pass() -> Self {
        Self::plain(Action::Pass, Outcome::NotOurs)
    }

    #[inline(always)]
    pub(super) const fn drop(outcome: Outcome) -> Self {
        Self::plain(Action::Drop, outcome)
    }

    /// Of a packet that another node forwarded, and that begins a flow.
    #[inline(always)]
    pub(super) const fn forwarded() -> Self {
        Self::plain(Action::Pass, Outcome::Forwarded)
    }

    /// Of a packet for which there is no backend.
    #[inline(always)]
    const fn refuse(outcome: Outcome) -> Self {
        let action = match outcome {
            Outcome::NoEndpoint | Outcome::NoService | Outcome::NoFlow => Action::Reject,
            _ => Action::Drop,
        };
        Self::plain(action, outcome)
    }
}

/// A packet to an address of the service range.
#[inline(always)]
pub(super) fn request<E: Env>(env: &E, packet: &Packet, bytes: impl Fn() -> usize) -> Decision {
    let mut begins = Action::Begin;
    if let Some((table, entry)) = flow::find(env, &packet.key) {
        let (flow, now) = (entry.get(), env.now());
        match flow::standing(env, &flow, packet, now) {
            Standing::Keep(backend) => {
                return keep(env, packet, (table, &entry, &flow), (backend, now), bytes);
            }
            Standing::Anew => {
                flow::leave(env, table, packet, &flow);
                begins = Action::BeginAnew;
            }
            Standing::Dead => return flowless(env, packet),
        }
    } else if !packet.opens() {
        return flowless(env, packet);
    }
    Decision::plain(begins, Outcome::NewFlow)
}

/// A packet of a flow that stands, and goes to its backend.
#[inline(always)]
pub(super) fn keep<E: Env>(
    env: &E,
    packet: &Packet,
    (table, entry, flow): (Table, &E::Entry<'_>, &Flow),
    (backend, now): (Backend, u64),
    bytes: impl Fn() -> usize,
) -> Decision {
    let mut concerns_both = false;
    // A second datagram is all that is seen here of the other side's answer.
    let goes_on = || flow.is_one_sided() && !packet.has_handshake();
    if table == Table::HalfOpen && (completes_handshake(flow, packet) || goes_on()) {
        if let Err(outcome) = flow::promote(env, packet, flow) {
            return Decision::drop(outcome);
        }
    } else {
        concerns_both = flow::note::<E>(table, entry, flow, packet, now);
    }
    env.count_request(backend.service, flow.backend, bytes());
    Decision::translate(flow, Outcome::Request).noting(concerns_both)
}

/// A packet that begins a flow with this backend, over an old entry if it `replaces` one. The ports are the client's, and the
/// node's in its place.
#[inline(always)]
pub(super) fn begin<E: Env>(
    env: &E,
    packet: &Packet,
    replaces: bool,
    (id, ports): (BackendId, (Be16, Be16)),
    bytes: impl Fn() -> usize,
) -> Decision {
    let Some(backend) = chosen(env, id) else {
        return Decision::drop(Outcome::NoBackend);
    };
    match open::open(env, packet, replaces, &Choice { id, backend }, ports) {
        Ok(flow) => {
            env.count_request(backend.service, flow.backend, bytes());
            Decision::translate(&flow, Outcome::NewFlow)
        }
        Err(outcome) => Decision::drop(outcome),
    }
}

/// The backend that was chosen. What was good a moment ago cannot be another's yet, but it may have been taken away.
#[inline(always)]
fn chosen<E: Env>(env: &E, id: BackendId) -> Option<Backend> {
    env.backend(id)
        .filter(|backend| backend.state != BackendState::FREE)
}

/// The client's port of a flow with this backend.
#[inline(always)]
pub(super) fn port<E: Env>(env: &E, packet: &Packet, id: BackendId) -> Result<Be16, Outcome> {
    let backend = chosen(env, id).ok_or(Outcome::NoBackend)?;
    open::find_port(env, packet, (backend.address, backend.port), false)
}

/// A try for the node's port in the place of the client's, of a flow with this backend.
#[inline(always)]
pub(super) fn node_port<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    packet: &Packet,
    (id, client_port): (BackendId, Be16),
    attempt: u32,
) -> Result<masquerade::Tried, Outcome> {
    let backend = chosen(env, id).ok_or(Outcome::NoBackend)?;
    masquerade::find_port(frame, env, packet, (&backend, client_port), attempt)
}

/// The verdict on a packet for which there is no backend.
#[inline(always)]
pub(super) const fn refusal(outcome: Outcome) -> Verdict {
    Decision::refuse(outcome).action.verdict(outcome)
}

/// Whether a client shows that it has heard the other side: no flood of SYNs does.
#[inline(always)]
pub(super) fn completes_handshake(flow: &Flow, packet: &Packet) -> bool {
    packet.has_handshake()
        && flow.state == FlowState::OPENING
        && !packet
            .flags
            .any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST)
}

/// TCP that is not a SYN and belongs to no flow: never balanced (C2).
#[inline(always)]
fn flowless<E: Env>(env: &E, packet: &Packet) -> Decision {
    let vip = packet.vip();
    match env.service(&vip) {
        Some(_) => Decision::refuse(Outcome::NoFlow),
        None => Decision::refuse(select::absent(env, &vip)),
    }
}

/// A packet to a pod.
#[inline(always)]
pub(super) fn reply<E: Env>(env: &E, packet: &Packet, bytes: impl Fn() -> usize) -> Decision {
    let mend = Decision::plain(Action::Mend, Outcome::NotOurs);
    let Some((table, entry)) = flow::find(env, &packet.key) else {
        return if may_want_mending(env, packet) {
            mend
        } else {
            hide_from_itself(env, packet)
        };
    };
    let flow = entry.get();
    if flow.direction == Direction::RETURN {
        return mend;
    }
    let decision = reply_of(env, packet, (table, &entry, &flow), bytes);
    let is_stale = decision.action == Action::Drop && decision.outcome == Outcome::StaleReply;
    if is_stale && flow.direction == Direction::MASQUERADE {
        return mend;
    }
    decision
}

/// Whether a packet without an entry may belong to a client that the node stands for: by bits alone, while there are such clients.
#[inline(always)]
fn may_want_mending<E: Env>(env: &E, packet: &Packet) -> bool {
    let key = &packet.key;
    !env.node_address(packet.is_v6).is(Addr::UNSPECIFIED)
        && key.source != key.destination
        && (env.is_endpoint(key.destination, key.destination_port)
            || env.is_endpoint(key.source, key.source_port))
}

/// A packet whose flow is known.
#[inline(always)]
pub(super) fn reply_of<E: Env>(
    env: &E,
    packet: &Packet,
    (table, entry, flow): (Table, &E::Entry<'_>, &Flow),
    bytes: impl Fn() -> usize,
) -> Decision {
    if flow.direction.is_request() {
        return Decision::pass();
    }
    let is_hidden = flow.direction == Direction::MASQUERADE;
    let is_direct = flow.direction.is_direct();
    let (backend, now) = (flow::backend(env, flow), env.now());
    if backend.is_none() && !is_direct || flow::is_over(env, &packet.key, flow, now) {
        return if is_direct {
            Decision::pass()
        } else {
            Decision::drop(Outcome::StaleReply)
        };
    }
    // An answer over UDP is all there is of a handshake; a hidden client is no answer.
    let has_answer = if is_hidden {
        completes_handshake(flow, packet)
    } else {
        !packet.has_handshake()
    };
    let mut concerns_both = false;
    if table == Table::HalfOpen && has_answer {
        // A direct flow that cannot be kept track of passes all the same.
        if let Err(outcome) = flow::promote(env, packet, flow)
            && !is_direct
        {
            return Decision::drop(outcome);
        }
    } else {
        concerns_both = flow::note::<E>(table, entry, flow, packet, now);
    }
    let Some(backend) = backend else {
        return past(packet.key.destination_port, flow).noting(concerns_both);
    };
    if is_hidden {
        return Decision::translate(flow, Outcome::Masqueraded).noting(concerns_both);
    }
    env.count_reply(backend.service, flow.backend, bytes());
    Decision::translate(flow, Outcome::Reply).noting(concerns_both)
}

/// A direct flow is touched only where it was given another port.
#[inline(always)]
fn past(client_port: Be16, flow: &Flow) -> Decision {
    if flow.client_port == client_port {
        Decision::pass()
    } else {
        Decision::translate(flow, Outcome::Direct)
    }
}

/// A packet that may go to a backend by its own address: a pod's flow is known, so that no flow of a service looks the
/// same to the backend (C12). What cannot be kept track of passes. Or it is an answer to the node, which goes on to the client
/// that the node stands for (E2).
#[inline(always)]
pub(super) fn direct<E: Env>(env: &E, packet: &Packet) -> Decision {
    let client_port = packet.key.source_port;
    if let Some((table, entry)) = flow::find(env, &packet.key) {
        let (flow, now) = (entry.get(), env.now());
        let is_hidden = flow.direction == Direction::UNMASQUERADE;
        if !is_hidden && flow.direction != Direction::DIRECT {
            return Decision::pass();
        }
        let stands = !is_hidden || flow::backend(env, &flow).is_some();
        if stands && !flow::is_over(env, &packet.key, &flow, now) {
            return beside_of(env, packet, (table, &entry, &flow), now);
        }
        if is_hidden {
            return Decision::drop(Outcome::StaleReply);
        }
        flow::leave(env, table, packet, &flow);
    }
    let FlowKey {
        destination,
        destination_port,
        ..
    } = packet.key;
    let begins = packet.opens() && packet.origin == Origin::Pod;
    if !begins || !env.is_endpoint(destination, destination_port) {
        return Decision::pass();
    }
    let opened = open::find_port(env, packet, (destination, destination_port), true)
        .and_then(|port| open::open_direct(env, packet, port));
    match opened {
        Ok(flow) => past(client_port, &flow),
        Err(Outcome::PortsExhausted) => Decision::drop(Outcome::PortsExhausted),
        Err(_) => Decision::pass(),
    }
}

/// A packet of such a flow that stands.
#[inline(always)]
pub(super) fn beside_of<E: Env>(
    env: &E,
    packet: &Packet,
    (table, entry, flow): (Table, &E::Entry<'_>, &Flow),
    now: u64,
) -> Decision {
    let is_hidden = flow.direction == Direction::UNMASQUERADE;
    // What comes to a hidden client is the answer.
    let has_answer = if is_hidden {
        !packet.has_handshake()
    } else {
        completes_handshake(flow, packet)
    };
    let mut concerns_both = false;
    if table == Table::HalfOpen && has_answer {
        // A direct flow that cannot be kept track of passes all the same.
        if let Err(outcome) = flow::promote(env, packet, flow)
            && is_hidden
        {
            return Decision::drop(outcome);
        }
    } else {
        concerns_both = flow::note::<E>(table, entry, flow, packet, now);
    }
    let decision = if is_hidden {
        Decision::translate(flow, Outcome::Masqueraded)
    } else {
        past(packet.key.source_port, flow)
    };
    decision.noting(concerns_both)
}

/// A packet from a pod to itself: if it is a request through a service, its answer shall come back here (D13).
#[inline(always)]
fn hide_from_itself<E: Env>(env: &E, packet: &Packet) -> Decision {
    let mut key = packet.key;
    key.turn();
    if key.source != key.destination || !is_reply(env, &key) {
        return Decision::pass();
    }
    let key = &packet.key;
    Decision {
        action: Action::Translate,
        outcome: Outcome::Hairpin,
        address: if packet.is_v6 {
            env.settings().hairpin_v6
        } else {
            env.settings().hairpin_v4
        },
        port: key.source_port,
        client_port: key.destination_port,
        concerns_both: false,
    }
}

/// The answer of a pod to itself, under the address that hid it: goes on to the pod, where its flow is found.
#[inline(always)]
pub(super) fn back_to_itself<E: Env>(env: &E, packet: &Packet) -> Decision {
    let mut key = packet.key;
    key.destination = key.source;
    if !is_reply(env, &key) {
        return Decision::drop(Outcome::StaleReply);
    }
    Decision {
        action: Action::Translate,
        outcome: Outcome::Hairpin,
        address: key.source,
        port: key.destination_port,
        client_port: key.source_port,
        concerns_both: false,
    }
}

#[inline(always)]
fn is_reply<E: Env>(env: &E, key: &FlowKey) -> bool {
    flow::find(env, key).is_some_and(|(_, entry)| {
        let flow = entry.get();
        flow.direction == Direction::REPLY && flow::backend(env, &flow).is_some()
    })
}
