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
    /// Who calls by this key.
    pub scope: Scope,
    /// Zero: the kernel hashes every byte of a key.
    pub zero: u32,
}

impl ServiceKey {
    /// The key that says that an address is a live VIP, whatever its ports (B9, B10). Its value is not looked at.
    #[inline(always)]
    #[must_use]
    pub const fn address(address: Addr) -> Self {
        Self::new(address, Be16::new(0), Proto(0))
    }

    /// Whether it is the key of an address, not of a frontend.
    #[inline(always)]
    #[must_use]
    pub const fn is_address(&self) -> bool {
        self.protocol.0 == 0
    }

    /// The key of a `ClusterIP`.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Addr, port: Be16, protocol: Proto) -> Self {
        Self {
            address,
            port,
            protocol,
            scope: Scope::CLUSTER,
            zero: 0,
        }
    }

    /// The same for who calls by another scope.
    #[inline(always)]
    #[must_use]
    pub const fn seen(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }
}

number! {
    /// Which clients a frontend is for. A `ClusterIP` has one scope; an address towards the outside may lead to other endpoints
    /// from outside than from inside (E3).
    Scope(u8)
}

impl Scope {
    /// A `ClusterIP`.
    pub const CLUSTER: Self = Self(0);
    /// An address towards the outside, called from inside: by pods and nodes.
    pub const INSIDE: Self = Self(1);
    /// As above, called from outside the cluster.
    pub const OUTSIDE: Self = Self(2);
    /// A node port of the loopback device, called by the node's own processes. No packet has it (E6).
    pub const LOOPBACK: Self = Self(3);
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endpoint(f, self.address, self.port)?;
        write!(f, "/{}", self.protocol)?;
        f.write_str(match self.scope {
            Scope::INSIDE => " from inside",
            Scope::OUTSIDE => " from outside",
            _ => "",
        })
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

number! {
    /// A balancer: one service port of one family. Several frontends may share it; index of `cursors` and
    /// `service_counters`.
    ServiceId(u32)
}

number! {
    /// A place in the `slots` array.
    SlotIndex(u32)
}

number! {
    /// How a new flow picks its slot. A number rather than an enum: a map may hold any value.
    Algorithm(u32)
}

impl Algorithm {
    /// The shared counter modulo the number of slots (B1). Weights repeat slots, interleaved.
    pub const ROUND_ROBIN: Self = Self(0);
    /// Any slot.
    pub const RANDOM: Self = Self(1);
    /// A hash of the flow modulo the number of slots, which is a prime; the run is a Maglev table.
    pub const MAGLEV: Self = Self(2);
    /// The better of two random slots, by live flows.
    pub const LEAST_CONNECTIONS: Self = Self(3);
}

number! {
    /// What else holds for a service: bits.
    ServiceFlags(u32)
}

impl ServiceFlags {
    /// Without slots packets are dropped, not rejected: there are endpoints, but none here (B8).
    pub const LOCAL: Self = Self(1);
    /// Who comes by an uplink gets the node's address on the way to the backend, so that the answer comes back here (E2).
    pub const MASQUERADE: Self = Self(2);
    /// Only clients in the service's source ranges get in (E4).
    pub const GUARDED: Self = Self(4);

    /// With more flags.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }

    /// Whether all of `flags` are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }
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
    /// What else holds.
    pub flags: ServiceFlags,
    /// Seconds after its last new flow for which a client keeps its backend (B3); 0 is no affinity.
    pub affinity: u32,
}

const _: () = assert!(size_of::<ServiceKey>() == 24 && size_of::<Service>() == 24);
