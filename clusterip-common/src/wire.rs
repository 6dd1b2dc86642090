//! Values as they travel: the only byte-order conversion of the workspace.
#![expect(
    clippy::big_endian_bytes,
    clippy::host_endian_bytes,
    clippy::little_endian_bytes,
    reason = "this is the one file that converts byte order"
)]

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 16-bit number in network byte order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Be16(pub [u8; 2]);

impl Be16 {
    /// Converts from host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be_bytes())
    }

    /// Converts to host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0)
    }

    /// The number that the same two bytes are in memory, as the kernel's structures have it.
    #[inline(always)]
    #[must_use]
    pub const fn as_it_lies(self) -> u16 {
        u16::from_ne_bytes(self.0)
    }
}

impl fmt::Debug for Be16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// A 32-bit number in network byte order.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Be32(pub [u8; 4]);

impl Be32 {
    /// Converts from host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u32) -> Self {
        Self(host.to_be_bytes())
    }

    /// Converts to host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
}

impl fmt::Debug for Be32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.get(), f)
    }
}

/// A 32-bit number that is sent lowest byte first: SCTP's checksum (RFC 9260, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Le32(pub [u8; 4]);

impl Le32 {
    /// Converts from host order.
    #[inline(always)]
    #[must_use]
    pub const fn new(host: u32) -> Self {
        Self(host.to_le_bytes())
    }

    /// Converts to host order.
    #[inline(always)]
    #[must_use]
    pub const fn get(self) -> u32 {
        u32::from_le_bytes(self.0)
    }
}

/// An IP address as the maps hold it: IPv6 as it is, IPv4 as `::ffff:a.b.c.d`. One key type serves both families.
///
/// Held as two words in memory order, and with their alignment: of sixteen bytes LLVM makes sixteen loads, spills and
/// stores, and the verifier wants each access to the stack aligned.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Addr {
    words: [u64; 2],
}

const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// The unspecified IPv6 address.
    pub const UNSPECIFIED: Self = Self { words: [0; 2] };

    /// An IPv4 address, mapped.
    #[inline(always)]
    #[must_use]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self {
            words: [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])],
        }
    }

    /// An IPv6 address.
    #[inline(always)]
    #[must_use]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let [
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
        ] = octets;
        Self {
            words: [
                u64::from_ne_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
                u64::from_ne_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            ],
        }
    }

    /// As above, of bytes where they lie: it is two loads, where of a copy LLVM makes as many as somebody looks at parts of it.
    #[inline(always)]
    #[must_use]
    pub const fn v6_at(octets: &[u8; 16]) -> Self {
        let (first, last) = octets.split_at(8);
        match (first.first_chunk(), last.first_chunk()) {
            (Some(first), Some(last)) => Self {
                words: [u64::from_ne_bytes(*first), u64::from_ne_bytes(*last)],
            },
            // Sixteen bytes have two halves.
            _ => Self::UNSPECIFIED,
        }
    }

    /// The sixteen bytes.
    #[inline(always)]
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b] = self.words;
        let [a0, a1, a2, a3, a4, a5, a6, a7] = a.to_ne_bytes();
        let [b0, b1, b2, b3, b4, b5, b6, b7] = b.to_ne_bytes();
        [
            a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7,
        ]
    }

    /// The sixteen bytes as four numbers that lie in memory as they do.
    #[inline(always)]
    #[must_use]
    pub const fn quarters(self) -> [u32; 4] {
        let [
            a0,
            a1,
            a2,
            a3,
            b0,
            b1,
            b2,
            b3,
            c0,
            c1,
            c2,
            c3,
            d0,
            d1,
            d2,
            d3,
        ] = self.octets();
        [
            u32::from_ne_bytes([a0, a1, a2, a3]),
            u32::from_ne_bytes([b0, b1, b2, b3]),
            u32::from_ne_bytes([c0, c1, c2, c3]),
            u32::from_ne_bytes([d0, d1, d2, d3]),
        ]
    }

    /// The two words, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        self.words
    }

    /// The last four bytes: the IPv4 address of a mapped one.
    #[inline(always)]
    #[must_use]
    pub const fn low(self) -> [u8; 4] {
        let [_, b] = self.words;
        let [_, _, _, _, b4, b5, b6, b7] = b.to_ne_bytes();
        [b4, b5, b6, b7]
    }

    /// The number that the last four bytes are in memory: half a register, where bytes would be put together one by one.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "half of it")]
    pub const fn low_as_it_lies(self) -> u32 {
        let [_, last] = self.words;
        if cfg!(target_endian = "little") {
            (last >> 32) as u32
        } else {
            last as u32
        }
    }

    /// Whether this is `::ffff:0:0/96`, the form that stands for IPv4 in the maps and is refused on the wire (D12).
    #[inline(always)]
    #[must_use]
    pub const fn is_mapped(self) -> bool {
        // This word first: it says no of nearly every address, and the packets' way looks no further.
        let ([a, _], [_, _, third, _]) = (self.words, self.quarters());
        third == MAPPED && a == 0
    }

    /// The bits that are set in both.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, mask: Self) -> Self {
        let ([a, b], [c, d]) = (self.words, mask.words);
        Self {
            words: [a & c, b & d],
        }
    }

    /// Whether two addresses are the same, for `const` and without a call.
    #[inline(always)]
    #[must_use]
    pub const fn is(self, other: Self) -> bool {
        let ([a, b], [c, d]) = (self.words, other.words);
        (a ^ c) | (b ^ d) == 0
    }
}

impl Ord for Addr {
    /// As numbers.
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.octets().cmp(&other.octets())
    }
}

impl PartialOrd for Addr {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl From<IpAddr> for Addr {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl From<Addr> for IpAddr {
    fn from(addr: Addr) -> Self {
        if addr.is_mapped() {
            Self::V4(Ipv4Addr::from(addr.low()))
        } else {
            Self::V6(Ipv6Addr::from(addr.octets()))
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&IpAddr::from(*self), f)
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An IP protocol number.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(transparent)]
pub struct Proto(pub u8);

impl Proto {
    /// ICMP.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// `ICMPv6`.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TCP => f.write_str("tcp"),
            Self::UDP => f.write_str("udp"),
            Self::SCTP => f.write_str("sctp"),
            Self::ICMP => f.write_str("icmp"),
            Self::ICMPV6 => f.write_str("icmpv6"),
            Self(number) => write!(f, "proto-{number}"),
        }
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A socket address in one of the usual spellings: `10.0.0.1:80`, `[fd00::1]:80`.
pub(crate) fn write_endpoint(f: &mut fmt::Formatter<'_>, address: Addr, port: Be16) -> fmt::Result {
    match IpAddr::from(address) {
        IpAddr::V4(ip) => write!(f, "{ip}:{}", port.get()),
        IpAddr::V6(ip) => write!(f, "[{ip}]:{}", port.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_the_mapped_form() {
        let ip: IpAddr = Ipv4Addr::new(10, 96, 0, 10).into();
        assert!(Addr::from(ip).is_mapped());
        assert_eq!(IpAddr::from(Addr::from(ip)), ip);
    }

    #[test]
    fn an_ipv6_address_is_not_mapped() {
        let ip: IpAddr = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa).into();
        assert!(!Addr::from(ip).is_mapped());
        assert_eq!(IpAddr::from(Addr::from(ip)), ip);
    }
}
