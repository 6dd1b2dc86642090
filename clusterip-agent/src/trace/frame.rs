//! A made-up packet as bytes, and what became of it. Bare IP: nothing depends on the link layer.

use std::net::{IpAddr, SocketAddr};

use clusterip_common::wire::{Be16, Proto};

use super::{Question, Transport};

/// The header of TCP: as long as that of any protocol here.
const TRANSPORT: usize = 20;
/// Room for an answer, which may quote what it answers.
const ROOM: usize = 256;
/// A chunk of SCTP that opens an association.
const INIT: u8 = 1;

/// A packet in its buffer.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    /// With room behind the packet.
    pub(super) buffer: Vec<u8>,
    /// Of the packet.
    pub(super) length: usize,
}

/// The packet of a question. Its checksums are 0: nobody checks them, and what fixes them adds to them.
pub(super) fn frame(question: &Question) -> Bytes {
    let Question { from, to, .. } = question;
    let l4 = transport(question);
    let length = Be16::new(u16::try_from(l4.len()).unwrap_or(u16::MAX)).0;
    let mut buffer = Vec::with_capacity(ROOM);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = Be16::new(u16::try_from(20 + l4.len()).unwrap_or(u16::MAX)).0;
            buffer.extend([0x45, 0]);
            buffer.extend(total);
            buffer.extend([0, 0, 0x40, 0, 64, protocol(question).0, 0, 0]);
            buffer.extend(source.octets());
            buffer.extend(destination.octets());
        }
        (source, destination) => {
            buffer.extend([0x60, 0, 0, 0]);
            buffer.extend(length);
            buffer.extend([protocol(question).0, 64]);
            buffer.extend(v6(source));
            buffer.extend(v6(destination));
        }
    }
    buffer.extend(l4);
    let length = buffer.len();
    buffer.resize(ROOM, 0);
    Bytes { buffer, length }
}

const fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The number in the IP header.
pub(super) const fn protocol(question: &Question) -> Proto {
    match question.protocol {
        Transport::Tcp => Proto::TCP,
        Transport::Udp => Proto::UDP,
        Transport::Sctp => Proto::SCTP,
        Transport::Icmp if question.to.is_ipv4() => Proto(1),
        Transport::Icmp => Proto(58),
    }
}

fn transport(question: &Question) -> Vec<u8> {
    let Question {
        from, to, flags, ..
    } = question;
    let mut l4 = Vec::with_capacity(TRANSPORT);
    if question.protocol == Transport::Icmp {
        // An echo request, number 1 of stream 1.
        let kind = if to.is_ipv4() { 8 } else { 128 };
        l4.extend([kind, 0, 0, 0, 0, 1, 0, 1]);
        return l4;
    }
    l4.extend(Be16::new(from.port()).0);
    l4.extend(Be16::new(to.port()).0);
    match question.protocol {
        Transport::Tcp => {
            l4.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, *flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Transport::Udp => l4.extend([0, 8, 0, 0]),
        Transport::Sctp | Transport::Icmp => {
            // Verification tag, checksum, and the head of a chunk.
            l4.extend([0, 0, 0, 0, 0, 0, 0, 0, INIT, 0, 0, 20]);
            l4.extend([0; 16]);
        }
    }
    l4
}

/// Source and destination of a packet; ports are 0 where there are none.
pub(super) fn ends(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let version = bytes.first()? >> 4;
    let (source, destination, l4) = if version == 4 {
        let at = |from: usize| -> Option<IpAddr> {
            let octets: [u8; 4] = bytes.get(from..from + 4)?.try_into().ok()?;
            Some(octets.into())
        };
        let header = usize::from(bytes.first()? & 0xf) * 4;
        (at(12)?, at(16)?, header)
    } else {
        let at = |from: usize| -> Option<IpAddr> {
            let octets: [u8; 16] = bytes.get(from..from + 16)?.try_into().ok()?;
            Some(octets.into())
        };
        (at(8)?, at(24)?, 40)
    };
    let port = |from: usize| -> Option<u16> {
        let pair: [u8; 2] = bytes.get(from..from + 2)?.try_into().ok()?;
        Some(Be16(pair).get())
    };
    Some((
        SocketAddr::new(source, port(l4)?),
        SocketAddr::new(destination, port(l4 + 2)?),
    ))
}
