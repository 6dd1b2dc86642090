//! DNAT and its reverse.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    checksum::Sum,
    family::{Family, V4, V6},
    frame::{ChecksumFix, Frame},
    parse::{Packet, Ports},
    sctp,
    verdict::Verdict,
};
use crate::{
    abi::{Direction, Outcome},
    wire::{Addr, Be16, Proto},
};

/// What is to be done to a packet: a decision, with what was read of the packet. Plain bytes, so that it can be handed
/// from one function of the kernel's to another.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Translation {
    /// What the translated side's address becomes.
    pub(super) address: Addr,
    /// The ports as they were,
    pub(super) old: Ports,
    /// and as they will be.
    pub(super) new: Ports,
    /// Where L4 begins, from the IP header on.
    pub(super) l4: u32,
    /// What it will have been.
    pub(super) outcome: Outcome,
    /// Which side is translated.
    pub(super) side: Direction,
    /// The protocol.
    pub(super) protocol: Proto,
    /// The family.
    pub(super) is_v6: bool,
    /// Of a piece: a later one has no ports, and none says how far it is to the end of the whole.
    pub(super) piece: Piece,
    /// Zero: the verifier wants every byte to have been written.
    pub(super) zero: u32,
}

const _: () = assert!(size_of::<Translation>() == 40);

/// Whether a packet is a piece of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Piece {
    /// It is whole.
    Whole,
    /// The first one.
    First,
    /// A later one.
    Later,
}

/// No L4 header begins behind this.
const FARTHEST: u32 = 0xfff;

impl Translation {
    /// Before anything was decided.
    pub const NONE: Self = Self {
        address: Addr::UNSPECIFIED,
        old: Ports::NONE,
        new: Ports::NONE,
        l4: 0,
        outcome: Outcome::NotOurs,
        side: Direction::REQUEST,
        protocol: Proto(0),
        is_v6: false,
        piece: Piece::Whole,
        zero: 0,
    };

    /// Of a packet, one side of which gets this address and port and the client's side another port.
    #[inline(always)]
    pub(super) fn new(
        packet: &Packet,
        network: usize,
        side: Direction,
        outcome: Outcome,
        (address, port, client_port): (Addr, Be16, Be16),
    ) -> Self {
        let (source, destination) = if side == Direction::REQUEST {
            (client_port, port)
        } else {
            (port, client_port)
        };
        #[expect(clippy::cast_possible_truncation, reason = "an offset within a frame")]
        let l4 = (packet.l4 - network) as u32;
        Self {
            address,
            old: Ports {
                source: packet.key.source_port,
                destination: packet.key.destination_port,
            },
            new: Ports {
                source,
                destination,
            },
            l4,
            outcome,
            side,
            protocol: packet.key.protocol,
            is_v6: packet.is_v6,
            piece: packet.piece,
            zero: 0,
        }
    }

    /// Whether nothing is to be done.
    #[inline(always)]
    pub(super) fn is_none(&self) -> bool {
        self.outcome == Outcome::NotOurs
    }

    #[inline(always)]
    const fn keeps_ports(&self) -> bool {
        self.old.as_they_lie() == self.new.as_they_lie()
    }
}

/// Does what was decided.
#[inline(always)]
pub fn translate<F: Frame>(frame: &mut F, translation: &Translation) -> Verdict {
    let done = if translation.is_v6 {
        rewrite::<V6, F>(frame, translation)
    } else {
        rewrite::<V4, F>(frame, translation)
    };
    match done {
        Ok(()) => Verdict::Translated(translation.outcome),
        Err(outcome) => Verdict::Drop(outcome),
    }
}

/// Writes address and ports, checksums included (D2). An error is why the packet cannot go on.
#[inline(always)]
fn rewrite<A: Family, F: Frame>(frame: &mut F, translation: &Translation) -> Result<(), Outcome> {
    let is_sctp = translation.protocol == Proto::SCTP;
    let keeps_ports = translation.keeps_ports();
    // A piece does not say how far it is to the end of the whole, which SCTP's checksum asks for (D3).
    if is_sctp && translation.piece == Piece::First && !keeps_ports {
        return Err(Outcome::Fragment);
    }
    let network = frame.network();
    let l4 = network + (translation.l4 & FARTHEST) as usize;
    let ip = frame
        .at_mut::<A::Header>(network)
        .ok_or(Outcome::Truncated)?;
    let length = A::length(ip);
    let addresses = A::set_address(ip, translation.side, translation.address);
    // Of a packet in pieces only the first has ports and a checksum (D6).
    if translation.piece == Piece::Later {
        return Ok(());
    }
    let (old, new) = (translation.old, translation.new);
    *frame.at_mut::<Ports>(l4).ok_or(Outcome::Truncated)? = new;
    let done = if is_sctp {
        // There is no pseudo header: new addresses alone leave its checksum as it is.
        let end = match length {
            0 => frame.len(),
            length => network + length,
        };
        keeps_ports || sctp::fix(frame, l4, end.wrapping_sub(l4), old, new)
    } else {
        let is_tcp = translation.protocol == Proto::TCP;
        let fix = ChecksumFix {
            addresses,
            ports: if keeps_ports {
                Sum::ZERO
            } else {
                Sum::reword(old.as_they_lie(), new.as_they_lie())
            },
            zero_is_none: !is_tcp,
            ipv6: A::IS_V6,
        };
        let field = if is_tcp {
            offset_of!(TcpHdr, check)
        } else {
            offset_of!(UdpHdr, check)
        };
        frame.fix_checksum(l4 + field, fix)
    };
    if done {
        Ok(())
    } else {
        Err(Outcome::Truncated)
    }
}
