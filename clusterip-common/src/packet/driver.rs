//! What comes in by an uplink, at its driver (docs/adr/0017-at-the-driver.md).
//!
//! A packet of a flow that is known, and whose way leads out of a driver, has both its ends translated at once, which TC does
//! at ingress and at egress, and is sent on. What begins a flow, goes to a pod of this node, or needs the stack, is left to TC as
//! it came: the decisions are the same functions, and nothing is written before it is certain that the packet ends here.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    decide::{self, Decision},
    env::{Env, FlowEntry as _},
    exit::{Beyond, Exit, Found, Route},
    family::{Family, V4, V6},
    flow::{self, Standing},
    frame::Frame,
    leave::{Ask, ask, depart, exit, place, whole},
    link::Link,
    parse::Packet,
    translate::translate,
    uplink::{Concern, Origin, admit, concern},
    verdict::Verdict,
    way::{Next, PASS, Work, mend, note, settle},
};
use crate::abi::{Direction, EventHook, Flow, Outcome};

/// Ways between the same two addresses that were asked for within so many slices of the stamp are of one period: 8.6 s.
const PERIOD: u32 = 0xffc0;
/// Of an Ethernet address of several machines, in its first byte.
const TO_SEVERAL: u8 = 1;

/// What becomes of a packet at a driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Delivery {
    /// It goes on to TC as it came, which counts it.
    Pass,
    /// It ends here.
    End(Verdict),
    /// It ends here too, but one end of it was translated: the verdicts as below.
    EndHalfway([Verdict; 2]),
    /// It leaves by this device; the verdicts are those of TC at ingress and at egress.
    Send(u32, [Verdict; 2]),
}

/// A packet at an uplink's driver.
#[inline(always)]
pub fn at_driver<F: Frame, E: Env>(frame: &mut F, env: &E, link: Link) -> Delivery {
    let (network, origin) = match admit::<false, F, E>(frame, env, link) {
        Ok(admitted) => admitted,
        Err(Verdict::Drop(outcome)) => return Delivery::End(Verdict::Drop(outcome)),
        Err(_) => return Delivery::Pass,
    };
    let (is_v6, mut work) = (network.is_v6, Work::NONE);
    let Some(of) = read(frame, env, (is_v6, origin), &mut work) else {
        return Delivery::Pass;
    };
    let mut next = known(frame, env, of, &mut work);
    if matches!(next, Next::LookUp) {
        let ask = ask(env, &work, Direction::REQUEST);
        if !learn_at_driver(env, &ask, &env.route(&ask)) {
            return Delivery::Pass;
        }
        next = known(frame, env, of, &mut work);
    }
    if matches!(next, Next::Note) {
        next = note(env, &work);
    }
    match next {
        Next::Translate => {}
        Next::Verdict(Verdict::Drop(outcome)) => return Delivery::End(Verdict::Drop(outcome)),
        _ => return Delivery::Pass,
    }
    let (first, device) = depart(frame, env, &work, Exit::Driver);
    env.tell(frame, &work, (EventHook::DRIVER, is_v6), first);
    if device == 0 {
        return Delivery::End(first);
    }
    let mut next = other_end(env, frame.network(), &mut work, frame.len());
    if matches!(next, Next::Mend) {
        next = mend(env, frame.network(), &mut work);
    }
    if matches!(next, Next::Note) {
        next = note(env, &work);
    }
    let second = match next {
        Next::Translate => translate(frame, &work.translation),
        Next::Verdict(verdict) => verdict,
        _ => Verdict::Pass(Outcome::NotOurs),
    };
    env.tell(frame, &work, (EventHook::DRIVER, is_v6), second);
    match second {
        Verdict::Drop(_) => Delivery::EndHalfway([first, second]),
        _ => Delivery::Send(device, [first, second]),
    }
}

/// Which entry of a flow a packet may have, by what it says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Of {
    /// That of a request to a service.
    Request,
    /// That of what a backend answers to the node, in the place of a client.
    Answer,
}

/// Reads a packet. None: it passes. Only whole ones of TCP and UDP that were sent to one machine, and whose checksums are there,
/// are for here.
#[inline(always)]
pub fn read<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    (is_v6, origin): (bool, Origin),
    work: &mut Work,
) -> Option<Of> {
    if is_v6 {
        read_as::<V6, F, E>(frame, env, origin, &mut work.packet)
    } else {
        read_as::<V4, F, E>(frame, env, origin, &mut work.packet)
    }
}

#[inline(always)]
fn read_as<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    origin: Origin,
    out: &mut Packet,
) -> Option<Of> {
    let [first] = *frame.at::<[u8; 1]>(0)?;
    let mut packet = whole::<A, F>(frame)?;
    if first & TO_SEVERAL != 0 || packet.is_sctp() || is_begun::<A, F>(frame, &packet)? {
        return None;
    }
    packet.origin = origin;
    let ip = frame.at::<A::Header>(frame.network())?;
    let mut of = Of::Request;
    if !A::is_for_service(ip, env.settings()) {
        let concern = concern::<A, F, E>(frame, env, ip);
        if concern == Concern::Nobody {
            return None;
        }
        packet.scope = origin.scope();
        // An address towards the outside is not the services' alone.
        if concern != Concern::Frontend || env.service(&packet.vip()).is_none() {
            of = Of::Answer;
        }
    }
    *out = packet;
    Some(of)
}

