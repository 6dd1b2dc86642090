//! Which service has which address (G). A function of the objects and of who had what before, not of their order.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    net::IpAddr,
};

use siphasher::sip::SipHasher24;

use super::{
    cluster::Cluster,
    object::ObjectName,
    problem::Fault,
    range::{ServiceRange, Unusable},
    service::Family,
    wish::{Asked, Wish},
};

/// An address a service has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// Chosen automatically, and not kept on disk yet.
    pub provisional: bool,
}

/// Who has what, as it is kept across restarts.
pub type Allocations = BTreeMap<ObjectName, Vec<IpAddr>>;

#[derive(Clone, Copy, Debug)]
struct Held {
    address: IpAddr,
    automatic: bool,
    saved: bool,
}

/// Gives services their addresses.
#[derive(Debug, Default)]
pub struct Allocator {
    ranges: Vec<ServiceRange>,
    owners: BTreeMap<IpAddr, ObjectName>,
    held: BTreeMap<ObjectName, Vec<Held>>,
    wishes: BTreeMap<ObjectName, Wish>,
    /// Who asks for an address by name, with or without success.
    claims: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
    /// Who found its range full.
    waiting: BTreeSet<ObjectName>,
    faults: BTreeMap<ObjectName, Vec<Fault>>,
    /// Who had what when this began; until the first `settle`.
    loaded: BTreeMap<IpAddr, ObjectName>,
    changed: bool,
}

impl Allocator {
    /// An allocator for these ranges, one for each family at most; the first one's family is the default.
    #[must_use]
    pub fn new(ranges: Vec<ServiceRange>, kept: Allocations) -> Self {
        let mut allocator = Self {
            ranges,
            ..Self::default()
        };
        for (name, addresses) in kept {
            for address in addresses {
                // The store refuses files in which an address is twice.
                if allocator.owners.contains_key(&address) {
                    continue;
                }
                allocator.take(&name, address, true, true);
            }
        }
        allocator.loaded = allocator.owners.clone();
        allocator.changed = false;
        allocator
    }

    /// The addresses of a service, the first family first.
    #[must_use]
    pub fn addresses(&self, name: &ObjectName) -> Vec<Assigned> {
        let mut held: Vec<Held> = self.held.get(name).cloned().unwrap_or_default();
        if let Some(wish) = self.wishes.get(name) {
            held.sort_by_key(|held| wish.rank(held.address));
        }
        held.into_iter()
            .map(|held| Assigned {
                address: held.address,
                provisional: held.automatic && !held.saved,
            })
            .collect()
    }

    /// What is wrong with the addresses a service asks for.
    #[must_use]
    pub fn faults(&self, name: &ObjectName) -> &[Fault] {
        self.faults.get(name).map_or(&[], Vec::as_slice)
    }

    /// Who has what, if that changed since [`Allocator::saved`].
    #[must_use]
    pub fn unsaved(&self) -> Option<Allocations> {
        self.changed.then(|| {
            self.held
                .iter()
                .map(|(name, held)| {
                    let addresses = held.iter().map(|held| held.address).collect();
                    (name.clone(), addresses)
                })
                .collect()
        })
    }

    /// All is kept on disk now; adds those to `touched` that have an address which was provisional until now.
    pub fn saved(&mut self, touched: &mut BTreeSet<ObjectName>) {
        self.changed = false;
        for (name, all) in &mut self.held {
            for held in all {
                if !std::mem::replace(&mut held.saved, true) && held.automatic {
                    touched.insert(name.clone());
                }
            }
        }
    }

    /// Once, after the first `settle`: the addresses that belong to another service than when this began.
    pub fn handed_over(&mut self) -> BTreeSet<IpAddr> {
        let loaded = std::mem::take(&mut self.loaded);
        loaded
            .into_iter()
            .filter(|(address, owner)| self.owners.get(address).is_some_and(|now| now != owner))
            .map(|(address, _)| address)
            .collect()
    }

