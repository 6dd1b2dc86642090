//! From bytes to what the decisions are made of.

use core::mem::offset_of;

use network_types::{tcp::TcpHdr, udp::UdpHdr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    family::Family,
    frame::{Frame, Wire},
    sctp,
    translate::Piece,
    uplink::Origin,
};
use crate::{
    abi::{FlowKey, Outcome, Scope, ServiceKey},
    wire::{Addr, Be16, Proto},
};

/// An Ethernet header: network-types has the same with a field of alignment 2, and frames have none.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ethernet {
    /// Destination.
    pub destination: [u8; 6],
    /// Source.
    pub source: [u8; 6],
    /// Type of the payload.
    pub kind: Be16,
}

/// What TCP, UDP and SCTP begin with.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ports {
    /// Source.
    pub source: Be16,
    /// Destination.
    pub destination: Be16,
}

impl Ports {
    /// Not known.
    pub(super) const NONE: Self = Self {
        source: Be16::new(0),
        destination: Be16::new(0),
    };

    /// Both in one number, as they lie in memory: to be compared, and to be summed.
    #[inline(always)]
    #[must_use]
    pub const fn as_they_lie(self) -> u32 {
        self.source.as_it_lies() as u32 | (self.destination.as_it_lies() as u32) << 16
    }
}

/// The flag byte of a TCP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Where it stands.
    pub const OFFSET: usize = offset_of!(TcpHdr, _bitfield_1) + 1;
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether any of `flags` is set.
    #[inline(always)]
    #[must_use]
    pub const fn any(self, flags: u8) -> bool {
        self.0 & flags != 0
    }
}

// SAFETY: byte arrays and byte newtypes only: no padding, alignment 1, any bytes are a value.
unsafe impl Wire for Ethernet {}
// SAFETY: as above.
unsafe impl Wire for Ports {}
// SAFETY: as above.
unsafe impl Wire for TcpFlags {}

/// What is read of a TCP header.
#[derive(Clone, Copy)]
#[repr(C)]
struct Tcp {
    ports: Ports,
    _numbers: [u8; TcpFlags::OFFSET - size_of::<Ports>()],
    flags: TcpFlags,
    _rest: [u8; TcpHdr::LEN - TcpFlags::OFFSET - 1],
}

/// What is read of a UDP header.
#[derive(Clone, Copy)]
#[repr(C)]
struct Udp {
    ports: Ports,
    _rest: [u8; UdpHdr::LEN - size_of::<Ports>()],
}

const _: () = assert!(size_of::<Tcp>() == TcpHdr::LEN && size_of::<Udp>() == UdpHdr::LEN);

// SAFETY: byte arrays and byte newtypes only: no padding, alignment 1, any bytes are a value.
unsafe impl Wire for Tcp {}
// SAFETY: as above.
unsafe impl Wire for Udp {}

/// The fixed part of a TCP header.
pub(super) const TCP_HEADER: usize = TcpHdr::LEN;

/// What an IP header and its extensions say.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) protocol: Proto,
    /// Where L4 begins.
    pub(super) l4: usize,
    /// Bytes from the IP header to the end, 0 if the header does not say: jumbo or GSO.
    pub(super) length: usize,
    /// Identification of a packet in pieces.
    pub(super) fragment: Option<u32>,
    /// Not the first piece: there is no L4 header in it.
    pub(super) is_later_fragment: bool,
}

impl Layout {
    /// Whether the frame is as long as the header says.
    #[inline(always)]
    pub(super) fn fits<F: Frame>(&self, frame: &F) -> bool {
        frame.network() + self.length <= frame.len()
    }
}

/// What was read.
pub(super) enum Read {
    /// TCP, UDP or SCTP, and the identification of a packet in pieces.
    Flow(Packet, Option<u32>),
    /// Another protocol.
    Other,
}

/// A packet with ports.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Packet {
    /// The ports are zero in a later fragment until they are looked up.
    pub(super) key: FlowKey,
    /// Where L4 begins.
    pub(super) l4: usize,
    /// Zero for UDP; of SCTP what its first chunk means.
    pub(super) flags: TcpFlags,
    /// The family.
    pub(super) is_v6: bool,
    /// Of a later piece there is no L4 header.
    pub(super) piece: Piece,
    /// Where it was seen, and who sent it.
    pub(super) origin: Origin,
    /// By which scope its destination is a service, if it is one.
    pub(super) scope: Scope,
}

