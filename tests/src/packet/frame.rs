//! From a sentence to the frame: every length and checksum is computed from the whole of it.

#![expect(
    clippy::indexing_slicing,
    reason = "a sentence that makes no sense is a mistake of the test: it shall panic"
)]

use std::{fmt::Write as _, net::IpAddr};

use bytes::{BufMut as _, Bytes, BytesMut};
use clusterip_common::wire::Be16;

use super::{Layer4, Packet, RST};

impl Packet {
    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let mut segment = self.segment();
        if let Some((from, to)) = self.piece {
            segment = segment[from..to.min(segment.len())].into();
        }
        let mut frame = BytesMut::new();
        if !self.is_bare {
            frame.put_slice(&self.macs.0);
            frame.put_slice(&self.macs.1);
            for (kind, number) in &self.tags {
                frame.put_u16(*kind);
                frame.put_u16(*number);
            }
            frame.put_u16(if self.source.is_ipv4() {
                0x0800
            } else {
                0x86dd
            });
        }
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = BytesMut::new();
                header.put_u8(self.first_byte.unwrap_or(0x45 + words(self.options.len())));
                header.put_u8(0);
                let total = length(self.header_length() + segment.len());
                header.put_u16(self.total_length.unwrap_or(total));
                header.put_u16(if self.piece.is_some() { 7 } else { 0 });
                header.put_u16(self.fragment | if self.dont_fragment { 0x4000 } else { 0 });
                header.put_u8(self.ttl);
                header.put_u8(self.protocol());
                header.put_u16(0);
                header.put_slice(&source.octets());
                header.put_slice(&destination.octets());
                header.put_slice(&self.options);
                let sum = checksum(&[&header]);
                header[10..12].copy_from_slice(&sum);
                frame.put(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.put_u32(u32::from(self.first_byte.unwrap_or(0x60)) << 24);
                let extra: usize = self.extensions.iter().map(|(_, rest)| rest.len() + 1).sum();
                frame.put_u16(self.total_length.unwrap_or(length(extra + segment.len())));
                let mut numbers = self.extensions.iter().map(|(number, _)| *number);
                let first = numbers.next();
                frame.put_u8(first.unwrap_or(self.protocol()));
                frame.put_u8(self.ttl);
                frame.put_slice(&source.octets());
                frame.put_slice(&destination.octets());
                for (_, rest) in &self.extensions {
                    frame.put_u8(numbers.next().unwrap_or(self.protocol()));
                    frame.put_slice(rest);
                }
            }
            mixed => panic!("one family, please: {mixed:?}"),
        }
        frame.put(segment);
        if let Some(cut) = self.cut {
            frame.truncate(cut);
        }
        frame.freeze()
    }

    fn segment(&self) -> BytesMut {
        let mut bytes = BytesMut::new();
        let (at, none) = match self.layer4 {
            Layer4::Tcp {
                source,
                destination,
                seq,
                ack,
                flags,
            } => {
                bytes.put_u16(source);
                bytes.put_u16(destination);
                bytes.put_u32(seq);
                bytes.put_u32(ack);
                bytes.put_u8(5 << 4);
                bytes.put_u8(flags);
                bytes.put_u16(if flags & RST == 0 { 0xfff0 } else { 0 });
                bytes.put_u32(0);
                (16, false)
            }
            Layer4::Udp {
                source,
                destination,
                checksum,
            } => {
                bytes.put_u16(source);
                bytes.put_u16(destination);
                bytes.put_u16(length(8 + self.payload.len()));
                bytes.put_u16(0);
                (6, !checksum)
            }
            Layer4::Icmp { kind, code, rest } => {
                bytes.put_u8(kind);
                bytes.put_u8(code);
                bytes.put_u16(0);
                bytes.put_u32(rest);
                (2, false)
            }
            Layer4::Sctp {
                source,
                destination,
                chunk,
                checksum,
            } => {
                bytes.put_u16(source);
                bytes.put_u16(destination);
                bytes.put_u32(0x0a0b_0c0d);
                bytes.put_u32(0);
                bytes.put_u8(chunk);
                bytes.put_u8(0);
                bytes.put_u16(length(4 + self.payload.len()));
                bytes.put_slice(&self.payload);
                if checksum {
                    let crc = crc32c(&bytes);
                    bytes[8..12].copy_from_slice(&crc);
                }
                return bytes;
            }
            Layer4::Other(_) => (0, true),
        };
        bytes.put_slice(&self.payload);
        if none {
            return bytes;
        }
        let pseudo = self.pseudo_header(bytes.len());
        let bare = matches!(self.layer4, Layer4::Icmp { .. }) && self.source.is_ipv4();
        let mut sum = checksum(&[if bare { &[] } else { &pseudo }, &bytes]);
        if self.is_begun {
            sum = checksum(&[&pseudo]).map(|byte| !byte);
        }
        if sum == [0, 0] && matches!(self.layer4, Layer4::Udp { .. }) {
            sum = [0xff, 0xff];
        }
        bytes[at..at + 2].copy_from_slice(&sum);
        bytes
    }

    fn pseudo_header(&self, segment: usize) -> BytesMut {
        let mut bytes = BytesMut::new();
        for ip in [self.source, self.destination] {
            match ip {
                IpAddr::V4(ip) => bytes.put_slice(&ip.octets()),
                IpAddr::V6(ip) => bytes.put_slice(&ip.octets()),
            }
        }
        bytes.put_u32(length(segment).into());
        bytes.put_u32(self.protocol().into());
        bytes
    }
}

pub(super) fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or_else(|_error| panic!("{bytes} bytes do not fit a packet"))
}

fn words(bytes: usize) -> u8 {
    u8::try_from(bytes / 4).unwrap_or_else(|_error| panic!("{bytes} bytes of options"))
}

/// RFC 1071, the slow and plain way.
pub(crate) fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    Be16::new(!u16::try_from(sum).unwrap_or_default()).0
}

/// RFC 9260, appendix A, the slow and plain way: lowest byte first.
pub(crate) fn crc32c(bytes: &[u8]) -> [u8; 4] {
    let mut crc = !0_u32;
    for byte in bytes {
        for bit in 0..8 {
            let odd = (crc ^ u32::from(byte >> bit)) & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    [0, 8, 16, 24].map(|shift| u8::try_from(!crc >> shift & 0xff).unwrap_or_default())
}

/// A frame as text, for a test that fails: 16 bytes a line.
#[must_use]
pub fn dump(frame: &[u8]) -> String {
    let mut text = String::new();
    for (line, bytes) in frame.chunks(16).enumerate() {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(text, "    {:04x}  {}", line * 16, hex.join(" "));
    }
    text
}
