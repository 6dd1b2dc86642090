//! Which addresses are inside the cluster: only from them is a service address reached by way of an uplink (E1).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Range;
use crate::wire::Addr;

/// A range of addresses, in the form of the kernel's tries. Key of the `INSIDE` map, where the longest prefix counts.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct InsideKey {
    /// Bits that count, as in IPv6: 96 more for IPv4.
    pub prefix: u32,
    /// The network address, masked; four bytes behind the beginning, hence no `Addr`.
    pub address: [u8; 16],
}

impl InsideKey {
    /// Bits of one address.
    pub const WHOLE: u8 = 128;

    /// The range of the first `prefix` bits of `network`; `prefix` counts as in IPv6 (96 more for IPv4).
    #[must_use]
    pub fn new(network: Addr, prefix: u8) -> Self {
        Self {
            prefix: prefix.into(),
            address: Range::new(network, prefix).network.octets(),
        }
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: Addr) -> bool {
        let prefix = u8::try_from(self.prefix).unwrap_or(Self::WHOLE);
        Range::new(Addr::v6(self.address), prefix).contains(address)
    }
}

impl fmt::Display for InsideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = Addr::v6(self.address);
        let before = if address.is_mapped() { 96 } else { 0 };
        write!(f, "{address}/{}", self.prefix.saturating_sub(before))
    }
}

impl fmt::Debug for InsideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

number! {
    /// Whose the addresses of a range are.
    Inside(u32)
}

impl Inside {
    /// Nobody's here: of no entry.
    pub const NONE: Self = Self(0);
    /// Pods'.
    pub const PODS: Self = Self(1);
    /// A node's own.
    pub const NODE: Self = Self(2);
    /// This node's, and those of its pods: nothing comes in from them by an uplink.
    pub const OWN: Self = Self(3);
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString as _;

    use super::*;

    #[test]
    fn a_range_is_masked_and_shown_as_its_family_has_it() {
        let pods = InsideKey::new(Addr::v4([10, 244, 7, 7]), 96 + 16);
        assert_eq!(pods.to_string(), "10.244.0.0/16");
        assert!(pods.contains(Addr::v4([10, 244, 255, 1])));
        assert!(!pods.contains(Addr::v4([10, 245, 0, 1])));
        let node = InsideKey::new(Addr::v6([0xfd; 16]), InsideKey::WHOLE);
        assert!(node.to_string().ends_with("/128"), "{node}");
        assert!(node.contains(Addr::v6([0xfd; 16])));
        assert!(!node.contains(Addr::UNSPECIFIED));
    }
}
