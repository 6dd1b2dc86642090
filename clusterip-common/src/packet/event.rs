//! What is told of a packet or a call, where somebody listens: whether it is an event, whether it is wanted, and what it
//! says. The hooks ask here after the verdict, so that no decision knows of it.

use super::{
    env::Env,
    family::{Family, V4, V6},
    frame::Frame,
    parse::Ports,
    socket::{Socket, SocketTable, SocketVerdict},
    verdict::Verdict,
    way::Work,
};
use crate::{
    abi::{
        Direction, Event, EventHook, EventKind, Outcome, Scope, ServiceId, ServiceKey, SocketKey,
        Watch, event::CAPTURE,
    },
    wire::{Addr, Be16, Proto},
};

/// The event that a verdict is. `ended`: this packet ended its flow.
#[inline(always)]
#[must_use]
pub const fn kind(verdict: Verdict, ended: bool) -> Option<EventKind> {
    match verdict {
        Verdict::Translated(Outcome::NewFlow) => Some(EventKind::OPENED),
        Verdict::Translated(Outcome::Request | Outcome::Reply) if ended => Some(EventKind::CLOSED),
        // Of an error about a flow, what it tells of the flow is not what it is.
        // A client from outside is told of where its service is.
        Verdict::Pass(_)
        | Verdict::Refuse(_)
        // Of a link address no flow is told.
        | Verdict::Reply(Outcome::Announced)
        | Verdict::Translated(Outcome::IcmpError | Outcome::Masqueraded) => None,
        Verdict::Translated(_) => Some(EventKind::TRANSLATED),
        Verdict::Reply(Outcome::Ping) => Some(EventKind::ANSWERED),
        Verdict::Reply(_) => Some(EventKind::REJECTED),
        Verdict::Drop(_) => Some(EventKind::DROPPED),
    }
}

/// The event that a verdict on a call is. Calls that follow an earlier one are none: each datagram would be.
#[inline(always)]
#[must_use]
pub const fn kind_of_call(verdict: SocketVerdict) -> Option<EventKind> {
    match verdict {
        SocketVerdict::Translated(Outcome::SocketNewFlow) => Some(EventKind::OPENED),
        SocketVerdict::Pass(_) | SocketVerdict::Translated(_) => None,
        SocketVerdict::Refuse(_) => Some(EventKind::REJECTED),
        SocketVerdict::Deny(_) => Some(EventKind::DROPPED),
    }
}

/// Whether the frame of such an event is wanted, or may be.
#[inline(always)]
#[must_use]
pub const fn wants_frame(watch: &Watch, kind: EventKind) -> bool {
    watch.capture != 0 && matches!(kind, EventKind::REJECTED | EventKind::DROPPED)
}

/// One end of a flow.
type End = (Addr, Be16);

const NOBODY: End = (Addr::UNSPECIFIED, Be16::new(0));

/// Writes what is to be told of a packet, but for time, device and frame; false if its service is not wanted, or chance
/// left it out.
///
/// The frame was entered. What was translated or refused is told by what was read of it before, everything else by what
/// is in the frame.
#[inline(always)]
pub fn describe<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    work: &Work,
    watch: &Watch,
    (kind, outcome, hook, is_v6): (EventKind, u32, EventHook, bool),
    out: &mut Event,
) -> bool {
    if kind == EventKind::TRANSLATED && !is_of_sample(env, watch) {
        return false;
    }
    match kind {
        EventKind::OPENED | EventKind::TRANSLATED | EventKind::CLOSED => translated(work, out),
        EventKind::REJECTED => {
            let key = &work.packet.key;
            out.protocol = key.protocol;
            ends(
                out,
                (key.source, key.source_port),
                (key.destination, key.destination_port),
                NOBODY,
            );
        }
        _ if is_v6 => as_it_is::<V6, F>(frame, kind, hook, out),
        _ => as_it_is::<V4, F>(frame, kind, hook, out),
    }
    out.kind = kind;
    out.outcome = outcome;
    out.hook = hook;
    out.is_bare = (frame.network() == 0).into();
    #[expect(clippy::cast_possible_truncation, reason = "no frame is that long")]
    let bytes = frame.len() as u32;
    out.bytes = bytes;
    is_wanted(env, watch, out)
}

