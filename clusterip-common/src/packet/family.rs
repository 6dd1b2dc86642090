//! What differs between IPv4 and IPv6, and nothing else.

use network_types::{
    eth::EtherType,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use super::{
    checksum::Sum,
    frame::Wire,
    parse::{L3, TCP_HEADER},
};
use crate::{
    abi::{Direction, Outcome, Settings},
    wire::{Addr, Be16, Proto},
};

/// One of the two families.
pub(super) trait Family {
    /// The fixed part of the IP header.
    type Header: Wire;
    /// As it stands in the Ethernet header.
    const ETHER_TYPE: u16;
    /// Bytes of a frame that hold every header we read.
    const HEADERS: usize;
    /// Whether this is `V6`.
    const IS_V6: bool;

    fn source(ip: &Self::Header) -> Addr;
    fn destination(ip: &Self::Header) -> Addr;
    /// An IPv4-mapped IPv6 address would be mistaken for the IPv4 address in the maps (D12).
    fn has_mapped_address(ip: &Self::Header) -> bool;
    /// Whether the destination is in the service range.
    fn is_for_service(ip: &Self::Header, settings: &Settings) -> bool;
    /// Protocol, length of the headers before L4, and bytes from the IP header to the end as the header says (0 if it
    /// does not: jumbo or GSO).
    fn layout(ip: &Self::Header) -> Result<(Proto, usize, usize), Outcome>;
    /// Bytes of the fixed header.
    const HEADER: usize = size_of::<Self::Header>();
    /// This family's ICMP.
    const ICMP: Proto;
    /// Type and code of "port unreachable".
    const PORT_UNREACHABLE: (u8, u8);
    /// Whether an error may be sent to an address: it is that of one host (D8).
    fn is_host(address: Addr) -> bool;
    /// Writes a whole header without options.
    fn fill(
        ip: &mut Self::Header,
        source: Addr,
        destination: Addr,
        protocol: Proto,
        payload: usize,
    );
    /// Sum of the pseudo header.
    fn pseudo_header(source: Addr, destination: Addr, protocol: Proto, payload: usize) -> Sum;
    /// Writes one of the addresses; the IP header's own checksum follows. What changed, for the pseudo header.
    fn set_address(ip: &mut Self::Header, side: Direction, to: Addr) -> Sum;
}

/// Hops that an answer of ours may take.
const HOPS: u8 = 64;

/// A length as a header has it.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "of answers that we make: some dozen bytes"
)]
const fn length(bytes: usize) -> Be16 {
    Be16::new(bytes as u16)
}

pub(super) enum V4 {}

/// More fragments, or an offset: IPv4.
const FRAGMENT: u16 = 0x3fff;

impl Family for V4 {
    type Header = Ipv4Hdr;
    const ETHER_TYPE: u16 = EtherType::Ipv4 as u16;
    const HEADERS: usize = L3 + 60 + TCP_HEADER;
    const IS_V6: bool = false;

    #[inline(always)]
    fn source(ip: &Ipv4Hdr) -> Addr {
        Addr::v4(ip.src_addr)
    }

    #[inline(always)]
    fn destination(ip: &Ipv4Hdr) -> Addr {
        Addr::v4(ip.dst_addr)
    }

    #[inline(always)]
    fn has_mapped_address(_: &Ipv4Hdr) -> bool {
        false
    }

    #[inline(always)]
    fn is_for_service(ip: &Ipv4Hdr, settings: &Settings) -> bool {
        settings.service_v4.contains_low(ip.dst_addr)
    }

    #[inline(always)]
    fn layout(ip: &Ipv4Hdr) -> Result<(Proto, usize, usize), Outcome> {
        let header = usize::from(ip.vihl & 0xf) * 4;
        if header < Ipv4Hdr::LEN || ip.vihl >> 4 != 4 {
            return Err(Outcome::Malformed);
        }
        if Be16(ip.frags).get() & FRAGMENT != 0 {
            return Err(Outcome::Fragment);
        }
        Ok((Proto(ip.proto), header, usize::from(Be16(ip.tot_len).get())))
    }