    /// Gives the touched services what they ask for, and takes back what they no longer do. Services that this
    /// concerns too are added to `touched`. Who has an address keeps it; else explicit requests come before automatic
    /// ones, older ones before younger ones, then by name.
    pub fn settle(&mut self, cluster: &Cluster, touched: &mut BTreeSet<ObjectName>) {
        let mut stale: BTreeSet<ObjectName> = touched.clone();
        if !self.loaded.is_empty() {
            stale.extend(self.held.keys().cloned());
        }
        let mut released = Vec::new();
        for name in &stale {
            let wish = cluster
                .service(name)
                .map(|(_, service)| Wish::of(service, &self.ranges));
            self.replace_wish(name, wish, &mut released);
        }
        for address in &released {
            touched.extend(self.claims.get(address).into_iter().flatten().cloned());
        }
        if !released.is_empty() {
            touched.append(&mut self.waiting);
        }
        for name in touched.iter() {
            self.waiting.remove(name);
            match self.wishes.get(name) {
                Some(wish) if !wish.faults.is_empty() => {
                    self.faults.insert(name.clone(), wish.faults.clone());
                }
                _ => {
                    self.faults.remove(name);
                }
            }
        }
        let mut by_age: Vec<&ObjectName> = touched.iter().collect();
        by_age.sort_by_key(|name| {
            let created = cluster
                .service(name)
                .and_then(|(_, service)| service.metadata.creation_timestamp.clone());
            (created.is_none(), created)
        });
        for name in by_age {
            self.grant_explicit(name);
        }
        for name in touched.iter() {
            self.grant_automatic(name);
        }
    }

    /// Takes back what is no longer asked for.
    fn replace_wish(&mut self, name: &ObjectName, wish: Option<Wish>, released: &mut Vec<IpAddr>) {
        if let Some(old) = self.wishes.remove(name) {
            for asked in &old.explicit {
                if let Some(names) = self.claims.get_mut(&asked.address) {
                    names.remove(name);
                    if names.is_empty() {
                        self.claims.remove(&asked.address);
                    }
                }
            }
        }
        let mut kept: Vec<Held> = Vec::new();
        for mut held in self.held.remove(name).unwrap_or_default() {
            let family = Family::of(held.address);
            let is_named = wish.as_ref().is_some_and(|wish| wish.names(held.address));
            let is_wanted = is_named
                || wish.as_ref().is_some_and(|wish| {
                    wish.automatic.contains(&family)
                        && !kept.iter().any(|kept| Family::of(kept.address) == family)
                });
            let is_usable = self
                .range(family)
                .is_some_and(|range| range.check(held.address).is_ok());
            if is_wanted && is_usable {
                held.automatic = !is_named;
                kept.push(held);
            } else {
                self.owners.remove(&held.address);
                self.changed = true;
                released.push(held.address);
            }
        }
        if !kept.is_empty() {
            self.held.insert(name.clone(), kept);
        }
        if let Some(wish) = wish {
            for asked in &wish.explicit {
                let names = self.claims.entry(asked.address).or_default();
                names.insert(name.clone());
            }
            self.wishes.insert(name.clone(), wish);
        }
    }

    fn grant_explicit(&mut self, name: &ObjectName) {
        let Some(wish) = self.wishes.get(name) else {
            return;
        };
        for Asked { address, field } in wish.explicit.clone() {
            let verdict = match (
                self.range(Family::of(address))
                    .map(|range| (range, range.check(address))),
                self.owners.get(&address),
            ) {
                (_, Some(owner)) if owner == name => continue,
                (None, _) => Err(no_range(Family::of(address))),
                (Some((range, Err(Unusable::Outside))), _) => Err(format!(
                    "is outside the service range {range} (--service-cidr)"
                )),
                (Some((range, Err(Unusable::Reserved))), _) => Err(format!(
                    "is the first or last address of the service range {range} and cannot be a service's"
                )),
                (Some((_, Ok(()))), Some(owner)) => Err(format!(
                    "is taken by Service {owner}: choose another address"
                )),
                (Some((_, Ok(()))), None) => Ok(()),
            };
            match verdict {
                Ok(()) => self.take(name, address, false, false),
                Err(message) => self.fault(name, &field, address.to_string(), message),
            }
        }
    }

