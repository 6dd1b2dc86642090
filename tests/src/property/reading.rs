//! A second reader of frames, plain and slow, which shares nothing with the dataplane's: what a packet is, and which of its
//! checksums are right.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use clusterip_common::{packet::Link, wire::Be16};

use crate::packet::{checksum, crc32c};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;
/// Extension headers that are stepped over (D5).
const EXTENSIONS: usize = 4;
/// No L4 header is looked for behind this byte of a frame with extension headers (D5).
const FARTHEST: usize = 0xfff;
/// VLAN tags that are stepped over (D11).
const TAGS: usize = 2;
/// What may lie behind a quotation. It is copied, because to fill as much byte by byte takes most of a fuzzer's time.
static BEYOND: [u8; u16::MAX as usize] = [0; u16::MAX as usize];

/// Which part of a packet a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    Whole,
    First,
    Later,
}

/// An IP packet as its headers describe it.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Where the IP header begins.
    pub(super) l3: usize,
    /// What stands behind all IP headers.
    pub(super) protocol: u8,
    /// Where that begins.
    pub(super) l4: usize,
    /// Where the packet ends.
    pub(super) end: usize,
    pub(super) piece: Piece,
}

/// Where the IP packet begins, and whether it is one of IPv6 (D11); None if there is none.
fn network(frame: &[u8], link: Link) -> Option<(usize, bool)> {
    if link == Link::None {
        return match frame.first()? >> 4 {
            4 => Some((0, false)),
            6 => Some((0, true)),
            _ => None,
        };
    }
    let mut at = 12;
    for _ in 0..TAGS {
        if matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
            at += 4;
        }
    }
    match frame.get(at..at + 2)? {
        [0x08, 0x00] => Some((at + 2, false)),
        [0x86, 0xdd] => Some((at + 2, true)),
        _ => None,
    }
}

/// Source and destination of a frame that has a whole fixed IP header, right or not.
pub(super) fn addresses(frame: &[u8], link: Link) -> Option<(IpAddr, IpAddr)> {
    match network(frame, link)? {
        (l3, false) => v4_addresses(frame, l3),
        (l3, true) => v6_addresses(frame, l3),
    }
}

fn v4_addresses(frame: &[u8], l3: usize) -> Option<(IpAddr, IpAddr)> {
    let header: [u8; 20] = frame.get(l3..l3 + 20)?.try_into().ok()?;
    let address =
        |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
    Some((address(12).into(), address(16).into()))
}

fn v6_addresses(frame: &[u8], l3: usize) -> Option<(IpAddr, IpAddr)> {
    let header = frame.get(l3..l3 + 40)?;
    let address = |range: Range<usize>| -> Option<Ipv6Addr> {
        let octets: [u8; 16] = header.get(range)?.try_into().ok()?;
        Some(octets.into())
    };
    Some((address(8..24)?.into(), address(24..40)?.into()))
}

/// Reads a frame; None where its headers contradict it, or are not all there (D4).
pub(super) fn read(frame: &[u8], link: Link) -> Option<Reading> {
    match network(frame, link)? {
        (l3, false) => read_v4(frame, l3),
        (l3, true) => read_v6(frame, l3),
    }
}

fn number(frame: &[u8], at: usize) -> Option<usize> {
    let bytes: [u8; 2] = frame.get(at..at + 2)?.try_into().ok()?;
    Some(Be16(bytes).get().into())
}

/// Reads an IPv4 packet that begins at `l3`. A length of 0 is one that the sender's device fills in: to the end.
fn read_v4(frame: &[u8], l3: usize) -> Option<Reading> {
    let (source, destination) = v4_addresses(frame, l3)?;
    let first = frame[l3];
    let header = usize::from(first & 0xf) * 4;
    let end = match number(frame, l3 + 2)? {
        0 => frame.len(),
        length => l3 + length,
    };
    let pieces = number(frame, l3 + 6)?;
    let piece = match (pieces & 0x1fff, pieces & 0x2000) {
        (0, 0) => Piece::Whole,
        (0, _) => Piece::First,
        _ => Piece::Later,
    };
    (first >> 4 == 4 && header >= 20 && end <= frame.len()).then_some(Reading {
        source,
        destination,
        l3,
        protocol: frame[l3 + 9],
        l4: l3 + header,
        end,
        piece,
    })
}