/// A packet of a flow that is known, as TC's ingress has it. [`Next::LookUp`]: its way is to be looked up first. It passes
/// unless the way leads out of a driver.
#[inline(always)]
pub fn known<F: Frame, E: Env>(frame: &F, env: &E, of: Of, work: &mut Work) -> Next {
    match of {
        Of::Request => request(frame, env, work),
        Of::Answer => answer(frame, env, work),
    }
}

/// As [`known`], of a request.
#[inline(always)]
pub fn request<F: Frame, E: Env>(frame: &F, env: &E, work: &mut Work) -> Next {
    let Some((table, entry)) = flow::find(env, &work.packet.key) else {
        return PASS;
    };
    let flow = entry.get();
    if flow.direction != Direction::REQUEST {
        return PASS;
    }
    // TC notes what was called.
    if flow.is_one_sided() && work.packet.opens() {
        return PASS;
    }
    if let Err(next) = leads_out(frame, env, &flow, work) {
        return next;
    }
    let now = env.now();
    // What is to choose, or to be told that there is nothing, does so at TC.
    let Standing::Keep(backend) = flow::standing(env, &flow, &work.packet, now) else {
        return PASS;
    };
    let found = (table, &entry, &flow);
    let bytes = || frame.len();
    let decision = decide::keep(env, &work.packet, found, (backend, now), bytes);
    settle_in(work, frame.network(), &decision)
}

/// As [`known`], of an answer.
#[inline(always)]
pub fn answer<F: Frame, E: Env>(frame: &F, env: &E, work: &mut Work) -> Next {
    let Some((table, entry)) = flow::find(env, &work.packet.key) else {
        return PASS;
    };
    let flow = entry.get();
    if flow.direction != Direction::UNMASQUERADE {
        return PASS;
    }
    if let Err(next) = leads_out(frame, env, &flow, work) {
        return next;
    }
    let now = env.now();
    let stands = flow::backend(env, &flow).is_some();
    if !stands || flow::is_over(env, &work.packet.key, &flow, now) {
        return PASS;
    }
    let decision = decide::beside_of(env, &work.packet, (table, &entry, &flow), now);
    settle_in(work, frame.network(), &decision)
}

#[inline(always)]
fn settle_in(work: &mut Work, network: usize, decision: &Decision) -> Next {
    let Work {
        packet,
        translation,
        ..
    } = work;
    settle(packet, network, decision, Direction::REQUEST, translation)
}

/// Whether the way to where a flow leads goes out of a driver; else what is next for the packet.
#[inline(always)]
fn leads_out<F: Frame, E: Env>(
    frame: &F,
    env: &E,
    flow: &Flow,
    work: &mut Work,
) -> Result<(), Next> {
    work.translation.address = flow.address;
    match exit(frame, env, work, Direction::REQUEST) {
        Exit::Driver => Ok(()),
        Exit::Unknown => Err(Next::LookUp),
        stack => {
            if !stack.is_past_stack() {
                env.count_exit(stack, frame.len());
            }
            Err(PASS)
        }
    }
}

/// Whether the checksum is only begun, for a device to finish that the packet has not met: what stands in its place then is
/// the sum of the pseudo header. There is no arithmetic on that here, but TC knows (D2).
#[inline(always)]
fn is_begun<A: Family, F: Frame>(frame: &F, packet: &Packet) -> Option<bool> {
    let key = &packet.key;
    let field = if packet.is_tcp() {
        offset_of!(TcpHdr, check)
    } else {
        offset_of!(UdpHdr, check)
    };
    let ip = frame.at::<A::Header>(frame.network())?;
    let payload = (A::length(ip) + frame.network()).wrapping_sub(packet.l4);
    let begun = A::pseudo_header(key.source, key.destination, key.protocol, payload).checksum();
    let [high, low] = *frame.at::<[u8; 2]>(packet.l4 + field)?;
    Some(begun == [!high, !low])
}

/// Remembers the answer to a question for the way of a packet at a driver. False: this one takes the stack, as one of each period
/// does, so that the kernel sees that the neighbour is in use, and finds out when it is not there any more.
#[inline(always)]
#[must_use]
pub fn learn_at_driver<E: Env>(env: &E, ask: &Ask, route: &Route) -> bool {
    let exit = match route.found {
        Found::Nothing => Exit::NoRoute,
        Found::NoNeighbour => Exit::NoNeighbour,
        Found::All if env.beyond(route.device) == Beyond::DRIVER => Exit::Driver,
        Found::All => Exit::OtherDevice,
    };
    let (way, place) = (ask.answered(route, exit), place(ask.source, ask.target));
    let is_due = env.way(place).is_some_and(|known| {
        let is_same = known.source.is(way.source) && known.target.is(way.target);
        is_same && (known.stamp ^ way.stamp) & PERIOD != 0
    });
    env.set_way(place, &way);
    !is_due
}

/// What TC's egress would do to a packet that was translated as [`known`] said: what was read of it becomes what it is now.
#[inline(always)]
pub fn other_end<E: Env>(env: &E, network: usize, work: &mut Work, bytes: usize) -> Next {
    let Work {
        packet,
        translation,
        ..
    } = work;
    packet.key.destination = translation.address;
    packet.key.source_port = translation.new.source;
    packet.key.destination_port = translation.new.destination;
    let decision = decide::reply(env, packet, || bytes);
    settle(packet, network, &decision, Direction::REPLY, translation)
}
