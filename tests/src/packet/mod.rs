//! Frames as sentences: `tcp("10.244.0.5:31337", "10.96.0.10:80").syn().bytes()`.
//!
//! Every length and checksum is computed from the whole frame, by code that shares nothing with the dataplane's.

#![expect(
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a sentence that makes no sense is a mistake of the test: it shall panic"
)]

use std::net::{IpAddr, SocketAddr};

use clusterip_common::{packet::Link, wire::Be16};

/// MAC address of the sender, until the frame is turned around.
pub const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the receiver.
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

mod frame;

pub use frame::dump;
use frame::length;
pub(crate) use frame::{checksum, crc32c};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What stands behind the IP header.
#[derive(Clone, Debug)]
enum Layer4 {
    Tcp {
        source: u16,
        destination: u16,
        seq: u32,
        ack: u32,
        flags: u8,
    },
    Udp {
        source: u16,
        destination: u16,
        checksum: bool,
    },
    Icmp {
        kind: u8,
        code: u8,
        rest: u32,
    },
    Sctp {
        source: u16,
        destination: u16,
        chunk: u8,
        checksum: bool,
    },
    Other(u8),
}

/// A frame that is being described.
#[derive(Clone, Debug)]
pub struct Packet {
    macs: ([u8; 6], [u8; 6]),
    /// VLAN tags: type, and number.
    tags: Vec<(u16, u16)>,
    /// Without an Ethernet header.
    is_bare: bool,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    dont_fragment: bool,
    fragment: u16,
    options: Vec<u8>,
    /// IPv6 extension headers: number, and the bytes behind the first one.
    extensions: Vec<(u8, Vec<u8>)>,
    /// Only this part of what stands behind the IP header.
    piece: Option<(usize, usize)>,
    layer4: Layer4,
    payload: Vec<u8>,
    /// Its checksum is left to a device.
    is_begun: bool,
    cut: Option<usize>,
    first_byte: Option<u8>,
    total_length: Option<u16>,
}

fn address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|error| panic!("{text} is no address:port: {error}"))
}

const fn packet(source: IpAddr, destination: IpAddr, layer4: Layer4) -> Packet {
    Packet {
        macs: (NODE_MAC, POD_MAC),
        tags: Vec::new(),
        is_bare: false,
        source,
        destination,
        ttl: 64,
        dont_fragment: true,
        fragment: 0,
        options: Vec::new(),
        extensions: Vec::new(),
        piece: None,
        layer4,
        payload: Vec::new(),
        is_begun: false,
        cut: None,
        first_byte: None,
        total_length: None,
    }
}

/// A TCP segment without flags.
#[must_use]
pub fn tcp(source: &str, destination: &str) -> Packet {
    let (source, destination) = (address(source), address(destination));
    let layer4 = Layer4::Tcp {
        source: source.port(),
        destination: destination.port(),
        seq: 0x0102_0304,
        ack: 0,
        flags: 0,
    };
    packet(source.ip(), destination.ip(), layer4)
}

/// A UDP datagram.
#[must_use]
pub fn udp(source: &str, destination: &str) -> Packet {
    let (source, destination) = (address(source), address(destination));
    let layer4 = Layer4::Udp {
        source: source.port(),
        destination: destination.port(),
        checksum: true,
    };
    packet(source.ip(), destination.ip(), layer4)
}

/// An SCTP packet with one chunk of this type, which is as long as the payload makes it.
#[must_use]
pub fn sctp(source: &str, destination: &str, chunk: u8) -> Packet {
    let (source, destination) = (address(source), address(destination));
    let layer4 = Layer4::Sctp {
        source: source.port(),
        destination: destination.port(),
        chunk,
        checksum: true,
    };
    packet(source.ip(), destination.ip(), layer4)
}