/// Reads an IPv6 packet that begins at `l3`.
fn read_v6(frame: &[u8], l3: usize) -> Option<Reading> {
    let (source, destination) = v6_addresses(frame, l3)?;
    let end = match number(frame, l3 + 4)? {
        0 => frame.len(),
        length => l3 + 40 + length,
    };
    if frame[l3] >> 4 != 6 || end > frame.len() {
        return None;
    }
    let (mut protocol, mut l4, mut piece) = (frame[l3 + 6], l3 + 40, Piece::Whole);
    for _ in 0..EXTENSIONS {
        match protocol {
            0 | 43 | 60 => {
                let units = usize::from(*frame.get(l4 + 1)?);
                protocol = frame[l4];
                l4 += (units + 1) * 8;
            }
            44 => {
                let pieces = number(frame, l4 + 2)?;
                let _identification = frame.get(l4 + 4..l4 + 8)?;
                piece = match (pieces & !7, pieces & 1) {
                    // A header that says "in one piece" (RFC 6946).
                    (0, 0) => piece,
                    (0, _) => Piece::First,
                    _ => Piece::Later,
                };
                protocol = frame[l4];
                l4 += 8;
                if piece == Piece::Later {
                    break;
                }
            }
            _ => break,
        }
    }
    (l4 <= FARTHEST).then_some(Reading {
        source,
        destination,
        l3,
        protocol,
        l4,
        end,
        piece,
    })
}

impl Reading {
    pub(super) const fn is_v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// Source and destination port of TCP, UDP and SCTP whose fixed header is there.
    pub(super) fn ports(&self, frame: &[u8]) -> Option<(u16, u16)> {
        let least = match self.protocol {
            TCP => 20,
            UDP => 8,
            SCTP => 16,
            _ => return None,
        };
        if self.piece == Piece::Later || self.l4 + least > self.end {
            return None;
        }
        let port = |at: usize| u16::try_from(number(frame, at)?).ok();
        Some((port(self.l4)?, port(self.l4 + 2)?))
    }

    /// Whether this is ICMP of the packet's family.
    pub(super) const fn is_icmp(&self) -> bool {
        self.protocol == if self.is_v4() { 1 } else { 58 }
    }

    /// Where the L4 checksum stands, in a packet that has one.
    pub(super) fn checksum_field(&self) -> Option<Range<usize>> {
        let (offset, length) = match self.protocol {
            TCP => (16, 2),
            UDP => (6, 2),
            SCTP => (8, 4),
            _ if self.is_icmp() => (2, 2),
            _ => return None,
        };
        let at = self.l4 + offset;
        let is_there = self.piece != Piece::Later && at + length <= self.end;
        is_there.then_some(at..at + length)
    }

    /// The IP header's own checksum, of IPv4.
    pub(super) fn header_is_right(&self, frame: &[u8]) -> bool {
        !self.is_v4() || checksum(&[&frame[self.l3..self.l4.min(frame.len())]]) == [0, 0]
    }

    /// Whether the L4 checksum is there, and not one that says that there is none.
    pub(super) fn has_checksum(&self, frame: &[u8]) -> bool {
        let may_lack = matches!(self.protocol, UDP | SCTP);
        let field = self.checksum_field().and_then(|field| frame.get(field));
        field.is_some_and(|field| !may_lack || field.iter().any(|byte| *byte != 0))
    }

    /// Whether the L4 checksum of a packet in one piece is right.
    pub(super) fn checksum_is_right(&self, frame: &[u8]) -> bool {
        if self.piece != Piece::Whole || self.end > frame.len() || !self.has_checksum(frame) {
            return false;
        }
        let segment = &frame[self.l4..self.end];
        if self.protocol == SCTP {
            let begun = [&segment[..8], &[0; 4], &segment[12..]].concat();
            return crc32c(&begun) == segment[8..12];
        }
        checksum(&[&self.pseudo_header(segment.len()), segment]) == [0, 0]
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        if self.is_v4() && self.is_icmp() {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend([0, self.protocol]);
        // A sum is the same wherever its words stand; no frame here is longer than 65,535 bytes.
        bytes.extend(Be16::new(u16::try_from(length).unwrap_or(u16::MAX)).0);
        bytes
    }

    /// The packet that an ICMP error quotes, as far as it goes.
    pub(super) fn quoted(&self, frame: &[u8]) -> Option<Reading> {
        if !self.is_icmp() {
            return None;
        }
        let l3 = self.l4 + 8;
        // The quotation may end before the packet that it quotes does: as long as its header says.
        let inner = [frame, &BEYOND[..]].concat();
        if self.is_v4() {
            read_v4(&inner, l3)
        } else {
            read_v6(&inner, l3)
        }
    }
}
