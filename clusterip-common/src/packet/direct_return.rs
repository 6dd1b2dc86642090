//! Direct server return (docs/adr/0019-direct-server-return.md): a backend on another node answers the client itself, in the name of
//! what was called, instead of by way of the node that was called.
//!
//! That node sends the client's packet on with the client as its source, and with a note of what was called in an option of the IP header: of
//! a packet that begins a flow, and of each datagram that has room for it. The backend's node reads it, and keeps a pair of entries by which
//! answers get the service's address as they leave.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use super::{
    checksum::Sum,
    decide::{self, Action, Decision},
    env::{Env, FlowEntry as _, Table},
    family::{DESTINATION, Family, V4, V6},
    flow,
    frame::Frame,
    open::{self, Mine},
    parse::{Packet, Ports},
    translate::{Piece, translate},
    uplink::Origin,
    verdict::Verdict,
    way::{Next, Work, read_beside, settle},
};
use crate::{
    abi::{Direction, Flow, Inside, Outcome, Scope, ServiceFlags, ServiceKey},
    wire::{Addr, Be16},
};

/// The kind of the option: for experiments in IPv4 (RFC 4727), copied to all pieces; in IPv6 (RFC 3692), where who does not know it skips it.
const KIND_V4: u8 = 0x9e;
const KIND_V6: u8 = 0x1e;
/// Every way takes packets of that length (RFC 8200): a note makes none longer, so that none is too long because of it (D7).
const LONGEST: usize = 1280;

/// A family in which a packet can carry such a note.
trait Noted: Family {
    /// Bytes of it.
    const NOTE: usize;

    /// What was called, as a packet says.
    fn note<F: Frame>(frame: &F) -> Option<(Addr, Be16)>;

    /// Writes it into the gap behind the header, which has been moved; what the frame's own checksum does not make up for.
    fn write_note<F: Frame>(frame: &mut F, called: (Addr, Be16)) -> Option<Sum>;
}

impl Noted for V4 {
    /// ```text
    /// kind, length 8, port, address
    /// ```
    const NOTE: usize = 8;

    #[inline(always)]
    fn note<F: Frame>(frame: &F) -> Option<(Addr, Be16)> {
        let network = frame.network();
        if frame.at::<Ipv4Hdr>(network)?.vihl != 0x47 {
            return None;
        }
        let [kind, length, p0, p1, a0, a1, a2, a3] =
            *frame.at::<[u8; 8]>(network + Self::HEADER)?;
        (kind == KIND_V4 && usize::from(length) == Self::NOTE)
            .then(|| (Addr::v4([a0, a1, a2, a3]), Be16([p0, p1])))
    }

    #[inline(always)]
    fn write_note<F: Frame>(frame: &mut F, (address, port): (Addr, Be16)) -> Option<Sum> {
        let network = frame.network();
        let ([p0, p1], [a0, a1, a2, a3]) = (port.0, address.low());
        let note = [KIND_V4, 8, p0, p1, a0, a1, a2, a3];
        *frame.at_mut::<[u8; 8]>(network + Self::HEADER)? = note;
        let ip = frame.at_mut::<Ipv4Hdr>(network)?;
        let length = longer(ip.tot_len, Self::NOTE);
        let change = Sum::change(&[ip.vihl, ip.tos], &[0x47, ip.tos])
            .and(Sum::change(&ip.tot_len, &length))
            .plus(&note);
        (ip.vihl, ip.tot_len, ip.check) = (0x47, length, change.fix(ip.check));
        Some(Sum::ZERO)
    }
}

impl Noted for V6 {
    /// A header of destination options:
    /// ```text
    /// next header, 2 units more, kind, length 20, port, zero, address
    /// ```
    const NOTE: usize = 24;

    #[inline(always)]
    fn note<F: Frame>(frame: &F) -> Option<(Addr, Be16)> {
        let at = frame.network() + Self::HEADER;
        if frame.at::<Ipv6Hdr>(frame.network())?.next_hdr != DESTINATION.0 {
            return None;
        }
        let [_, units, kind, length, p0, p1, _, _] = *frame.at::<[u8; 8]>(at)?;
        if units != 2 || kind != KIND_V6 || length != 20 {
            return None;
        }
        let address = Addr::v6(*frame.at::<[u8; 16]>(at + 8)?);
        // D12
        (!address.is_mapped()).then_some((address, Be16([p0, p1])))
    }

