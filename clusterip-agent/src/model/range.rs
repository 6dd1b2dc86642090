//! The range that service addresses come from (G1, G2).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::service::Family;

/// Why an address of the right family cannot be a service's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unusable {
    /// Not in the range.
    Outside,
    /// The first address of the range, or the last one of an IPv4 range.
    Reserved,
}

/// The service addresses of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceRange {
    net: IpNet,
    /// The address before the first usable one.
    base: u128,
    /// How many are usable.
    usable: u128,
    /// The first so many are given to automatic requests last.
    band: u128,
}

impl ServiceRange {
    /// The usable part of a range.
    #[must_use]
    pub fn new(net: IpNet) -> Self {
        let net = net.trunc();
        let bits = u32::from(net.max_prefix_len() - net.prefix_len());
        let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
        let reserved = match net {
            IpNet::V4(_) => 2,
            IpNet::V6(_) => 1,
        };
        // A /31 has none.
        let usable = size.saturating_sub(reserved);
        let band = if size <= 16 {
            0
        } else {
            (size / 16).clamp(16, 256).min(usable)
        };
        Self {
            net,
            base: number(net.network()),
            usable,
            band,
        }
    }

    /// Its family.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.net {
            IpNet::V4(_) => Family::V4,
            IpNet::V6(_) => Family::V6,
        }
    }

    /// How many addresses it has for services.
    #[must_use]
    pub const fn usable(&self) -> u128 {
        self.usable
    }

    /// Whether an address is in it, usable or not.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.net.contains(&address)
    }

    /// Whether a service may have this address.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Unusable> {
        if !self.net.contains(&address) {
            return Err(Unusable::Outside);
        }
        let index = number(address) - self.base;
        if (1..=self.usable).contains(&index) {
            Ok(())
        } else {
            Err(Unusable::Reserved)
        }
    }

    /// The usable address at a place, counted from the range's own address; none if there are not so many.
    #[must_use]
    pub fn address(&self, place: u128) -> Option<IpAddr> {
        let is_usable = (1..=self.usable).contains(&place);
        address(self.net, self.base.checked_add(place)?).filter(|_| is_usable)
    }

    /// The addresses in the order in which an automatic request tries them: from a place in the upper part that the
    /// seed gives, all around; then the lower band the same way.
    pub fn candidates(&self, seed: u64) -> impl Iterator<Item = IpAddr> {
        let Self {
            net,
            base,
            usable,
            band,
        } = *self;
        let around = move |first: u128, count: u128| {
            let start = u128::from(seed).checked_rem(count).unwrap_or_default();
            (start..count)
                .chain(0..start)
                .map(move |index| base + 1 + first + index)
        };
        around(band, usable - band)
            .chain(around(0, band))
            .filter_map(move |number| address(net, number))
    }
}

impl fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.net, f)
    }
}

const fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits() as u128,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(net: IpNet, number: u128) -> Option<IpAddr> {
    match net {
        IpNet::V4(_) => Some(Ipv4Addr::from_bits(u32::try_from(number).ok()?).into()),
        IpNet::V6(_) => Some(Ipv6Addr::from_bits(number).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(net: &str) -> ServiceRange {
        ServiceRange::new(net.parse().unwrap())
    }

    /// G1
    #[test]
    fn the_network_and_broadcast_addresses_are_no_services() {
        let v4 = range("10.96.0.0/24");
        for (address, result) in [
            ("10.96.0.0", Err(Unusable::Reserved)),
            ("10.96.0.1", Ok(())),
            ("10.96.0.254", Ok(())),
            ("10.96.0.255", Err(Unusable::Reserved)),
            ("10.96.1.0", Err(Unusable::Outside)),
        ] {
            assert_eq!(v4.check(address.parse().unwrap()), result, "{address}");
        }
        let v6 = range("fd00::/120");
        for (address, result) in [
            ("fd00::", Err(Unusable::Reserved)),
            ("fd00::1", Ok(())),
            ("fd00::ff", Ok(())),
            ("fd00::100", Err(Unusable::Outside)),
            ("10.96.0.1", Err(Unusable::Outside)),
        ] {
            assert_eq!(v6.check(address.parse().unwrap()), result, "{address}");
        }
        for net in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128"] {
            assert_eq!(range(net).usable(), 0, "{net}");
            assert_eq!(range(net).candidates(7).count(), 0, "{net}");
        }
    }

    /// G2
    #[test]
    fn the_lower_band_comes_last() {
        for (net, band) in [
            ("10.0.0.0/28", 0),
            ("10.0.0.0/27", 16),
            ("10.0.0.0/24", 16),
            ("10.0.0.0/21", 128),
            ("10.0.0.0/16", 256),
            ("fd00::/112", 256),
            ("fd00::/64", 256),
        ] {
            assert_eq!(range(net).band, band, "{net}");
        }
        let range = range("10.0.0.0/26");
        let all: Vec<_> = range.candidates(1000).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 62, "each once");
        let low: IpAddr = "10.0.0.16".parse().unwrap();
        assert!(all[..46].iter().all(|address| *address > low));
        assert!(all[46..].iter().all(|address| *address <= low));
    }

    #[test]
    fn the_whole_of_ipv6_does_not_overflow() {
        let all = range("::/0");
        assert!(all.candidates(u64::MAX).next().is_some());
    }
}
