//! Which upstreams are asked for which names.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hickory_proto::rr::Name;

use super::{pool::Pool, upstream::Upstream};

/// An upstream that is this resolver itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "upstream {address} is this resolver itself, and asking it would never end; name another one with --dns-upstream or --dns-stub"
)]
pub struct OwnAddress {
    /// Its address.
    pub address: SocketAddr,
}

/// Zones with upstreams of their own, and those for all other names.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// The longest zone first.
    stubs: Vec<(Name, Pool)>,
    others: Pool,
}

impl Routes {
    /// Routes without upstreams for names in no stub zone.
    #[must_use]
    pub(super) fn new(stubs: &[(Name, SocketAddr)]) -> Self {
        let mut routes = Self {
            stubs: Vec::new(),
            others: Pool::default(),
        };
        for (zone, address) in stubs {
            let upstream = routes.upstream(*address);
            let known = routes.stubs.iter_mut().find(|(name, _)| name == zone);
            if let Some((_, pool)) = known {
                pool.push(upstream);
            } else {
                let mut pool = Pool::default();
                pool.push(upstream);
                routes.stubs.push((zone.clone(), pool));
            }
        }
        routes
            .stubs
            .sort_by_key(|(zone, _)| Reverse(zone.num_labels()));
        routes
    }

    /// The same, with other upstreams for names in no stub zone. Who was there keeps its health.
    #[must_use]
    pub(super) fn with_others(&self, addresses: &[SocketAddr]) -> Self {
        let mut others = Pool::default();
        for address in addresses {
            others.push(self.upstream(*address));
        }
        Self {
            stubs: self.stubs.clone(),
            others,
        }
    }

    /// The upstream at an address: the same for all zones that it is asked for.
    fn upstream(&self, address: SocketAddr) -> Arc<Upstream> {
        let mut known = self.all().map(|(_, upstream)| upstream);
        let known = known.find(|one| one.address() == address && !one.is_loop());
        known.map_or_else(|| Upstream::new(address), Arc::clone)
    }

    /// The upstreams for a name.
    #[must_use]
    pub(super) fn pool(&self, name: &Name) -> &Pool {
        let stub = self.stubs.iter().find(|(zone, _)| zone.zone_of(name));
        stub.map_or(&self.others, |(_, pool)| pool)
    }

    /// The addresses of the upstreams for names in no stub zone.
    pub(super) fn others(&self) -> impl Iterator<Item = SocketAddr> {
        self.others.upstreams().iter().map(|one| one.address())
    }

    /// Every upstream with each zone that it is for.
    pub(super) fn all(&self) -> impl Iterator<Item = (Name, &Arc<Upstream>)> {
        let stubs = self.stubs.iter().flat_map(|(zone, pool)| {
            let upstreams = pool.upstreams().iter();
            upstreams.map(|upstream| (zone.clone(), upstream))
        });
        let others = self.others.upstreams().iter();
        stubs.chain(others.map(|upstream| (Name::root(), upstream)))
    }
}

/// Whether an upstream is one of our own listeners.
#[must_use]
pub(super) fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    own.iter().any(|own| {
        let is_there = own.ip() == address.ip()
            // A listener on every address is on this one if it is the machine's own. Loopback is for certain.
            || own.ip().is_unspecified() && is_loopback(address.ip());
        is_there && own.port() == address.port()
    })
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback()
                || address
                    .to_ipv4_mapped()
                    .is_some_and(|v4| Ipv4Addr::is_loopback(&v4))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_stub_zone_has_a_name() {
        let stubs = [
            (name("test."), address("192.0.2.1:53")),
            (name("corp.test."), address("192.0.2.2:53")),
            (name("test."), address("192.0.2.3:53")),
        ];
        let routes = Routes::new(&stubs).with_others(&[address("192.0.2.9:53")]);
        for (asked, wanted) in [
            ("www.corp.test.", &["192.0.2.2:53"][..]),
            ("CORP.test.", &["192.0.2.2:53"]),
            ("xcorp.test.", &["192.0.2.1:53", "192.0.2.3:53"]),
            ("example.", &["192.0.2.9:53"]),
            (".", &["192.0.2.9:53"]),
        ] {
            let pool = routes.pool(&name(asked));
            let found: Vec<String> = pool
                .upstreams()
                .iter()
                .map(|one| one.address().to_string())
                .collect();
            assert_eq!(found, wanted, "{asked}");
        }
    }

    #[test]
    fn who_stays_keeps_its_health() {
        let (a, b) = (address("192.0.2.1:53"), address("192.0.2.2:53"));
        let routes = Routes::new(&[]).with_others(&[a]);
        let changed = routes.with_others(&[b, a]);
        let upstreams = |routes: &Routes| {
            routes
                .all()
                .map(|(_, one)| Arc::clone(one))
                .collect::<Vec<_>>()
        };
        assert!(Arc::ptr_eq(&upstreams(&routes)[0], &upstreams(&changed)[1]));
    }

    #[test]
    fn our_own_listeners_are_known() {
        let own = [address("10.96.0.10:53"), address("0.0.0.0:5353")];
        for (text, wanted) in [
            ("10.96.0.10:53", true),
            ("10.96.0.10:54", false),
            ("127.0.0.53:5353", true),
            ("[::1]:5353", true),
            ("192.0.2.1:5353", false),
        ] {
            assert_eq!(is_own(address(text), &own), wanted, "{text}");
        }
    }
}
