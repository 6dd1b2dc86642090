//! The answer to a packet that goes nowhere: RST for TCP, ICMP port unreachable for the rest (B7).
//!
//! It is made in the packet's own memory and sent back out of the device it came from, in the VIP's name.

use network_types::tcp::TcpHdr;

use super::{
    env::Env,
    family::Family,
    frame::Frame,
    link::ETHERNET,
    parse::{Ethernet, Packet, TCP_HEADER, TcpFlags},
    translate::Piece,
    verdict::Verdict,
};
use crate::{
    abi::Outcome,
    wire::{Addr, Be32, Proto},
};

/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;

/// Answers a packet that was read before. One that must not be answered is dropped: a RST (RFC 9293), a source that is no
/// host, a piece that is not the first (D8).
#[inline(always)]
pub(super) fn reject<A: Family, F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    packet: &Packet,
    outcome: Outcome,
) -> Verdict {
    let is_reset = packet.has_handshake() && packet.flags.any(TcpFlags::RST);
    if is_reset || packet.piece == Piece::Later || !A::is_host(packet.key.source) {
        return Verdict::Drop(outcome);
    }
    let made = if packet.is_tcp() {
        reset::<A, F>(frame, packet)
    } else if !may_have_error(env, packet.key.source) {
        return Verdict::Drop(Outcome::ErrorsLimited);
    } else {
        port_unreachable::<A, F>(frame, packet)
    };
    match made {
        Some(()) => Verdict::Reply(outcome),
        None => Verdict::Drop(Outcome::ReplyFailed),
    }
}

/// Errors that a client may have at once.
const BURST: u64 = 10;

/// Whether a client may be sent one more ICMP error (D8): each takes its time to be paid for, and a few may be owed.
#[inline(always)]
fn may_have_error<E: Env>(env: &E, client: Addr) -> bool {
    let (now, interval) = (env.now(), env.settings().error_interval);
    let until = env.errors_until(client).unwrap_or(now);
    // The clock began anew, or the entry is an old one: nothing is owed.
    let owed = until.wrapping_sub(now);
    let owed = if owed > BURST * interval { 0 } else { owed };
    if owed > (BURST - 1) * interval {
        return false;
    }
    env.set_errors_until(client, now.wrapping_add(owed + interval));
    true
}

/// Turns the frame into a RST to its sender (D9).
#[inline(always)]
fn reset<A: Family, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    let tcp = *frame.at::<TcpHdr>(packet.l4())?;
    let flags = packet.flags;
    let (seq, ack, answer) = if flags.any(TcpFlags::ACK) {
        (Be32(tcp.ack_seq), Be32::new(0), TcpFlags::RST)
    } else {
        let header = usize::from(tcp.doff()) * 4;
        let ip = frame.at::<A::Header>(frame.network())?;
        let length = match A::length(ip) {
            0 => frame.len(),
            length => frame.network() + length,
        }
        .saturating_sub(packet.l4());
        #[expect(clippy::cast_possible_truncation, reason = "no frame is that long")]
        let payload = length.saturating_sub(header) as u32;
        let phantom = u32::from(flags.any(TcpFlags::SYN)) + u32::from(flags.any(TcpFlags::FIN));
        let ack = Be32(tcp.seq)
            .get()
            .wrapping_add(payload)
            .wrapping_add(phantom);
        (Be32::new(0), Be32::new(ack), TcpFlags::RST | TcpFlags::ACK)
    };
    // A frame that cannot be cut has a tail that its IP length leaves out: the receiver ignores it.
    let _cut = frame.truncate(frame.network() + A::HEADER + TCP_HEADER);
    let [s0, s1, s2, s3] = seq.0;
    let [a0, a1, a2, a3] = ack.0;
    let [f0, f1] = packet.key.destination_port.0;
    let [t0, t1] = packet.key.source_port.0;
    let mut bytes = [
        f0,
        f1,
        t0,
        t1,
        s0,
        s1,
        s2,
        s3,
        a0,
        a1,
        a2,
        a3,
        5 << 4,
        answer,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    let sum = A::pseudo_header(
        packet.key.destination,
        packet.key.source,
        Proto::TCP,
        TCP_HEADER,
    );
    let [c0, c1] = sum.plus(&bytes).checksum();
    bytes[16] = c0;
    bytes[17] = c1;
    *frame.at_mut::<[u8; TCP_HEADER]>(frame.network() + A::HEADER)? = bytes;
    let ip = frame.at_mut::<A::Header>(frame.network())?;
    A::fill(
        ip,
        packet.key.destination,
        packet.key.source,
        Proto::TCP,
        TCP_HEADER,
    );
    turn_around(frame)
}

/// Turns the frame into an ICMP error that quotes its beginning.
#[inline(always)]
fn port_unreachable<A: Family, F: Frame>(frame: &mut F, packet: &Packet) -> Option<()> {
    let (quote, quoted) = A::quote(frame, packet.l4())?;
    // As above: what cannot be cut is not counted.
    let _cut = frame.truncate(frame.network() + quote);
    if !frame.open_gap(A::HEADER + ICMP_HEADER) {
        return None;
    }
    let payload = ICMP_HEADER + quote;
    let icmp = frame.network() + A::HEADER;
    let (kind, code) = A::PORT_UNREACHABLE;
    let mut header = [kind, code, 0, 0, 0, 0, 0, 0];
    let mut sum = quoted.plus(&header);
    if A::IS_V6 {
        let (from, to) = (packet.key.destination, packet.key.source);
        sum = sum.and(A::pseudo_header(from, to, A::ICMP, payload));
    }
    let [c0, c1] = sum.checksum();
    header[2] = c0;
    header[3] = c1;
    *frame.at_mut::<[u8; ICMP_HEADER]>(icmp)? = header;
    let ip = frame.at_mut::<A::Header>(frame.network())?;
    A::fill(
        ip,
        packet.key.destination,
        packet.key.source,
        A::ICMP,
        payload,
    );
    turn_around(frame)
}

/// Back to where it came from.
#[inline(always)]
pub(super) fn turn_around<F: Frame>(frame: &mut F) -> Option<()> {
    if frame.network() < ETHERNET {
        return Some(());
    }
    let ethernet = frame.at_mut::<Ethernet>(0)?;
    core::mem::swap(&mut ethernet.source, &mut ethernet.destination);
    Some(())
}