/// Writes what is to be told of a call after the verdict on it, but for the time; false if its service is not wanted.
#[inline(always)]
pub fn describe_call<S: Socket, E: SocketTable>(
    socket: &S,
    env: &E,
    watch: &Watch,
    (kind, outcome): (EventKind, u32),
    out: &mut Event,
) -> bool {
    let peer = socket.peer();
    let (frontend, backend) = if kind == EventKind::OPENED {
        let reply = SocketKey::new(socket.cookie(), Direction::REPLY, peer.0, peer.1);
        let flow = env.socket_flow(&reply);
        (flow.map_or(NOBODY, |flow| (flow.address, flow.port)), peer)
    } else {
        (peer, NOBODY)
    };
    ends(out, NOBODY, frontend, backend);
    out.protocol = socket.protocol();
    out.kind = kind;
    out.outcome = outcome;
    out.hook = EventHook::SOCKET;
    out.bytes = 0;
    is_wanted(env, watch, out)
}

#[inline(always)]
fn is_of_sample<E: Env>(env: &E, watch: &Watch) -> bool {
    match watch.sample {
        0 => false,
        1 => true,
        sample => env.random().is_multiple_of(sample),
    }
}

/// Finds the service, and whether it is one that is wanted.
#[inline(always)]
fn is_wanted<E: Env>(env: &E, watch: &Watch, out: &mut Event) -> bool {
    let vip = ServiceKey::new(out.frontend, out.frontend_port, out.protocol);
    let head = env
        .service(&vip)
        .or_else(|| env.service(&vip.seen(Scope::OUTSIDE)));
    out.service = match head {
        // The entry of an address alone is no balancer's.
        Some(head) if !vip.is_address() => head.id,
        _ => ServiceId::NONE,
    };
    watch.may_want(out.service)
}

#[inline(always)]
const fn ends(out: &mut Event, client: End, frontend: End, backend: End) {
    (out.client, out.client_port) = client;
    (out.frontend, out.frontend_port) = frontend;
    (out.backend, out.backend_port) = backend;
}

/// Of a packet that was translated.
#[inline(always)]
fn translated(work: &Work, out: &mut Event) {
    let (key, done) = (&work.packet.key, &work.translation);
    out.protocol = key.protocol;
    if done.side == Direction::REQUEST {
        ends(
            out,
            (key.source, key.source_port),
            (key.destination, key.destination_port),
            (done.address, done.new.destination),
        );
    } else {
        ends(
            out,
            (key.destination, done.new.destination),
            (done.address, done.new.source),
            (key.source, key.source_port),
        );
    }
}

/// Of a frame that is as it came, or a ping that was turned around.
#[inline(always)]
fn as_it_is<A: Family, F: Frame>(frame: &F, kind: EventKind, hook: EventHook, out: &mut Event) {
    let network = frame.network();
    let Some(ip) = frame.at::<A::Header>(network) else {
        out.protocol = Proto(0);
        ends(out, NOBODY, NOBODY, NOBODY);
        return;
    };
    let (protocol, header) = A::quoted(ip);
    let (source, destination) = (A::source(ip), A::destination(ip));
    let has_ports =
        matches!(protocol, Proto::TCP | Proto::UDP | Proto::SCTP) && A::quotes_ports(ip);
    let ports = match frame.at::<Ports>(network + header) {
        Some(ports) if has_ports => *ports,
        _ => Ports::NONE,
    };
    out.protocol = protocol;
    let (from, to) = ((source, ports.source), (destination, ports.destination));
    if kind == EventKind::ANSWERED {
        ends(out, to, from, NOBODY);
    } else if hook == EventHook::TO_POD {
        ends(out, to, NOBODY, from);
    } else {
        ends(out, from, to, NOBODY);
    }
}

/// Copies the beginning of a frame, and says how many bytes that are.
#[inline(always)]
pub fn copy<F: Frame>(frame: &F, to: &mut [u8; CAPTURE]) -> u32 {
    let mut copied = 0;
    for (at, place) in to.iter_mut().enumerate() {
        let Some([byte]) = frame.at::<[u8; 1]>(at) else {
            break;
        };
        *place = *byte;
        copied += 1;
    }
    copied
}
