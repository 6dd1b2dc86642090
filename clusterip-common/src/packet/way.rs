//! The ways that packets take. Each is a function of its own, in the kernel too, because together they need more than the
//! 512 bytes of stack that a program has, and so that the verifier looks at each once. Each wants a frame that was entered, with its headers in reach.

use super::{
    decide::{self, Action, Decision},
    env::Env,
    exit::Onward,
    family::{Family, V4, V6},
    flow, fragment,
    frame::Frame,
    masquerade::{self, Tried},
    parse::{self, Packet, Ports, Read},
    select,
    translate::{Piece, Translation},
    uplink::{Concern, Origin, concern},
    verdict::Verdict,
};
use crate::{
    abi::{BackendId, Direction, FlowKey, Outcome},
    wire::{Addr, Be16, Proto},
};

/// What one way leaves for the next: of one packet.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Work {
    /// What was read of it.
    pub(super) packet: Packet,
    /// What is to be done to it, once that is decided.
    pub translation: Translation,
    /// How it leaves past the stack, where it does.
    pub(super) onward: Onward,
}

impl Work {
    /// Before anything was seen.
    pub const NONE: Self = Self {
        packet: Packet::NONE,
        translation: Translation::NONE,
        onward: Onward::NONE,
    };
}

/// What is next for a packet.
#[derive(Clone, Copy)]
pub enum Next {
    /// It is translated, as was written: call [`translate`](super::translate).
    Translate,
    /// Before that, or before it passes, the entries of both sides are to be written: call [`note`].
    Note,
    /// That is all. `Refuse`: call [`reject`].
    Verdict(Verdict),
    /// It begins a flow, perhaps in the place of another one: call [`choose`].
    Choose {
        /// There is an entry.
        replaces: bool,
    },
    /// It has a backend: call [`port`].
    Backend(BackendId),
    /// Its client has this port towards the backend: call [`node_port`].
    Port(Be16),
    /// And this port of the node stands for that, or none does (0): call [`open`].
    NodePort(Be16),
    /// A port of the node is somebody else's: call [`node_port`] for the next try.
    Taken,
    /// It is for no service, but may concern one: call [`beside`].
    Beside,
    /// It may be a reply that goes past the stack: call [`turn`](super::turn), then as above.
    Turn,
    /// Its way is to be looked up: call [`ask`](super::ask).
    LookUp,
    /// It may belong to a client whom another node forwarded: call [`returned`](super::returned), if there are such. Or to one that the node
    /// stands for, and has no entry: call [`mend`].
    Mend,
}

/// What a pod sends, or what comes in by an uplink, that is no ICMP.
#[inline(always)]
pub fn flow_from_pod<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    (is_v6, origin): (bool, Origin),
    work: &mut Work,
) -> Next {
    let read = if is_v6 {
        read_request::<V6, F, E>(frame, env, origin)
    } else {
        read_request::<V4, F, E>(frame, env, origin)
    };
    // From here on it is read where it is kept, which takes none of the stack.
    work.packet = match read {
        Ok(packet) => packet,
        Err(stop) => return stop.into(),
    };
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = decide::request(env, packet, || frame.len());
    match decision.action {
        Action::Begin => Next::Choose { replaces: false },
        Action::BeginAnew => Next::Choose { replaces: true },
        _ => settle(
            packet,
            frame.network(),
            &decision,
            Direction::REQUEST,
            translation,
        ),
    }
}

/// A packet that begins a flow of a service, as [`flow_from_pod`] found: its backend.
#[inline(always)]
pub fn choose<E: Env>(env: &E, work: &Work) -> Next {
    let packet = &work.packet;
    match select::choose(env, &packet.vip(), &packet.key, packet.key.source) {
        Ok(choice) => Next::Backend(choice.id),
        Err(outcome) => Next::Verdict(decide::refusal(outcome)),
    }
}

/// The port of a packet that begins a flow with the backend of [`choose`].
#[inline(always)]
pub fn port<E: Env>(env: &E, work: &Work, backend: BackendId) -> Next {
    match decide::port(env, &work.packet, backend) {
        Ok(port) => Next::Port(port),
        Err(outcome) => Next::Verdict(Verdict::Drop(outcome)),
    }
}

/// The node's port in the place of that, if the packet came by an uplink and its service wants it (E2). `attempt` counts the
/// tries, from 0 on up to [`PORT_TRIES`](super::PORT_TRIES).
#[inline(always)]
pub fn node_port<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    work: &Work,
    chosen: (BackendId, Be16),
    attempt: u32,
) -> Next {
    match decide::node_port(frame, env, &work.packet, chosen, attempt) {
        Ok(Tried::Port(port)) => Next::NodePort(port),
        Ok(Tried::Taken) => Next::Taken,
        Err(outcome) => Next::Verdict(Verdict::Drop(outcome)),
    }
}

