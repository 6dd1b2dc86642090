//! DNAT and its reverse.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    checksum::Sum,
    family::Family,
    frame::{ChecksumFix, Frame},
    parse::{Packet, Ports},
};
use crate::{
    abi::Direction,
    wire::{Addr, Be16},
};

/// Gives one side of a packet another address and port and the client's side another port, checksums included (D2).
/// False: the frame ended early.
#[inline(always)]
pub(super) fn rewrite<A: Family, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    side: Direction,
    address: Addr,
    (port, client_port): (Be16, Be16),
) -> bool {
    let Some(ip) = frame.at_mut::<A::Header>(frame.network()) else {
        return false;
    };
    let addresses = A::set_address(ip, side, address);
    // Of a packet in pieces only the first has ports and a checksum (D6).
    if packet.is_later_fragment {
        return true;
    }
    let Some(ports) = frame.at_mut::<Ports>(packet.l4) else {
        return false;
    };
    let new = if side == Direction::REQUEST {
        Ports {
            source: client_port,
            destination: port,
        }
    } else {
        Ports {
            source: port,
            destination: client_port,
        }
    };
    let old = core::mem::replace(ports, new);
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
    frame.fix_checksum(packet.l4 + field, fix)
}
