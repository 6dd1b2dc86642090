//! Past the stack (docs/forwarding.md): where a translated packet may go on, and what is done to it then.
//!
//! The way between two addresses is looked up once, and remembered until the agent sees something change (the stamp's
//! generation), for an eighth of a second at most: so that it holds without an agent too.

use super::{
    decide::{self, Action},
    env::{Env, FlowEntry as _},
    exit::{Beyond, Exit, Found, Onward, Route, WAYS, Way},
    family::{Family, V4, V6},
    flow,
    frame::Frame,
    link::ETHERNET,
    parse::{Packet, Ports, Read, read},
    translate::{Piece, translate},
    verdict::Verdict,
    way::{Next, PASS, Work, header, settle},
};
use crate::{
    abi::{Direction, Inside, Outcome, endpoint},
    wire::{Addr, Proto},
};

/// A way is looked up again when this many bits of the time in nanoseconds have gone round: 134 ms.
const SLICE: u32 = 27;

/// A question for the way of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// From whom, as the stack would see it,
    pub source: Addr,
    /// to whom,
    pub target: Addr,
    /// and the ports.
    pub ports: Ports,
    /// TCP, UDP or SCTP.
    pub protocol: Proto,
    /// The family.
    pub is_v6: bool,
    /// When it was asked: before the answer, so that no change in between is missed.
    stamp: u32,
}

/// Of what is remembered, all that has this stamp holds: the agent's count of changes, and the time.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "two hours are enough of the time"
)]
pub fn stamp<E: Env>(env: &E) -> u32 {
    env.changes() << 16 | u32::from((env.now() >> SLICE) as u16)
}

/// Where a packet is remembered.
#[inline(always)]
pub(super) const fn place(source: Addr, target: Addr) -> u32 {
    let ([s0, s1], [t0, t1]) = (source.words(), target.words());
    let seed = s1 ^ s0.rotate_left(31) ^ (t1 ^ t0.rotate_left(31)).rotate_left(17);
    #[expect(clippy::cast_possible_truncation, reason = "a few of its bits")]
    let mixed = endpoint::mix(seed) as u32;
    mixed & (WAYS - 1)
}

/// Both ends of a packet as the stack sees it: a request after the translation, a reply before.
#[inline(always)]
fn ends(work: &Work, side: Direction) -> (Addr, Addr) {
    let key = &work.packet.key;
    let target = if side == Direction::REQUEST {
        work.translation.address
    } else {
        key.destination
    };
    (key.source, target)
}

/// Which way a packet goes on that is about to be translated. [`Exit::Unknown`]: the way is to be looked up ([`ask`],
/// [`learn`]).
#[inline(always)]
#[must_use]
pub fn exit<F: Frame, E: Env>(frame: &F, env: &E, work: &mut Work, side: Direction) -> Exit {
    let (source, target) = ends(work, side);
    if source.is(target) {
        // Its reply turns at the pod's own device, behind the stack (D13).
        return Exit::Itself;
    }
    let Some(way) = env.way(place(source, target)) else {
        return Exit::NoRoute;
    };
    if way.stamp != stamp(env) || !way.source.is(source) || !way.target.is(target) {
        return Exit::Unknown;
    }
    if !way.exit.is_past_stack() {
        return way.exit;
    }
    // A reply that leaves by an uplink turns there.
    if side != Direction::REQUEST && way.exit != Exit::Peer {
        return Exit::OtherDevice;
    }
    if work.packet.piece != Piece::Whole {
        return Exit::Fragment;
    }
    let fits = if work.packet.is_v6 {
        fits::<V6, F>(frame, work, way.mtu)
    } else {
        fits::<V4, F>(frame, work, way.mtu)
    };
    // So that it is not looked for again when the packet departs.
    work.onward = Onward {
        macs: way.macs,
        device: way.device,
    };
    fits.err().unwrap_or(way.exit)
}

/// Whether a packet needs nothing of the stack; else what it needs.
#[inline(always)]
fn fits<A: Family, F: Frame>(frame: &F, work: &Work, mtu: u32) -> Result<(), Exit> {
    let l4 = ETHERNET + A::HEADER;
    if frame.network() != ETHERNET || work.packet.l4 != l4 {
        return Err(Exit::Headers);
    }
    let ip = frame.at::<A::Header>(ETHERNET).ok_or(Exit::Headers)?;
    if A::hops(ip) <= 1 {
        return Err(Exit::HopLimit);
    }
    let length = match frame.segment() {
        0 => frame.len() - ETHERNET,
        // What it will be cut to, by the device or the receiver's end.
        segment => {
            let header = if work.packet.key.protocol == Proto::TCP {
                let [offset] = *frame.at::<[u8; 1]>(l4 + 12).ok_or(Exit::Headers)?;
                usize::from(offset >> 4) * 4
            } else {
                8
            };
            A::HEADER + header + segment
        }
    };
    if length > mtu as usize {
        return Err(Exit::Size);
    }
    Ok(())
}