    const ICMP: Proto = Proto::ICMP;
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);

    #[inline(always)]
    fn is_host(address: Addr) -> bool {
        let [first, ..] = address.low();
        first != 0 && first < 224
    }

    #[inline(always)]
    fn fill(ip: &mut Ipv4Hdr, source: Addr, destination: Addr, protocol: Proto, payload: usize) {
        let [l0, l1] = length(Ipv4Hdr::LEN + payload).0;
        let [s0, s1, s2, s3] = source.low();
        let [d0, d1, d2, d3] = destination.low();
        let sum = Sum::ZERO.plus(&[
            0x45, 0, l0, l1, 0, 0, 0x40, 0, HOPS, protocol.0, 0, 0, s0, s1, s2, s3, d0, d1, d2, d3,
        ]);
        *ip = Ipv4Hdr {
            vihl: 0x45,
            tos: 0,
            tot_len: [l0, l1],
            id: [0; 2],
            frags: [0x40, 0],
            ttl: HOPS,
            proto: protocol.0,
            check: sum.checksum(),
            src_addr: [s0, s1, s2, s3],
            dst_addr: [d0, d1, d2, d3],
        };
    }

    #[inline(always)]
    fn pseudo_header(source: Addr, destination: Addr, protocol: Proto, payload: usize) -> Sum {
        Sum::ZERO
            .plus(&source.low())
            .plus(&destination.low())
            .plus(&[0, protocol.0])
            .plus(&length(payload).0)
    }

    #[inline(always)]
    fn set_address(ip: &mut Ipv4Hdr, side: Direction, to: Addr) -> Sum {
        let to = to.low();
        let field = if side == Direction::REQUEST {
            &mut ip.dst_addr
        } else {
            &mut ip.src_addr
        };
        let change = Sum::change(&*field, &to);
        *field = to;
        ip.check = change.fix(ip.check);
        change
    }
}

pub(super) enum V6 {}

impl Family for V6 {
    type Header = Ipv6Hdr;
    const ETHER_TYPE: u16 = EtherType::Ipv6 as u16;
    const HEADERS: usize = L3 + Ipv6Hdr::LEN + TCP_HEADER;
    const IS_V6: bool = true;

    #[inline(always)]
    fn source(ip: &Ipv6Hdr) -> Addr {
        Addr::v6(ip.src_addr)
    }

    #[inline(always)]
    fn destination(ip: &Ipv6Hdr) -> Addr {
        Addr::v6(ip.dst_addr)
    }

    #[inline(always)]
    fn has_mapped_address(ip: &Ipv6Hdr) -> bool {
        Addr::v6(ip.src_addr).is_mapped() || Addr::v6(ip.dst_addr).is_mapped()
    }

    #[inline(always)]
    fn is_for_service(ip: &Ipv6Hdr, settings: &Settings) -> bool {
        settings.service_v6.contains(Addr::v6(ip.dst_addr))
    }

    #[inline(always)]
    fn layout(ip: &Ipv6Hdr) -> Result<(Proto, usize, usize), Outcome> {
        let [version, ..] = ip.vcf;
        if version >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let length = match usize::from(Be16(ip.payload_len).get()) {
            0 => 0,
            payload => Ipv6Hdr::LEN + payload,
        };
        Ok((Proto(ip.next_hdr), Ipv6Hdr::LEN, length))
    }

    const ICMP: Proto = Proto::ICMPV6;
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);

    #[inline(always)]
    fn is_host(address: Addr) -> bool {
        let [first, ..] = address.octets();
        first != 0xff && !address.is(Addr::UNSPECIFIED)
    }

    #[inline(always)]
    fn fill(ip: &mut Ipv6Hdr, source: Addr, destination: Addr, protocol: Proto, payload: usize) {
        *ip = Ipv6Hdr {
            vcf: [0x60, 0, 0, 0],
            payload_len: length(payload).0,
            next_hdr: protocol.0,
            hop_limit: HOPS,
            src_addr: source.octets(),
            dst_addr: destination.octets(),
        };
    }

    #[inline(always)]
    fn pseudo_header(source: Addr, destination: Addr, protocol: Proto, payload: usize) -> Sum {
        Sum::ZERO
            .plus(&source.octets())
            .plus(&destination.octets())
            .plus(&[0, protocol.0])
            .plus(&length(payload).0)
    }

    #[inline(always)]
    fn set_address(ip: &mut Ipv6Hdr, side: Direction, to: Addr) -> Sum {
        let to = to.octets();
        let field = if side == Direction::REQUEST {
            &mut ip.dst_addr
        } else {
            &mut ip.src_addr
        };
        let change = Sum::change(&*field, &to);
        *field = to;
        change
    }
}
