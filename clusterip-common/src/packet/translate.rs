//! DNAT and its reverse.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};

use super::{
    checksum::Sum,
    family::Family,
    frame::{ChecksumFix, Frame},
    parse::{L3, Packet, Ports},
};
use crate::{
    abi::Direction,
    wire::{Addr, Be16},
};

/// Gives one side of a packet another address and port, checksums included (D2). False: the frame ended early.
#[inline(always)]
pub(super) fn rewrite<A: Family, F: Frame>(
    frame: &mut F,
    packet: &Packet,
    side: Direction,
    address: Addr,
    port: Be16,
) -> bool {
    let Some(ip) = frame.at_mut::<A::Header>(L3) else {
        return false;
    };
    let addresses = A::set_address(ip, side, address);
    let Some(ports) = frame.at_mut::<Ports>(packet.l4) else {
        return false;
    };
    let field = if side == Direction::REQUEST {
        &mut ports.destination
    } else {
        &mut ports.source
    };
    let old = core::mem::replace(field, port);
    let fix = ChecksumFix {
        addresses,
        ports: Sum::change(&old.0, &port.0),
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