    fn grant_automatic(&mut self, name: &ObjectName) {
        let Some(wish) = self.wishes.get(name) else {
            return;
        };
        for family in wish.automatic.clone() {
            let has_one = self
                .held
                .get(name)
                .into_iter()
                .flatten()
                .any(|held| Family::of(held.address) == family);
            if has_one {
                continue;
            }
            let Some(range) = self.range(family).copied() else {
                self.fault(
                    name,
                    "spec.ipFamilies",
                    family.to_string(),
                    no_range(family),
                );
                continue;
            };
            let free = range
                .candidates(place_of(name))
                .find(|address| !self.owners.contains_key(address));
            if let Some(address) = free {
                self.take(name, address, true, false);
            } else {
                self.waiting.insert(name.clone());
                let message = format!(
                    "the service range {range} is full, all {} addresses are taken: remove a service or enlarge --service-cidr",
                    range.usable()
                );
                self.fault(name, "spec.clusterIP", String::new(), message);
            }
        }
    }

    fn range(&self, family: Family) -> Option<&ServiceRange> {
        self.ranges.iter().find(|range| range.family() == family)
    }

    fn take(&mut self, name: &ObjectName, address: IpAddr, automatic: bool, saved: bool) {
        self.owners.insert(address, name.clone());
        self.changed = true;
        self.held.entry(name.clone()).or_default().push(Held {
            address,
            automatic,
            saved,
        });
    }

    fn fault(&mut self, name: &ObjectName, field: &str, value: String, message: String) {
        self.faults.entry(name.clone()).or_default().push(Fault {
            field: field.to_owned(),
            value,
            message,
        });
    }
}

fn no_range(family: Family) -> String {
    format!("there is no {family} service range: add one to --service-cidr")
}