    #[inline(always)]
    fn write_note<F: Frame>(frame: &mut F, (address, port): (Addr, Be16)) -> Option<Sum> {
        let network = frame.network();
        let ip = frame.at_mut::<Ipv6Hdr>(network)?;
        let (next, length) = (ip.next_hdr, longer(ip.payload_len, Self::NOTE));
        let mut change = Sum::change(&ip.payload_len, &length).and(Sum::change(
            &[next, ip.hop_limit],
            &[DESTINATION.0, ip.hop_limit],
        ));
        (ip.next_hdr, ip.payload_len) = (DESTINATION.0, length);
        let ([p0, p1], octets) = (port.0, address.octets());
        let head = [next, 2, KIND_V6, 20, p0, p1, 0, 0];
        *frame.at_mut::<[u8; 8]>(network + Self::HEADER)? = head;
        *frame.at_mut::<[u8; 16]>(network + Self::HEADER + 8)? = octets;
        change = change.plus(&head).plus(&octets);
        Some(change)
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a few bytes")]
const fn longer(length: [u8; 2], by: usize) -> [u8; 2] {
    Be16::new(Be16(length).get().wrapping_add(by as u16)).0
}

/// The ports of a packet that hides them behind a note: of IPv6, whose note is a header of its own.
#[inline(always)]
pub(super) fn ports_behind_note<A: Family, F: Frame, E: Env>(frame: &F, env: &E) -> Ports {
    if !A::IS_V6 || !env.settings().takes_forwarded() || V6::note(frame).is_none() {
        return Ports::NONE;
    }
    let ports = frame.at::<Ports>(frame.network() + V6::HEADER + V6::NOTE);
    ports.copied().unwrap_or(Ports::NONE)
}

/// Whether what is translated is to be given to [`forward`] instead of [`translate`](super::translate()).
#[inline(always)]
pub fn may_forward<E: Env>(env: &E, origin: Origin) -> bool {
    env.settings().forwards_clients() && origin == Origin::Outside
}

/// Whether a client that the node would stand for is forwarded as it is to this backend, of which it is not known yet.
#[inline(always)]
pub(super) fn is_for<F: Frame, E: Env>(frame: &F, env: &E, packet: &Packet, backend: Addr) -> bool {
    may_forward(env, packet.origin)
        && packet.scope == Scope::OUTSIDE
        && fits(frame, packet)
        && env.inside(backend) == Inside::PODS
}

/// Whether a packet is to have a note and has room for it.
#[inline(always)]
fn fits<F: Frame>(frame: &F, packet: &Packet) -> bool {
    let has_room = if packet.is_v6 {
        has_room::<V6, F>(frame, packet)
    } else {
        has_room::<V4, F>(frame, packet)
    };
    packet.piece == Piece::Whole && has_room
}

/// Whether a note fits into a packet: nothing is between the header and L4, it is not cut into pieces later, and is short enough.
#[inline(always)]
fn has_room<A: Noted, F: Frame>(frame: &F, packet: &Packet) -> bool {
    let l4 = packet.l4();
    let payload = frame.len().wrapping_sub(l4);
    l4 == frame.network() + A::HEADER
        && frame.segment() == 0
        && payload <= LONGEST - A::HEADER - A::NOTE
}

/// Translates a client's packet, and notes what was called if the backend's node is to know.
#[inline(always)]
pub fn forward<F: Frame, E: Env>(frame: &mut F, env: &E, work: &Work) -> Verdict {
    let verdict = translate(frame, &work.translation);
    let packet = &work.packet;
    if !matches!(verdict, Verdict::Translated(_)) || !packet.opens() || !fits(frame, packet) {
        return verdict;
    }
    // Whose first packet had no room is masqueraded.
    let found = flow::find(env, &packet.key);
    if !found.is_some_and(|(_, entry)| entry.get().is_one_sided()) {
        return verdict;
    }
    let called = (packet.key.destination, packet.key.destination_port);
    let noted = if packet.is_v6 {
        add_note::<V6, F>(frame, called)
    } else {
        add_note::<V4, F>(frame, called)
    };
    match noted {
        Some(()) => verdict,
        // Without it the backend would answer under its own address (C11).
        None => Verdict::Drop(Outcome::ReplyFailed),
    }
}

#[inline(always)]
fn add_note<A: Noted, F: Frame>(frame: &mut F, called: (Addr, Be16)) -> Option<()> {
    if !frame.open_gap(A::NOTE) {
        return None;
    }
    let network = frame.network();
    // The header goes before the gap, which is behind it then.
    for word in 0..A::HEADER / 4 {
        let at = network + word * 4;
        let moved = *frame.at::<[u8; 4]>(at + A::NOTE)?;
        *frame.at_mut::<[u8; 4]>(at)? = moved;
    }
    let change = A::write_note(frame, called)?;
    frame.add_to_sum(change);
    Some(())
}

/// Whether what comes in is to be given to [`forwarded`] before [`beside`](super::beside).
#[inline(always)]
pub fn may_be_forwarded<E: Env>(env: &E, origin: Origin) -> bool {
    env.settings().takes_forwarded() && origin == Origin::Outside
}

/// A packet past the services that another node may have forwarded. [`Next::Beside`]: none has.
#[inline(always)]
pub fn forwarded<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool, work: &mut Work) -> Next {
    let (read, called) = if is_v6 {
        (read_beside::<V6, F, E>(frame, env), V6::note(frame))
    } else {
        (read_beside::<V4, F, E>(frame, env), V4::note(frame))
    };
    let Some((read, false)) = read else {
        return Next::Beside;
    };
    work.packet = read;
    work.packet.origin = Origin::Outside;
    let Work {
        packet,
        translation,
        ..
    } = work;
    let decision = match called {
        Some(called) if packet.piece == Piece::Whole && packet.opens() => take(env, packet, called),
        _ => go_on(env, packet),
    };
    let Some(decision) = decision else {
        return Next::Beside;
    };
    let (network, side) = (frame.network(), Direction::REQUEST);
    settle(packet, network, &decision, side, translation)
}

/// A packet of a flow that is known; none of another one.
#[inline(always)]
fn go_on<E: Env>(env: &E, packet: &Packet) -> Option<Decision> {
    let (table, entry) = flow::find(env, &packet.key)?;
    let (flow, now) = (entry.get(), env.now());
    if flow.direction != Direction::FORWARDED {
        return None;
    }
    Some(follow(env, packet, (table, &entry, &flow), now))
}

/// A packet of a flow that is known, from either side: what becomes of it, but for its translation.
#[inline(always)]
fn follow<E: Env>(
    env: &E,
    packet: &Packet,
    (table, entry, flow): (Table, &E::Entry<'_>, &Flow),
    now: u64,
) -> Decision {
    if flow::is_over_as::<true, E>(env, &packet.key, flow, now) {
        return Decision::drop(Outcome::StaleReply);
    }
    let has_answer = if flow.direction == Direction::RETURN {
        !packet.has_handshake()
    } else {
        decide::completes_handshake(flow, packet)
    };
    if table == Table::HalfOpen && has_answer {
        if let Err(outcome) = flow::promote_as::<true, E>(env, packet, flow) {
            return Decision::drop(outcome);
        }
    } else if flow::note::<E>(table, entry, flow, packet, now) {
        // At once: it is the last thing that is done here.
        flow::note_both_as::<true, E>(env, packet);
    }
    Decision::pass()
}

/// What a backend answers to a client whom another node forwarded. [`Next::Mend`]: it is another packet.
#[inline(always)]
pub fn returned<E: Env>(env: &E, network: usize, work: &mut Work) -> Next {
    let Work {
        packet,
        translation,
        ..
    } = work;
    if !env.settings().takes_forwarded() {
        return Next::Mend;
    }
    let Some((table, entry)) = flow::find(env, &packet.key) else {
        return Next::Mend;
    };
    let flow = entry.get();
    if flow.direction != Direction::RETURN {
        return Next::Mend;
    }
    let mut decision = follow(env, packet, (table, &entry, &flow), env.now());
    if decision.action == Action::Pass {
        decision = Decision::translate(&flow, Outcome::Returned);
    }
    settle(packet, network, &decision, Direction::REPLY, translation)
}

/// A packet that says what was called: its flow is known from here on. None: it is on its way to another node.
#[inline(always)]
fn take<E: Env>(env: &E, packet: &Packet, (address, port): (Addr, Be16)) -> Option<Decision> {
    let key = &packet.key;
    if env.inside(key.destination) != Inside::OWN {
        return None;
    }
    if !is_served(env, packet, (address, port)) {
        return Some(Decision::drop(Outcome::ForwardRefused));
    }
    let mut answer = *key;
    answer.turn();
    let now = env.now();
    if let Some((table, entry)) = flow::find(env, key)
        && entry.get().direction == Direction::FORWARDED
    {
        let flow = entry.get();
        if !flow::is_over_as::<true, E>(env, key, &flow, now) {
            let is_same = flow.address.is(address) && flow.port == port;
            return Some(if is_same {
                follow(env, packet, (table, &entry, &flow), now)
            } else {
                // The backend could not tell them apart (C12).
                Decision::drop(Outcome::PortsExhausted)
            });
        }
        env.remove_flow(table, key);
        env.remove_flow(table, &answer);
    }
    let mine = Mine {
        address,
        port,
        client_port: key.source_port,
        direction: Direction::RETURN,
    };
    // Nor from one that calls this node (C12).
    if !open::is_free(env, &mut answer, &mine) {
        return Some(Decision::drop(Outcome::PortsExhausted));
    }
    Some(match open::open_forwarded(env, packet, (address, port)) {
        Ok(()) => Decision::forwarded(),
        Err(outcome) => Decision::drop(outcome),
    })
}

/// Whether a service is called by this address and port, whose clients may be hidden (E2): nobody else's name is taken. What another node
/// is called by, a node port, this one is called by too, at its own address.
#[inline(always)]
fn is_served<E: Env>(env: &E, packet: &Packet, (address, port): (Addr, Be16)) -> bool {
    let is_node = env.inside(address) == Inside::NODE;
    let at = if is_node {
        env.node_address(packet.is_v6)
    } else {
        address
    };
    let key = ServiceKey::new(at, port, packet.key.protocol).seen(Scope::OUTSIDE);
    env.service(&key)
        .is_some_and(|head| head.flags.has(ServiceFlags::MASQUERADE))
}