/// A packet that begins a flow with the backend of [`choose`] and the ports of [`port`] and [`node_port`]. [`Next::Taken`]: another processor
/// has got the node's port meanwhile (E8).
#[inline(always)]
pub fn open<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    work: &mut Work,
    replaces: bool,
    chosen: (BackendId, (Be16, Be16)),
) -> Next {
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = decide::begin(env, packet, replaces, chosen, || frame.len());
    if decision.action == Action::Drop && decision.outcome == Outcome::PortsExhausted {
        return Next::Taken;
    }
    settle(
        packet,
        frame.network(),
        &decision,
        Direction::REQUEST,
        translation,
    )
}

/// A packet past the services: a pod's answer to itself, one to a backend by its own address, or an answer to the node. What
/// cannot be read is none.
#[inline(always)]
pub fn beside<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    (is_v6, origin): (bool, Origin),
    work: &mut Work,
) -> Next {
    let read = if is_v6 {
        read_beside::<V6, F, E>(frame, env)
    } else {
        read_beside::<V4, F, E>(frame, env)
    };
    let Some((read, is_hairpin)) = read else {
        return PASS;
    };
    work.packet = read;
    work.packet.origin = origin;
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = if is_hairpin {
        decide::back_to_itself(env, packet)
    } else {
        decide::direct(env, packet)
    };
    settle(
        packet,
        frame.network(),
        &decision,
        Direction::REQUEST,
        translation,
    )
}

pub(super) const PASS: Next = Next::Verdict(Verdict::Pass(Outcome::NotOurs));

/// Writes the entries of both sides of a flow, for a packet that ends it, or begins it anew, and now and then.
#[inline(always)]
pub fn note<E: Env>(env: &E, work: &Work) -> Next {
    flow::note_both(env, &work.packet);
    if work.translation.is_none() {
        PASS
    } else {
        Next::Translate
    }
}

/// Answers what was refused.
#[inline(always)]
pub fn reject<F: Frame, E: Env>(frame: &mut F, env: &E, work: &Work, outcome: Outcome) -> Verdict {
    let packet = &work.packet;
    if packet.is_v6 {
        super::reject::reject::<V6, F, E>(frame, env, packet, outcome)
    } else {
        super::reject::reject::<V4, F, E>(frame, env, packet, outcome)
    }
}

/// What a pod is about to receive that is no ICMP.
#[inline(always)]
pub fn flow_to_pod<F: Frame, E: Env>(frame: &F, env: &E, is_v6: bool, work: &mut Work) -> Next {
    let read = if is_v6 {
        read_reply::<V6, F, E>(frame, env)
    } else {
        read_reply::<V4, F, E>(frame, env)
    };
    work.packet = match read {
        Ok(packet) => packet,
        Err(verdict) => return Next::Verdict(verdict),
    };
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = decide::reply(env, packet, || frame.len());
    settle(
        packet,
        frame.network(),
        &decision,
        Direction::REPLY,
        translation,
    )
}

/// A packet on its way out that may belong to a client whom the node stands for, as [`flow_to_pod`] found, and has no entry.
#[inline(always)]
pub fn mend<E: Env>(env: &E, network: usize, work: &mut Work) -> Next {
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = masquerade::mend(env, packet);
    settle(packet, network, &decision, Direction::REPLY, translation)
}

/// Why a packet is not one of a service.
enum Stop {
    Verdict(Verdict),
    Beside,
    Turn,
}

impl From<Stop> for Next {
    #[inline(always)]
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Verdict(verdict) => Self::Verdict(verdict),
            Stop::Beside => Self::Beside,
            Stop::Turn => Self::Turn,
        }
    }
}

/// A packet to a service, or what is next for one that is not, is no flow, or cannot be read.
#[inline(always)]
fn read_request<A: Family, F: Frame, E: Env>(
    frame: &F,
    env: &E,
    origin: Origin,
) -> Result<Packet, Stop> {
    let ip = header::<A, F>(frame).map_err(Stop::Verdict)?;
    let is_cluster = A::is_for_service(ip, env.settings());
    if !is_cluster {
        // Most packets from a pod end here: no backend and no service has the address and port they go to.
        let concern = concern::<A, F, E>(frame, env, ip);
        // By an uplink comes what a pod of another node answers; an answer to the node has its own way.
        let from_backend = match origin {
            Origin::Pod => !matches!(concern, Concern::Frontend),
            Origin::Inside => matches!(concern, Concern::Nobody),
            Origin::Outside => false,
        };
        if from_backend && may_turn::<A, F, E>(frame, env, ip) {
            return Err(Stop::Turn);
        }
        match concern {
            Concern::Frontend => {}
            Concern::Beside => return Err(Stop::Beside),
            Concern::Nobody => return Err(Stop::Verdict(Verdict::Pass(Outcome::NotOurs))),
        }
    }
    // An address towards the outside is not the services' alone.
    let stop = |outcome| {
        if is_cluster {
            Stop::Verdict(Verdict::Drop(outcome))
        } else {
            Stop::Verdict(Verdict::Pass(Outcome::NotOurs))
        }
    };
    match parse::read::<A, F>(frame, ip).map_err(stop)? {
        Read::Flow(mut packet, id) => {
            if !fragment::complete(env, &mut packet, id) {
                return Err(stop(Outcome::Fragment));
            }
            packet.origin = origin;
            if !is_cluster {
                packet.scope = origin.scope();
                if env.service(&packet.vip()).is_none() {
                    return Err(Stop::Beside);
                }
            }
            Ok(packet)
        }
        Read::Other => Err(stop(Outcome::OtherProtocol)),
    }
}

