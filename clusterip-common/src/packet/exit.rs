//! The ways on of a translated packet, and what is remembered of them.
#![expect(
    clippy::host_endian_bytes,
    reason = "Ethernet addresses are moved as words, never counted with"
)]

use super::frame::Frame;
use crate::wire::Addr;

macro_rules! exits {
    ($($(#[doc = $help:literal])+ $variant:ident = $name:literal,)+) => {
        /// Which way a translated packet goes on: counted where the stack may be left out.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u32)]
        pub enum Exit {
            $($(#[doc = $help])+ $variant,)+
        }

        impl Exit {
            /// All of them, in the order of the counters.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Name in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One line of help.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+),)+ }
            }

            /// The one of a number; what has no such number is for the stack.
            #[inline(always)]
            #[must_use]
            pub const fn of(index: u32) -> Self {
                match index {
                    $(index if index == Self::$variant as u32 => Self::$variant,)+
                    _ => Self::NoRoute,
                }
            }
        }
    };
}

exits! {
    /// Not known yet: the way is to be looked up.
    Unknown = "unknown",
    /// Straight into the namespace of a pod of this node.
    Peer = "peer",
    /// Out of an uplink, to its next hop.
    Neighbour = "neighbour",
    /// Out of an uplink, to its next hop, by its driver.
    Driver = "driver",
    /// The stack: IP options, extension headers, VLAN tags, or no Ethernet header.
    Headers = "stack-headers",
    /// The stack: a piece of a packet.
    Fragment = "stack-fragment",
    /// The stack: longer than the way allows.
    Size = "stack-size",
    /// The stack: the time to live runs out here.
    HopLimit = "stack-hop-limit",
    /// The stack: a pod that calls itself.
    Itself = "stack-itself",
    /// The stack: no route leads there that packets are forwarded by.
    NoRoute = "stack-no-route",
    /// The stack: the neighbour is not known.
    NoNeighbour = "stack-no-neighbour",
    /// The stack: the route's device is neither a pod's veth nor an uplink to another pod.
    OtherDevice = "stack-other-device",
}

impl Exit {
    /// How many there are.
    #[expect(clippy::cast_possible_truncation, reason = "a handful")]
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// Index of its counter.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Whether it leads past the stack.
    #[inline(always)]
    #[must_use]
    pub const fn is_past_stack(self) -> bool {
        matches!(self, Self::Peer | Self::Neighbour | Self::Driver)
    }
}

/// Ways that a processor remembers: a power of two.
pub const WAYS: u32 = 1024;

/// What is remembered of the way from one address to another. Each processor has its own, so that none is half written;
/// nothing of it outlives the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Way {
    /// From where,
    pub source: Addr,
    /// and to where.
    pub target: Addr,
    /// As of when it was looked up: see [`stamp`](super::stamp).
    pub stamp: u32,
    /// Where it leads.
    pub exit: Exit,
    /// The device: of a pod the host's side.
    pub device: u32,
    /// The longest packet that it takes, from the IP header on.
    pub mtu: u32,
    /// What the Ethernet header says.
    pub macs: Macs,
}

/// What a packet needs of its way when it departs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Onward {
    /// What its Ethernet header will say.
    pub(super) macs: Macs,
    /// The device.
    pub(super) device: u32,
}

impl Onward {
    /// It has none.
    pub(super) const NONE: Self = Self {
        macs: Macs::NONE,
        device: 0,
    };
}

const _: () = assert!(size_of::<Way>() == 64, "one line of the cache");

impl Way {
    /// None is known.
    pub const NONE: Self = Self {
        source: Addr::UNSPECIFIED,
        target: Addr::UNSPECIFIED,
        stamp: 0,
        exit: Exit::Unknown,
        device: 0,
        mtu: 0,
        macs: Macs::NONE,
    };
}

/// Destination and source of an Ethernet header, as words: twelve bytes the compiler would keep where the verifier
/// wants whole words to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Macs {
    head: u64,
    tail: u32,
    zero: u32,
}

impl Macs {
    /// None.
    pub const NONE: Self = Self {
        head: 0,
        tail: 0,
        zero: 0,
    };

    /// Of a frame to `destination`.
    #[inline(always)]
    #[must_use]
    pub const fn new(destination: [u8; 6], source: [u8; 6]) -> Self {
        let [d0, d1, d2, d3, d4, d5] = destination;
        let [s0, s1, s2, s3, s4, s5] = source;
        Self {
            head: u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
            tail: u32::from_ne_bytes([s2, s3, s4, s5]),
            zero: 0,
        }
    }

    /// Of twelve bytes that were read as a word and a half, as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn of_words(head: u64, tail: u32) -> Self {
        Self {
            head,
            tail,
            zero: 0,
        }
    }

    /// Writes them to the beginning of a frame.
    #[inline(always)]
    pub(super) fn write<F: Frame>(self, frame: &mut F) -> Option<()> {
        *frame.at_mut::<[u8; 8]>(0)? = self.head.to_ne_bytes();
        *frame.at_mut::<[u8; 4]>(8)? = self.tail.to_ne_bytes();
        Some(())
    }
}

/// What a device leads to, as the agent says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beyond(pub u32);

impl Beyond {
    /// Nothing that is known.
    pub const UNKNOWN: Self = Self(0);
    /// It is the host's side of a pod's veth, the other side of which is in a namespace of its own.
    pub const POD: Self = Self(1);
    /// Other machines.
    pub const UPLINK: Self = Self(2);
    /// Other machines, and its driver sends what programs there give to it.
    pub const DRIVER: Self = Self(3);

    /// Whether it leads to other machines: one comparison, which the verifier follows.
    #[inline(always)]
    #[must_use]
    pub const fn is_uplink(self) -> bool {
        self.0 >= Self::UPLINK.0
    }
}

/// What the kernel says of the way to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// How the question ended.
    pub found: Found,
    /// The device.
    pub device: u32,
    /// The longest packet.
    pub mtu: u32,
    /// What the Ethernet header is to say.
    pub macs: Macs,
}

impl Route {
    /// There is none.
    pub const NONE: Self = Self {
        found: Found::Nothing,
        device: 0,
        mtu: 0,
        macs: Macs::NONE,
    };
}

/// How a question for a route ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// There is no way that packets are forwarded by.
    Nothing,
    /// There is one, but the next hop's Ethernet address is not known.
    NoNeighbour,
    /// There is one.
    All,
}