/// No L4 header begins behind this.
const FARTHEST: usize = 0xfff;

impl Packet {
    /// Before anything was read.
    pub(super) const NONE: Self = Self {
        key: FlowKey {
            source: Addr::UNSPECIFIED,
            destination: Addr::UNSPECIFIED,
            source_port: Be16::new(0),
            destination_port: Be16::new(0),
            protocol: Proto(0),
            zero: 0,
            zero_tail: 0,
        },
        l4: 0,
        flags: TcpFlags(0),
        is_v6: false,
        piece: Piece::Whole,
        origin: Origin::Pod,
        scope: Scope::CLUSTER,
    };

    /// The service that it calls, if it calls one.
    #[inline(always)]
    pub(super) const fn vip(&self) -> ServiceKey {
        let key = &self.key;
        ServiceKey::new(key.destination, key.destination_port, key.protocol).seen(self.scope)
    }

    /// Where L4 begins, of a packet that another function has read: no number to the verifier.
    #[inline(always)]
    pub(super) const fn l4(&self) -> usize {
        self.l4 & FARTHEST
    }

    #[inline(always)]
    pub(super) fn is_tcp(&self) -> bool {
        self.key.protocol == Proto::TCP
    }

    #[inline(always)]
    pub(super) fn is_sctp(&self) -> bool {
        self.key.protocol == Proto::SCTP
    }

    /// Whether both sides say when a flow begins and ends.
    #[inline(always)]
    pub(super) fn has_handshake(&self) -> bool {
        self.is_tcp() || self.is_sctp()
    }

    /// Whether it may begin a flow: only a SYN chooses (C2), and any UDP packet.
    #[inline(always)]
    pub(super) fn opens(&self) -> bool {
        !self.has_handshake() || self.flags.0 & (TcpFlags::SYN | TcpFlags::ACK) == TcpFlags::SYN
    }
}

/// Reads a packet behind its IP header. An error is why it cannot be read (D4).
#[inline(always)]
pub(super) fn read<A: Family, F: Frame>(frame: &F, ip: &A::Header) -> Result<Read, Outcome> {
    let layout = A::layout(frame, ip)?;
    let Layout {
        protocol,
        l4,
        length,
        fragment,
        is_later_fragment,
    } = layout;
    let least = match protocol {
        Proto::TCP => TCP_HEADER,
        Proto::UDP => UdpHdr::LEN,
        Proto::SCTP => sctp::HEADER,
        _ => return Ok(Read::Other),
    };
    let network = frame.network();
    let header = l4 - network;
    if length != 0 && !is_later_fragment && length < header + least {
        return Err(Outcome::Truncated);
    }
    if !layout.fits(frame) {
        return Err(Outcome::Malformed);
    }
    let (source, destination) = (A::source(ip), A::destination(ip));
    // All of the fixed header has to be there, and one look is enough for that.
    let (ports, flags) = if is_later_fragment {
        (Ports::NONE, TcpFlags(0))
    } else if protocol == Proto::TCP {
        let tcp = frame.at::<Tcp>(l4).ok_or(Outcome::Truncated)?;
        (tcp.ports, tcp.flags)
    } else if protocol == Proto::SCTP {
        let ports = *frame.at::<Ports>(l4).ok_or(Outcome::Truncated)?;
        (ports, sctp::signal(frame, l4).ok_or(Outcome::Truncated)?)
    } else {
        let udp = frame.at::<Udp>(l4).ok_or(Outcome::Truncated)?;
        (udp.ports, TcpFlags(0))
    };
    let key = FlowKey {
        source,
        destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol,
        zero: 0,
        zero_tail: 0,
    };
    let packet = Packet {
        key,
        l4,
        flags,
        is_v6: A::IS_V6,
        piece: match (fragment, is_later_fragment) {
            (None, _) => Piece::Whole,
            (Some(_), false) => Piece::First,
            (Some(_), true) => Piece::Later,
        },
        origin: Origin::Pod,
        scope: Scope::CLUSTER,
    };
    Ok(Read::Flow(packet, fragment))
}
