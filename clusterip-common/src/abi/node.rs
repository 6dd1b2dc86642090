//! What the node itself lends to services: an address for clients from outside, and whom it lets in.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Range, ServiceId};
use crate::wire::Addr;

number! {
    /// A family, as index of the `NODE` map.
    NodePlace(u32)
}

impl NodePlace {
    /// IPv4.
    pub const V4: Self = Self(0);
    /// IPv6.
    pub const V6: Self = Self(1);
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Bits of a service's id, which come before those of the client's address.
const ID_BITS: u32 = 32;

/// A service and a range of clients, in the form of the kernel's tries. Key of the `SOURCES` map (E4).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SourcesKey {
    /// Bits that count: those of the id and those of the range, as in IPv6.
    pub prefix: u32,
    /// The service.
    pub service: ServiceId,
    /// The network address, masked; no `Addr`, as in [`InsideKey`](super::InsideKey).
    pub address: [u8; 16],
}

impl SourcesKey {
    /// Bits of a service and one address.
    pub const WHOLE: u32 = ID_BITS + 128;

    /// The first `prefix` bits of `network` as clients of `service`; `prefix` counts as in IPv6 (96 more for IPv4).
    #[must_use]
    pub fn new(service: ServiceId, network: Addr, prefix: u8) -> Self {
        Self {
            prefix: ID_BITS + u32::from(prefix),
            service,
            address: Range::new(network, prefix).network.octets(),
        }
    }

    /// Whether it lets this client in to this service.
    #[must_use]
    pub fn admits(&self, service: ServiceId, client: Addr) -> bool {
        let prefix = u8::try_from(self.prefix.saturating_sub(ID_BITS)).unwrap_or(u8::MAX);
        self.service == service && Range::new(Addr::v6(self.address), prefix).contains(client)
    }
}

impl fmt::Display for SourcesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Addr::v6(self.address);
        let before = ID_BITS + if address.is_mapped() { 96 } else { 0 };
        write!(
            f,
            "service {} from {address}/{}",
            self.service.0,
            self.prefix.saturating_sub(before)
        )
    }
}

impl fmt::Debug for SourcesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

number! {
    /// What a range of clients may do.
    Sources(u32)
}

impl Sources {
    /// They get in.
    pub const ADMITTED: Self = Self(1);
}

/// An address that is announced at a device. Key of the `ANNOUNCED` map.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(C)]
pub struct AnnouncedKey {
    /// Out of the pool of load balancers.
    pub address: Addr,
    /// The kernel's number of the device.
    pub device: u32,
    /// For the alignment.
    pub zero: u32,
}

impl AnnouncedKey {
    /// An address at a device.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: Addr, device: u32) -> Self {
        Self {
            address,
            device,
            zero: 0,
        }
    }
}

/// The link address that neighbours are told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Announced {
    /// The device's own.
    pub mac: [u8; 6],
    /// Nothing.
    pub zero: [u8; 2],
}

const _: () = assert!(size_of::<SourcesKey>() == 24);

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    /// E4
    #[test]
    fn a_range_admits_its_own_clients_to_its_own_service() {
        let key = SourcesKey::new(ServiceId(7), Addr::v4([203, 0, 113, 9]), 96 + 24);
        assert_eq!(key.to_string(), "service 7 from 203.0.113.0/24");
        assert!(key.admits(ServiceId(7), Addr::v4([203, 0, 113, 200])));
        assert!(!key.admits(ServiceId(8), Addr::v4([203, 0, 113, 200])));
        assert!(!key.admits(ServiceId(7), Addr::v4([203, 0, 114, 1])));
    }
}