/// Where the search for an automatic address begins: the same on every node and after every restart (G2).
fn place_of(name: &ObjectName) -> u64 {
    // The keys are part of what `plan` promises: an address is a function of the name.
    let mut hasher = SipHasher24::new_with_keys(0x636c_7573_7465_7269, 0x7020_6164_6472_6573);
    hasher.write(name.to_string().as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::samples::{app, listing, name, put, remove, service};

    fn allocator(nets: &[&str], kept: Allocations) -> Allocator {
        let ranges = nets
            .iter()
            .map(|net| ServiceRange::new(net.parse().unwrap()))
            .collect();
        Allocator::new(ranges, kept)
    }

    /// The allocations after these events.
    fn settle(
        allocator: &mut Allocator,
        cluster: &mut Cluster,
        events: Vec<crate::model::event::Event>,
    ) -> Allocations {
        let mut touched = BTreeSet::new();
        for event in events {
            cluster.apply(event, &mut touched);
        }
        allocator.settle(cluster, &mut touched);
        cluster
            .services()
            .map(|name| {
                let addresses = allocator.addresses(name);
                let addresses = addresses.iter().map(|it| it.address).collect();
                (name.clone(), addresses)
            })
            .collect()
    }

    fn named(service_name: &str, ip: &str) -> crate::model::object::Object {
        service(
            service_name,
            &json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }),
        )
    }

    proptest! {
        #![proptest_config(crate::repeatable::config(64))]

        /// G2: what a service gets depends on the objects, not on the order in which they come.
        #[test]
        fn allocation_is_a_function_of_the_objects(
            order in Just((0..24_u8).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let object = |index: u8| match index {
                0..8 => named(&format!("named-{index}"), &format!("10.0.0.{}", 17 + index % 5)),
                _ => app(&format!("auto-{index}")),
            };
            let fresh = || allocator(&["10.0.0.0/27"], Allocations::new());
            let sorted = settle(&mut fresh(), &mut Cluster::default(), listing((0..24).map(object)));
            let shuffled = order.into_iter().map(object);
            let other = settle(&mut fresh(), &mut Cluster::default(), listing(shuffled));
            prop_assert_eq!(&sorted, &other);
            let all: Vec<&IpAddr> = sorted.values().flatten().collect();
            let unique: BTreeSet<&IpAddr> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), unique.len(), "G4: never the same address twice");
        }
    }

    /// G4
    #[test]
    fn who_has_an_address_keeps_it() {
        let range = ["10.0.0.0/27"];
        let (mut first, mut cluster) = (allocator(&range, Allocations::new()), Cluster::default());
        let before = settle(&mut first, &mut cluster, listing([app("web")]));
        let address = before[&name("web")][0];
        assert!(first.addresses(&name("web"))[0].provisional);
        let kept = first.unsaved().unwrap();
        first.saved(&mut BTreeSet::new());
        assert_eq!(first.unsaved(), None);
        assert!(!first.addresses(&name("web"))[0].provisional);

        // After a restart an explicit request for it comes too late, and so does one that comes live.
        let rival = named("a-rival", &address.to_string());
        for events in [
            vec![listing([app("web"), rival.clone()])],
            vec![listing([app("web")]), vec![put(rival.clone())]],
        ] {
            let (mut next, mut cluster) = (allocator(&range, kept.clone()), Cluster::default());
            let mut after = Allocations::new();
            for events in events {
                after = settle(&mut next, &mut cluster, events);
            }
            assert_eq!(after[&name("web")], [address]);
            assert!(after[&name("a-rival")].is_empty());
            let fault = &next.faults(&name("a-rival"))[0];
            assert!(fault.message.contains("Service default/web"), "{fault:?}");
            assert!(next.handed_over().is_empty());
            // It is free as soon as its owner is gone.
            let after = settle(&mut next, &mut cluster, vec![remove(&app("web"))]);
            assert_eq!(after[&name("a-rival")], [address]);
            assert!(next.faults(&name("a-rival")).is_empty());
        }
    }

    #[test]
    fn an_address_that_went_to_another_service_meanwhile_is_known() {
        let address = "10.0.0.20".parse().unwrap();
        let kept = Allocations::from([(name("web"), vec![address])]);
        let (mut next, mut cluster) = (allocator(&["10.0.0.0/27"], kept), Cluster::default());
        settle(
            &mut next,
            &mut cluster,
            listing([named("other", "10.0.0.20")]),
        );
        assert_eq!(next.handed_over(), BTreeSet::from([address]));
    }

    /// G5
    #[test]
    fn families_follow_the_policy() {
        let nets = ["10.0.0.0/24", "fd00::/112"];
        let (mut both, mut cluster) = (allocator(&nets, Allocations::new()), Cluster::default());
        let with = |policy: &str, families: &[&str]| {
            service(
                "web",
                &json!({ "ipFamilyPolicy": policy, "ipFamilies": families, "ports": [{ "port": 80 }] }),
            )
        };
        let mut families_of = |object| {
            let all = settle(&mut both, &mut cluster, listing([object]));
            let addresses = all[&name("web")].iter();
            addresses
                .map(|it| Family::of(*it).name())
                .collect::<Vec<_>>()
        };
        assert_eq!(families_of(app("web")), ["IPv4"]);
        assert_eq!(families_of(with("PreferDualStack", &[])), ["IPv4", "IPv6"]);
        assert_eq!(families_of(with("SingleStack", &["IPv6"])), ["IPv6"]);
        assert_eq!(
            families_of(with("RequireDualStack", &["IPv6"])),
            ["IPv6", "IPv4"]
        );

        let (mut one, mut cluster) = (
            allocator(&nets[..1], Allocations::new()),
            Cluster::default(),
        );
        let preferred = settle(
            &mut one,
            &mut cluster,
            listing([with("PreferDualStack", &[])]),
        );
        assert_eq!(preferred[&name("web")].len(), 1);
        assert!(one.faults(&name("web")).is_empty());
        let required = settle(
            &mut one,
            &mut cluster,
            listing([with("RequireDualStack", &[])]),
        );
        assert_eq!(
            required[&name("web")],
            preferred[&name("web")],
            "an update keeps it"
        );
        assert!(
            one.faults(&name("web"))[0]
                .message
                .contains("no IPv6 service range")
        );
    }

    #[test]
    fn a_range_that_became_smaller_is_left() {
        let kept = Allocations::from([(name("web"), vec!["10.0.9.9".parse().unwrap()])]);
        let (mut next, mut cluster) = (allocator(&["10.0.0.0/27"], kept), Cluster::default());
        let after = settle(&mut next, &mut cluster, listing([app("web")]));
        assert!(after[&name("web")][0].to_string().starts_with("10.0.0."));
    }
}