/// What is to be asked for the way of a packet.
#[inline(always)]
#[must_use]
pub fn ask<E: Env>(env: &E, work: &Work, side: Direction) -> Ask {
    let key = &work.packet.key;
    let (source, target) = ends(work, side);
    let ports = if side == Direction::REQUEST {
        work.translation.new
    } else {
        Ports {
            source: key.source_port,
            destination: key.destination_port,
        }
    };
    Ask {
        source,
        target,
        ports,
        protocol: key.protocol,
        is_v6: work.packet.is_v6,
        stamp: stamp(env),
    }
}

/// Remembers the answer.
#[inline(always)]
pub fn learn<E: Env>(env: &E, ask: &Ask, route: &Route) {
    let whose = env.inside(ask.target);
    let exit = match route.found {
        Found::Nothing => Exit::NoRoute,
        Found::NoNeighbour => Exit::NoNeighbour,
        Found::All => match env.beyond(route.device) {
            Beyond::POD => Exit::Peer,
            // To what is no pod the stack may have to give another source.
            beyond if beyond.is_uplink() && whose == Inside::PODS => Exit::Neighbour,
            _ => Exit::OtherDevice,
        },
    };
    env.set_way(place(ask.source, ask.target), &ask.answered(route, exit));
}

impl Ask {
    /// What is to be remembered of the answer.
    #[inline(always)]
    pub(super) const fn answered(&self, route: &Route, exit: Exit) -> Way {
        Way {
            source: self.source,
            target: self.target,
            stamp: self.stamp,
            exit,
            device: route.device,
            mtu: route.mtu,
            macs: route.macs,
        }
    }
}

/// Translates a packet and makes it ready to go on the way that [`exit`] found; the verdict, and the device that it leaves by, 0 if that
/// is the stack's affair.
#[inline(always)]
pub fn depart<F: Frame, E: Env>(frame: &mut F, env: &E, work: &Work, exit: Exit) -> (Verdict, u32) {
    let bytes = frame.len();
    let verdict = translate(frame, &work.translation);
    if !matches!(verdict, Verdict::Translated(_)) {
        return (verdict, 0);
    }
    env.count_exit(exit, bytes);
    if !exit.is_past_stack() {
        return (verdict, 0);
    }
    let Onward { macs, device } = work.onward;
    let mut prepare = || {
        // A neighbour's the kernel finds.
        if exit != Exit::Neighbour {
            macs.write(frame)?;
        }
        if work.packet.is_v6 {
            take_hop::<V6, F>(frame)
        } else {
            take_hop::<V4, F>(frame)
        }
    };
    match prepare() {
        Some(()) => (verdict, device),
        None => (Verdict::Drop(Outcome::Truncated), 0),
    }
}

/// The time to live goes down by one, which is the stack's work otherwise (D10).
#[inline(always)]
fn take_hop<A: Family, F: Frame>(frame: &mut F) -> Option<()> {
    let change = A::take_hop(frame.at_mut::<A::Header>(ETHERNET)?);
    if A::IS_V6 {
        frame.add_to_sum(change);
    }
    Some(())
}

/// What a backend sends: a reply to a pod of this node turns here, if it can go straight on, and else at the client's
/// device (docs/adr/0001-where-replies-turn.md). [`Next::LookUp`]: the way is to be looked up first.
#[inline(always)]
pub fn turn<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool, work: &mut Work) -> Next {
    let packet = if is_v6 {
        whole::<V6, F>(frame)
    } else {
        whole::<V4, F>(frame)
    };
    let Some(packet) = packet else {
        return Next::Beside;
    };
    work.packet = packet;
    let Some((table, entry)) = flow::find(env, &work.packet.key) else {
        return Next::Beside;
    };
    let flow = entry.get();
    if flow.direction != Direction::REPLY {
        return Next::Beside;
    }
    match exit(frame, env, work, Direction::REPLY) {
        Exit::Unknown => return Next::LookUp,
        Exit::Peer => {}
        stack => {
            env.count_exit(stack, frame.len());
            return PASS;
        }
    }
    let Work {
        packet,
        translation,
        ..
    } = work;
    let mut decision = decide::reply_of(env, packet, (table, &entry, &flow), || frame.len());
    // At once: who calls this goes on to [`depart`], and would have to know of a step between.
    if decision.concerns_both {
        flow::note_both(env, packet);
        decision.concerns_both = false;
    }
    if decision.action == Action::Drop && decision.outcome == Outcome::StaleReply {
        // For the client's device to say.
        return PASS;
    }
    settle(
        packet,
        frame.network(),
        &decision,
        Direction::REPLY,
        translation,
    )
}

/// A packet in one piece.
#[inline(always)]
pub(super) fn whole<A: Family, F: Frame>(frame: &F) -> Option<Packet> {
    let ip = header::<A, F>(frame).ok()?;
    match read::<A, F>(frame, ip) {
        Ok(Read::Flow(packet, None)) => Some(packet),
        _ => None,
    }
}