/// A packet of another protocol.
#[must_use]
pub fn other(protocol: u8, source: &str, destination: &str) -> Packet {
    let ip = |text: &str| {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    packet(ip(source), ip(destination), Layer4::Other(protocol))
}

/// "Port unreachable" about `quoted`, of which it carries the IP header and 8 bytes.
#[must_use]
pub fn port_unreachable(quoted: &Packet) -> Packet {
    let (kind, code) = if quoted.source.is_ipv4() {
        (3, 3)
    } else {
        (1, 4)
    };
    let frame = quoted.bytes();
    let layer4 = Layer4::Icmp {
        kind,
        code,
        rest: 0,
    };
    let mut answer = packet(quoted.destination, quoted.source, layer4).turned();
    answer.tags.clone_from(&quoted.tags);
    answer.is_bare = quoted.is_bare;
    let network = quoted.network();
    answer.payload(frame[network..network + quoted.header_length() + 8].to_vec())
}

/// "Too big" about `quoted`, sent by `router`; it carries the IP header and `carried` bytes, or all there are.
#[must_use]
pub fn too_big(router: &str, quoted: &Packet, carried: usize) -> Packet {
    let router = router
        .parse()
        .unwrap_or_else(|error| panic!("{router}: {error}"));
    let (kind, code) = if quoted.source.is_ipv4() {
        (3, 4)
    } else {
        (2, 0)
    };
    let frame = quoted.bytes();
    let error = packet(
        router,
        quoted.source,
        Layer4::Icmp {
            kind,
            code,
            rest: 1280,
        },
    );
    let network = quoted.network();
    let end = frame.len().min(network + quoted.header_length() + carried);
    error.payload(frame[network..end].to_vec())
}

/// A ping (`true`) or its answer.
#[must_use]
pub fn ping(source: &str, destination: &str, is_request: bool) -> Packet {
    let ip = |text: &str| -> IpAddr {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let (source, destination) = (ip(source), ip(destination));
    let kind = match (source.is_ipv4(), is_request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    };
    packet(
        source,
        destination,
        Layer4::Icmp {
            kind,
            code: 0,
            rest: 0x0102_0003,
        },
    )
    .payload("ping")
}

impl Packet {
    fn flag(mut self, flag: u8) -> Self {
        match &mut self.layer4 {
            Layer4::Tcp { flags, .. } => *flags |= flag,
            other => panic!("a TCP flag on {other:?}"),
        }
        self
    }

    /// With SYN.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flag(SYN)
    }

    /// With FIN.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flag(FIN)
    }

    /// With RST.
    #[must_use]
    pub fn rst(self) -> Self {
        self.flag(RST)
    }

    /// With ACK.
    #[must_use]
    pub fn ack(self) -> Self {
        self.flag(ACK)
    }

    /// With these numbers.
    #[must_use]
    pub fn numbers(mut self, new_seq: u32, new_ack: u32) -> Self {
        match &mut self.layer4 {
            Layer4::Tcp { seq, ack, .. } => (*seq, *ack) = (new_seq, new_ack),
            other => panic!("TCP numbers on {other:?}"),
        }
        self
    }

    /// With a payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// UDP without a checksum, SCTP with one that is left to the device.
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        match &mut self.layer4 {
            Layer4::Udp { checksum, .. } | Layer4::Sctp { checksum, .. } => *checksum = false,
            other => panic!("an optional checksum on {other:?}"),
        }
        self
    }

    /// With a checksum that is only begun, as the stack leaves it to a device: the sum of the pseudo header.
    #[must_use]
    pub const fn begun(mut self) -> Self {
        self.is_begun = true;
        self
    }

    /// To an Ethernet address of several machines.
    #[must_use]
    pub const fn to_several(mut self) -> Self {
        self.macs.0 = [0x33, 0x33, 0, 0, 0, 1];
        self
    }

    /// With IPv4 options, a multiple of 4 bytes.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        assert!(options.len().is_multiple_of(4) && self.source.is_ipv4());
        self.options = options.to_vec();
        self
    }

    /// With an IPv6 extension header: its number, and what stands behind the number of the next one.
    #[must_use]
    pub fn extension(mut self, number: u8, rest: &[u8]) -> Self {
        assert!((rest.len() + 1).is_multiple_of(8) && self.source.is_ipv6());
        self.extensions.push((number, rest.to_vec()));
        self
    }

    /// With what was called, for the node that is to answer the client (direct server return).
    ///
    /// # Panics
    /// The text is no address of the packet's family.
    #[must_use]
    pub fn called(self, address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
        let [p0, p1] = Be16::new(address.port()).0;
        match address.ip() {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                self.options(&[0x9e, 8, p0, p1, a, b, c, d])
            }
            IpAddr::V6(ip) => {
                let rest = [&[2, 0x1e, 20, p0, p1, 0, 0], ip.octets().as_slice()].concat();
                self.extension(60, &rest)
            }
        }
    }

    /// One piece of the packet: these bytes of what stands behind the headers, the identification 7.
    #[must_use]
    pub fn piece(mut self, from: usize, to: usize, more: bool) -> Self {
        assert!(from.is_multiple_of(8));
        let offset = length(from / 8);
        if self.source.is_ipv4() {
            self.dont_fragment = false;
            self.fragment = offset | if more { 0x2000 } else { 0 };
        } else {
            let [high, low] = Be16::new(offset << 3 | u16::from(more)).0;
            self.extensions.push((44, vec![0, high, low, 0, 0, 0, 7]));
        }
        self.piece = Some((from, to));
        self
    }

    /// As an IPv4 fragment: offset in units of 8 bytes, and whether more follow.
    #[must_use]
    pub const fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.dont_fragment = false;
        self.fragment = offset | if more { 0x2000 } else { 0 };
        self
    }

    /// As it leaves by another device: with that one's addresses, and one hop less to go.
    #[must_use]
    pub const fn forwarded(mut self, destination: [u8; 6], source: [u8; 6]) -> Self {
        self.macs = (destination, source);
        self.ttl -= 1;
        self
    }

    /// With this time to live, or hop limit.
    #[must_use]
    pub const fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With one more VLAN tag of this type.
    #[must_use]
    pub fn tagged(mut self, kind: u16, number: u16) -> Self {
        self.tags.push((kind, number));
        self
    }

    /// Without an Ethernet header, as on a tunnel.
    #[must_use]
    pub const fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    /// What the device's frames begin with.
    #[must_use]
    pub const fn link(&self) -> Link {
        if self.is_bare {
            Link::None
        } else {
            Link::Ethernet
        }
    }

    /// The other way: the receiver's answer.
    #[must_use]
    pub const fn turned(mut self) -> Self {
        self.macs = (self.macs.1, self.macs.0);
        self
    }

    /// Only the first `bytes` bytes.
    #[must_use]
    pub const fn cut(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }

    /// With another version and header length.
    #[must_use]
    pub const fn first_byte(mut self, byte: u8) -> Self {
        self.first_byte = Some(byte);
        self
    }

    /// With another length in the IP header.
    #[must_use]
    pub const fn total_length(mut self, length: u16) -> Self {
        self.total_length = Some(length);
        self
    }

    const fn network(&self) -> usize {
        if self.is_bare {
            0
        } else {
            14 + 4 * self.tags.len()
        }
    }

    const fn header_length(&self) -> usize {
        if self.source.is_ipv4() {
            20 + self.options.len()
        } else {
            40
        }
    }

    const fn protocol(&self) -> u8 {
        match self.layer4 {
            Layer4::Tcp { .. } => 6,
            Layer4::Udp { .. } => 17,
            Layer4::Icmp { .. } if self.source.is_ipv4() => 1,
            Layer4::Icmp { .. } => 58,
            Layer4::Sctp { .. } => 132,
            Layer4::Other(protocol) => protocol,
        }
    }
}