/// Whether a packet may be a reply that goes past the stack: by a bit alone.
#[inline(always)]
pub(super) fn may_turn<A: Family, F: Frame, E: Env>(frame: &F, env: &E, ip: &A::Header) -> bool {
    if !env.settings().is_past_stack() {
        return false;
    }
    let (source, (_, header)) = (A::source(ip), A::quoted(ip));
    let ports = frame.at::<Ports>(frame.network() + header);
    !A::is_hairpin(ip, env.settings())
        && ports.is_some_and(|ports| env.is_endpoint(source, ports.source))
}

/// A packet past the services, and whether it goes to the address that hides a pod from itself.
#[inline(always)]
pub(super) fn read_beside<A: Family, F: Frame, E: Env>(
    frame: &F,
    env: &E,
) -> Option<(Packet, bool)> {
    let ip = header::<A, F>(frame).ok()?;
    let is_hairpin = A::is_hairpin(ip, env.settings());
    match parse::read::<A, F>(frame, ip) {
        Ok(Read::Flow(mut packet, id)) => {
            fragment::complete(env, &mut packet, id).then_some((packet, is_hairpin))
        }
        Ok(Read::Other) | Err(_) => None,
    }
}

/// What cannot be read cannot be a reply of ours: the pod's own stack judges it.
#[inline(always)]
fn read_reply<A: Family, F: Frame, E: Env>(frame: &F, env: &E) -> Result<Packet, Verdict> {
    let pass = Verdict::Pass(Outcome::NotOurs);
    let ip = header::<A, F>(frame)?;
    match parse::read::<A, F>(frame, ip) {
        Ok(Read::Flow(mut packet, id)) => {
            // Most packets to a pod end here: no backend has the address and port they come from.
            let FlowKey {
                source,
                source_port,
                destination,
                destination_port,
                ..
            } = packet.key;
            if packet.piece != Piece::Later
                && source != destination
                && !env.is_endpoint(source, source_port)
                && !may_be_hidden(env, destination, destination_port)
            {
                return Err(pass);
            }
            if fragment::complete(env, &mut packet, id) {
                Ok(packet)
            } else {
                Err(pass)
            }
        }
        Ok(Read::Other) | Err(_) => Err(pass),
    }
}

/// Whether a packet to there may come from a client that the node is to stand for (E2).
#[inline(always)]
fn may_be_hidden<E: Env>(env: &E, destination: Addr, port: Be16) -> bool {
    let is_served = !env
        .node_address(!destination.is_mapped())
        .is(Addr::UNSPECIFIED);
    is_served && env.is_endpoint(destination, port)
}

/// Bytes that are pulled where a header has options or extensions.
const EXTENDED: usize = 512;

/// Brings in reach all that is read of a frame's headers, and says what follows the first. [`is_icmp`](super::is_icmp) and
/// [`admit`](super::admit) call it, and each way is behind one of them.
#[inline(always)]
pub(super) fn reach<A: Family, F: Frame>(frame: &mut F) -> Option<Proto> {
    let network = frame.network();
    frame.pull(network + A::HEADERS);
    let ip = frame.at::<A::Header>(network)?;
    let ((next, _), has_extensions) = (A::quoted(ip), A::has_extensions(ip));
    if has_extensions {
        frame.pull(EXTENDED);
    }
    Some(next)
}

/// The IP header of a packet that is not to be taken for another one.
#[inline(always)]
pub(super) fn header<A: Family, F: Frame>(frame: &F) -> Result<&A::Header, Verdict> {
    let ip = frame
        .at::<A::Header>(frame.network())
        .ok_or(Verdict::Pass(Outcome::Truncated))?;
    if A::has_mapped_address(ip) {
        return Err(Verdict::Drop(Outcome::MappedAddress));
    }
    Ok(ip)
}

/// What a decision comes to.
#[inline(always)]
pub(super) fn settle(
    packet: &Packet,
    network: usize,
    decision: &Decision,
    side: Direction,
    out: &mut Translation,
) -> Next {
    let Decision {
        action,
        outcome,
        address,
        port,
        client_port,
        concerns_both,
    } = *decision;
    let next = if action == Action::Translate {
        *out = Translation::new(packet, network, side, outcome, (address, port, client_port));
        Next::Translate
    } else if action == Action::Mend {
        Next::Mend
    } else {
        if concerns_both {
            *out = Translation::NONE;
        }
        Next::Verdict(action.verdict(outcome))
    };
    if concerns_both { Next::Note } else { next }
}
