//! Services and slots.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::{Addr, Be16, Proto, write_endpoint};

/// What a client calls: (address, port, protocol), the unit of service (A1). Key of the `services` map.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct ServiceKey {
    /// The VIP.
    pub address: Addr,
    /// The service port.
    pub port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Proto,
    /// Zero: the kernel hashes every byte of a key.
    pub zero: u8,
    /// Zero.
    pub zero_tail: u32,
}

impl ServiceKey {
    /// A key.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Addr, port: Be16, protocol: Proto) -> Self {
        Self {
            address,
            port,
            protocol,
            zero: 0,
            zero_tail: 0,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endpoint(f, self.address, self.port)?;
        write!(f, "/{}", self.protocol)
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A balancer: one service port of one family. Several frontends may share it; index of `cursors` and
/// `service_counters`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(transparent)]
pub struct ServiceId(pub u32);

/// A place in the `slots` array.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(transparent)]
pub struct SlotIndex(pub u32);

/// How a new flow picks its slot. A number rather than an enum: a map may hold any value.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(transparent)]
pub struct Algorithm(pub u32);

impl Algorithm {
    /// The shared counter modulo the number of slots (B1).
    pub const ROUND_ROBIN: Self = Self(0);
}

/// The head of a service: what a frontend leads to. Value of the `services` map.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Service {
    /// The balancer.
    pub id: ServiceId,
    /// Where its run of slots begins.
    pub first_slot: SlotIndex,
    /// Length of the run; 0 means no endpoint at all: reject (B7).
    pub slot_count: u32,
    /// How to choose.
    pub algorithm: Algorithm,
}

const _: () = assert!(size_of::<ServiceKey>() == 24 && size_of::<Service>() == 16);
