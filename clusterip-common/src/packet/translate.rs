//! DNAT and its reverse.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    checksum::Sum,
    family::Family,
    frame::{ChecksumFix, Frame},
    parse::{Packet, Ports},
    sctp,
};
use crate::{
    abi::{Direction, Outcome},
    wire::{Addr, Be16},
};

/// Gives one side of a packet another address and port and the client's side another port, checksums included (D2).
/// An error is why the packet cannot go on.
#[inline(always)]
pub(super) fn rewrite<A: Family, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    side: Direction,
    address: Addr,
    (port, client_port): (Be16, Be16),
) -> Result<(), Outcome> {
    let (source, destination) = if side == Direction::REQUEST {
        (client_port, port)
    } else {
        (port, client_port)
    };
    let new = Ports {
        source,
        destination,
    };
    let keeps_ports =
        packet.key.source_port == source && packet.key.destination_port == destination;
    // A piece does not say how far it is to the end of the whole, which SCTP's checksum asks for (D3).
    if packet.is_sctp() && packet.is_fragment && !packet.is_later_fragment && !keeps_ports {
        return Err(Outcome::Fragment);
    }
    let Some(ip) = frame.at_mut::<A::Header>(frame.network()) else {
        return Err(Outcome::Truncated);
    };
    let length = A::length(ip);
    let addresses = A::set_address(ip, side, address);
    // Of a packet in pieces only the first has ports and a checksum (D6).
    if packet.is_later_fragment {
        return Ok(());
    }
    let Some(ports) = frame.at_mut::<Ports>(packet.l4) else {
        return Err(Outcome::Truncated);
    };
    let old = core::mem::replace(ports, new);
    if packet.is_sctp() {
        // There is no pseudo header: new addresses alone leave its checksum as it is.
        let length = (frame.network() + length).wrapping_sub(packet.l4);
        return if keeps_ports || sctp::fix(frame, packet.l4, length, old, new) {
            Ok(())
        } else {
            Err(Outcome::Truncated)
        };
    }
    let fix = ChecksumFix {
        addresses,
        ports: Sum::ZERO
            .minus(&old.source.0)
            .minus(&old.destination.0)
            .plus(&new.source.0)
            .plus(&new.destination.0),
        zero_is_none: !packet.is_tcp(),
        ipv6: A::IS_V6,
    };
    let field = if packet.is_tcp() {
        offset_of!(TcpHdr, check)
    } else {
        offset_of!(UdpHdr, check)
    };
    if frame.fix_checksum(packet.l4 + field, fix) {
        Ok(())
    } else {
        Err(Outcome::Truncated)
    }
}
