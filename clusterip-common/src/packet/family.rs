//! What differs between IPv4 and IPv6, and nothing else.
#![expect(
    clippy::host_endian_bytes,
    reason = "an identification is compared, never counted with, and a sum is the same in either order"
)]

use network_types::{
    eth::EtherType,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use super::{
    checksum::Sum,
    frame::{Frame, Wire},
    parse::{Layout, TCP_HEADER},
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
    /// Bytes from the IP header on that hold every header we read of a packet without options or extensions. No more: what the
    /// stack sends has its data behind them, in pages of their own, and pulling some of that is a copy for each packet.
    const HEADERS: usize = Self::HEADER + TCP_HEADER;
    /// The same of one that an ICMP error quotes: with options, without extensions.
    const QUOTED: usize;
    /// Whether this is `V6`.
    const IS_V6: bool;

    fn source(ip: &Self::Header) -> Addr;
    fn destination(ip: &Self::Header) -> Addr;
    /// An IPv4-mapped IPv6 address would be mistaken for the IPv4 address in the maps (D12).
    fn has_mapped_address(ip: &Self::Header) -> bool;
    /// Whether the destination is in the service range.
    fn is_for_service(ip: &Self::Header, settings: &Settings) -> bool;
    /// Bytes from the header to the end, as it says itself; 0 if it does not: jumbo or GSO.
    fn length(ip: &Self::Header) -> usize;
    /// Whether the destination is the address that hides a pod from itself (D13).
    fn is_hairpin(ip: &Self::Header, settings: &Settings) -> bool;
    /// Whether there is more than the fixed header, so that more of the frame is to be pulled.
    fn has_extensions(ip: &Self::Header) -> bool;
    /// Whether ports are not where `quoted` says: of a later piece, or behind extension headers.
    fn hides_ports(ip: &Self::Header) -> bool;
    /// What the header and its extensions say (D4, D5).
    fn layout<F: Frame>(frame: &F, ip: &Self::Header) -> Result<Layout, Outcome>;
    /// Length of the headers at `at`, and what follows them, of a packet that is quoted in an ICMP error.
    fn quoted(ip: &Self::Header) -> (Proto, usize);
    /// Whether ports stand behind a quoted header: it is a header, and not that of a later piece.
    fn quotes_ports(ip: &Self::Header) -> bool;
    /// How much of a packet an ICMP error quotes, its header and 8 bytes (RFC 792), and the sum of that.
    fn quote<F: Frame>(frame: &F, l4: usize) -> Option<(usize, Sum)>;
    /// Types of ICMP: a ping, its answer.
    const ECHO: (u8, u8);
    /// Whether a type of ICMP is that of an error.
    fn is_error(kind: u8) -> bool;
    /// Source and destination change places; checksums stay as they are.
    fn swap(ip: &mut Self::Header);
    /// Bytes of the fixed header.
    const HEADER: usize = size_of::<Self::Header>();
    /// This family's ICMP.
    const ICMP: Proto;
    /// Type and code of "port unreachable".
    const PORT_UNREACHABLE: (u8, u8);
    /// Whether an error may be sent to an address: it is that of one host (D8).
    fn is_host(address: Addr) -> bool;
    /// Whether no machine sends from an address: loopback, several machines, none.
    fn is_martian(address: Addr) -> bool;
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
    /// Hops that it may still take.
    fn hops(ip: &Self::Header) -> u8;
    /// Takes one of them; the IP header's own checksum follows. What changed.
    fn take_hop(ip: &mut Self::Header) -> Sum;
    /// Writes one of the addresses; the IP header's own checksum follows. What changed, for the pseudo header.
    fn set_address(ip: &mut Self::Header, side: Direction, to: Addr) -> Sum;
}

/// Bytes of L4 that an ICMP error quotes.
const QUOTED_L4: usize = 8;
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

/// More fragments; their offset: IPv4.
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

impl Family for V4 {
    type Header = Ipv4Hdr;
    const ETHER_TYPE: u16 = EtherType::Ipv4 as u16;
    const QUOTED: usize = 60 + TCP_HEADER;
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
    fn is_hairpin(ip: &Ipv4Hdr, settings: &Settings) -> bool {
        ip.dst_addr == settings.hairpin_v4.low()
    }

    #[inline(always)]
    fn length(ip: &Ipv4Hdr) -> usize {
        Be16(ip.tot_len).get().into()
    }

    #[inline(always)]
    fn has_extensions(ip: &Ipv4Hdr) -> bool {
        ip.vihl & 0xf > 5
    }

    #[inline(always)]
    fn hides_ports(ip: &Ipv4Hdr) -> bool {
        Be16(ip.frags).get() & OFFSET != 0
    }

    #[inline(always)]
    fn layout<F: Frame>(frame: &F, ip: &Ipv4Hdr) -> Result<Layout, Outcome> {
        let header = usize::from(ip.vihl & 0xf) * 4;
        if header < Ipv4Hdr::LEN || ip.vihl >> 4 != 4 {
            return Err(Outcome::Malformed);
        }
        let pieces = Be16(ip.frags).get();
        let [high, low] = ip.id;
        Ok(Layout {
            protocol: Proto(ip.proto),
            l4: frame.network() + header,
            length: Self::length(ip),
            fragment: (pieces & (MORE | OFFSET) != 0)
                .then(|| u32::from_ne_bytes([high, low, 0, 0])),
            is_later_fragment: pieces & OFFSET != 0,
        })
    }

    #[inline(always)]
    fn quoted(ip: &Ipv4Hdr) -> (Proto, usize) {
        (Proto(ip.proto), usize::from(ip.vihl & 0xf) * 4)
    }

    #[inline(always)]
    fn quotes_ports(ip: &Ipv4Hdr) -> bool {
        matches!(ip.vihl, 0x45..=0x4f) && Be16(ip.frags).get() & OFFSET == 0
    }

    #[inline(always)]
    fn quote<F: Frame>(frame: &F, l4: usize) -> Option<(usize, Sum)> {
        let first = frame.at::<[u8; QUOTED_L4]>(l4)?;
        // An IPv4 header with its checksum adds up to 0xffff, options and all.
        Some((l4 - frame.network() + QUOTED_L4, Sum(0xffff).plus(first)))
    }

    const ECHO: (u8, u8) = (8, 0);

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn swap(ip: &mut Ipv4Hdr) {
        core::mem::swap(&mut ip.src_addr, &mut ip.dst_addr);
    }

    const ICMP: Proto = Proto::ICMP;
    const PORT_UNREACHABLE: (u8, u8) = (3, 3);

    #[inline(always)]
    fn is_host(address: Addr) -> bool {
        let [first, ..] = address.low();
        first != 0 && first < 224
    }

    #[inline(always)]
    fn is_martian(address: Addr) -> bool {
        let [first, ..] = address.low();
        first == 0 || first == 127 || first & 0xf0 == 224 || address.low() == [255; 4]
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
    fn hops(ip: &Ipv4Hdr) -> u8 {
        ip.ttl
    }

    #[inline(always)]
    fn take_hop(ip: &mut Ipv4Hdr) -> Sum {
        let left = ip.ttl.wrapping_sub(1);
        let change = Sum::change(&[ip.ttl, ip.proto], &[left, ip.proto]);
        ip.ttl = left;
        ip.check = change.fix(ip.check);
        change
    }

    #[inline(always)]
    fn set_address(ip: &mut Ipv4Hdr, side: Direction, to: Addr) -> Sum {
        let field = if side == Direction::REQUEST {
            &mut ip.dst_addr
        } else {
            &mut ip.src_addr
        };
        let to = to.low_as_it_lies();
        let change = Sum::reword(u32::from_ne_bytes(*field), to);
        *field = to.to_ne_bytes();
        ip.check = change.fix(ip.check);
        change
    }
}

pub(super) enum V6 {}

/// Extension headers that are stepped over; behind another one, or behind more of them, nothing is translated (D5).
const HOP_BY_HOP: Proto = Proto(0);
const ROUTING: Proto = Proto(43);
const FRAGMENT: Proto = Proto(44);
pub(super) const DESTINATION: Proto = Proto(60);
const MOST_EXTENSIONS: usize = 4;
/// Beyond any header that we step over.
const FARTHEST: usize = 0xfff;

impl Family for V6 {
    type Header = Ipv6Hdr;
    const ETHER_TYPE: u16 = EtherType::Ipv6 as u16;
    const QUOTED: usize = Ipv6Hdr::LEN + TCP_HEADER;
    const IS_V6: bool = true;

    #[inline(always)]
    fn source(ip: &Ipv6Hdr) -> Addr {
        Addr::v6_at(&ip.src_addr)
    }

    #[inline(always)]
    fn destination(ip: &Ipv6Hdr) -> Addr {
        Addr::v6_at(&ip.dst_addr)
    }

    #[inline(always)]
    fn has_mapped_address(ip: &Ipv6Hdr) -> bool {
        Addr::v6_at(&ip.src_addr).is_mapped() || Addr::v6_at(&ip.dst_addr).is_mapped()
    }

    #[inline(always)]
    fn is_for_service(ip: &Ipv6Hdr, settings: &Settings) -> bool {
        settings.service_v6.contains(Addr::v6_at(&ip.dst_addr))
    }

    #[inline(always)]
    fn is_hairpin(ip: &Ipv6Hdr, settings: &Settings) -> bool {
        Addr::v6_at(&ip.dst_addr).is(settings.hairpin_v6)
    }

    #[inline(always)]
    fn length(ip: &Ipv6Hdr) -> usize {
        match usize::from(Be16(ip.payload_len).get()) {
            0 => 0,
            payload => Ipv6Hdr::LEN + payload,
        }
    }

    #[inline(always)]
    fn has_extensions(ip: &Ipv6Hdr) -> bool {
        matches!(
            Proto(ip.next_hdr),
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION
        )
    }

    #[inline(always)]
    fn hides_ports(ip: &Ipv6Hdr) -> bool {
        Self::has_extensions(ip)
    }

    #[inline(always)]
    fn layout<F: Frame>(frame: &F, ip: &Ipv6Hdr) -> Result<Layout, Outcome> {
        let network = frame.network();
        let [version, ..] = ip.vcf;
        if version >> 4 != 6 {
            return Err(Outcome::Malformed);
        }
        let mut layout = Layout {
            protocol: Proto(ip.next_hdr),
            l4: network + Ipv6Hdr::LEN,
            length: Self::length(ip),
            fragment: None,
            is_later_fragment: false,
        };
        for _ in 0..MOST_EXTENSIONS {
            match layout.protocol {
                HOP_BY_HOP | ROUTING | DESTINATION => {
                    let [next, units] =
                        *frame.at::<[u8; 2]>(layout.l4).ok_or(Outcome::Truncated)?;
                    layout.protocol = Proto(next);
                    layout.l4 += (usize::from(units) + 1) * 8;
                }
                FRAGMENT => {
                    let [next, _, offset0, offset1, i0, i1, i2, i3] =
                        *frame.at::<[u8; 8]>(layout.l4).ok_or(Outcome::Truncated)?;
                    layout.protocol = Proto(next);
                    layout.l4 += 8;
                    let pieces = Be16([offset0, offset1]).get();
                    // A packet in one piece may have this header too (RFC 6946).
                    if pieces & !6 != 0 {
                        layout.fragment = Some(u32::from_ne_bytes([i0, i1, i2, i3]));
                    }
                    if pieces & !7 != 0 {
                        layout.is_later_fragment = true;
                        break;
                    }
                }
                _ => break,
            }
        }
        if layout.l4 > FARTHEST {
            return Err(Outcome::Truncated);
        }
        if layout.l4 != network + Ipv6Hdr::LEN {
            layout.l4 = frame.forget(layout.l4) & FARTHEST;
        }
        Ok(layout)
    }

    #[inline(always)]
    fn quoted(ip: &Ipv6Hdr) -> (Proto, usize) {
        (Proto(ip.next_hdr), Ipv6Hdr::LEN)
    }

    #[inline(always)]
    fn quotes_ports(ip: &Ipv6Hdr) -> bool {
        let [version, ..] = ip.vcf;
        version >> 4 == 6
    }

    /// Of a packet with extension headers their beginning stands for L4.
    #[inline(always)]
    fn quote<F: Frame>(frame: &F, _: usize) -> Option<(usize, Sum)> {
        const QUOTE: usize = Ipv6Hdr::LEN + QUOTED_L4;
        let mut sum = Sum::ZERO;
        // A word at a time: of all of them at once the compiler keeps too many in hand.
        for word in 0..QUOTE / 2 {
            sum = sum.plus(frame.at::<[u8; 2]>(frame.network() + word * 2)?);
        }
        Some((QUOTE, sum))
    }

    const ECHO: (u8, u8) = (128, 129);

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn swap(ip: &mut Ipv6Hdr) {
        core::mem::swap(&mut ip.src_addr, &mut ip.dst_addr);
    }

    const ICMP: Proto = Proto::ICMPV6;
    const PORT_UNREACHABLE: (u8, u8) = (1, 4);

    #[inline(always)]
    fn is_host(address: Addr) -> bool {
        let [first, ..] = address.octets();
        first != 0xff && !address.is(Addr::UNSPECIFIED)
    }

    #[inline(always)]
    fn is_martian(address: Addr) -> bool {
        const LOOPBACK: Addr = Addr::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        !Self::is_host(address) || address.is(LOOPBACK)
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
    fn hops(ip: &Ipv6Hdr) -> u8 {
        ip.hop_limit
    }

    #[inline(always)]
    fn take_hop(ip: &mut Ipv6Hdr) -> Sum {
        let left = ip.hop_limit.wrapping_sub(1);
        let change = Sum::change(&[ip.next_hdr, ip.hop_limit], &[ip.next_hdr, left]);
        ip.hop_limit = left;
        change
    }

    #[inline(always)]
    fn set_address(ip: &mut Ipv6Hdr, side: Direction, to: Addr) -> Sum {
        let field = if side == Direction::REQUEST {
            &mut ip.dst_addr
        } else {
            &mut ip.src_addr
        };
        let change = Sum::readdress(Addr::v6_at(field), to);
        *field = to.octets();
        change
    }
}
