//! Ports of a packet that came in pieces (D6).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::{Addr, Be16};

/// A packet in pieces. Key of the `fragments` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct FragmentKey {
    /// Who sends.
    pub source: Addr,
    /// To whom.
    pub destination: Addr,
    /// The identification, as it lies in the header; IPv4 has 16 bits of it.
    pub id: u32,
    /// The protocol, widened.
    pub protocol: u32,
}

/// What its first piece said. Value of the `fragments` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Fragment {
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
}

const _: () = assert!(size_of::<FragmentKey>() == 40 && size_of::<Fragment>() == 4);
