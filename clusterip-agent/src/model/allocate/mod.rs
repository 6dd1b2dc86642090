//! Which service has which address (G). A function of the objects and of who had what before, not of their order.

mod kept;
mod resting;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hasher,
    net::IpAddr,
    sync::Arc,
};

use siphasher::sip::SipHasher24;

pub use self::kept::{Allocations, Changes};
use self::resting::Resting;
use super::{
    cluster::Cluster,
    group::Group,
    object::ObjectName,
    problem::Fault,
    range::{ServiceRange, Unusable},
    served::{Owner, ServedAddresses, owners},
    service::Family,
    wish::{Asked, Purpose, Wish},
};

/// An address a service has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// The service did not ask for it by name.
    pub automatic: bool,
    /// Chosen automatically, and not kept on disk yet.
    pub provisional: bool,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    address: IpAddr,
    automatic: bool,
    saved: bool,
}

/// Gives services their addresses.
#[derive(Debug, Default)]
pub struct Allocator {
    purpose: Purpose,
    ranges: Vec<ServiceRange>,
    owners: HashMap<IpAddr, ObjectName>,
    held: HashMap<ObjectName, Vec<Held>>,
    wishes: HashMap<ObjectName, Wish>,
    /// Who asks for an address by name, with or without success.
    claims: HashMap<IpAddr, Group>,
    /// Who found its range full.
    waiting: BTreeSet<ObjectName>,
    faults: HashMap<ObjectName, Vec<Fault>>,
    /// Who had what when this began; until the first `settle`.
    loaded: HashMap<IpAddr, ObjectName>,
    /// Released addresses that nobody else gets yet (G4).
    resting: BTreeMap<IpAddr, Resting>,
    /// Services that may have other addresses than is kept on disk, and addresses that may rest or not.
    unkept: (BTreeSet<ObjectName>, BTreeSet<IpAddr>),
}

impl Allocator {
    /// An allocator for these ranges, one for each family at most; the first one's family is the default. `resting`
    /// are addresses that were released and their last owners.
    #[must_use]
    pub fn new(
        ranges: Vec<ServiceRange>,
        kept: BTreeMap<ObjectName, Vec<IpAddr>>,
        resting: BTreeMap<IpAddr, ObjectName>,
    ) -> Self {
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
        allocator.loaded.clone_from(&allocator.owners);
        for (address, owner) in resting {
            allocator.loaded.entry(address).or_insert(owner.clone());
            allocator.rest(address, owner);
        }
        allocator.unkept = Default::default();
        allocator
    }

    /// Once, before the first `settle`: an address that is served and that nothing was kept of goes back to the service
    /// that it is served for, if that is still there and may have it. Otherwise it rests, until its flows are dead.
    pub fn remember(&mut self, served: &ServedAddresses, cluster: &Cluster) {
        let is_new = |address: &IpAddr| {
            let is_ours = self.fits(*address).is_ok();
            is_ours && !self.owners.contains_key(address) && !self.resting.contains_key(address)
        };
        let unknown: Vec<(IpAddr, Owner)> = served
            .iter()
            .filter(|(address, _)| is_new(address))
            .map(|(address, served)| (*address, served.owner))
            .collect();
        if unknown.is_empty() {
            return;
        }
        let names = owners(cluster);
        for (address, owner) in unknown {
            let name = names.get(&owner).copied().filter(|_| owner.is_known());
            if owner.is_known() {
                let last = name.cloned().unwrap_or_else(ObjectName::unknown);
                self.loaded.insert(address, last);
            }
            match name.filter(|name| self.may_have(name, address, cluster)) {
                Some(name) => self.take(name, address, true, false),
                None => self.rest(address, ObjectName::unknown()),
            }
        }
    }

    fn may_have(&self, name: &ObjectName, address: IpAddr, cluster: &Cluster) -> bool {
        let Some((_, service)) = cluster.service(name) else {
            return false;
        };
        let family = Family::of(address);
        let mut held = self.held.get(name).into_iter().flatten();
        let has_one = held.any(|held| Family::of(held.address) == family);
        let wish = self.purpose.wish(service, &self.ranges);
        !has_one && (wish.names(address) || wish.automatic.contains(&family))
    }

    /// An allocator of addresses for load balancers; `default` is the family of a service that says none,
    /// `class` the one that is the agent's own.
    #[must_use]
    pub fn of_balancers(
        pool: Vec<ServiceRange>,
        default: Option<Family>,
        class: Option<Arc<str>>,
        kept: Allocations,
    ) -> Self {
        Self {
            purpose: Purpose::Balancer(default, class),
            ..Self::new(pool, kept.addresses, kept.resting)
        }
    }

    /// Somebody else gives out the addresses: services have what they name, from wherever it is, and nothing is kept.
    #[must_use]
    pub fn of_api_server(ranges: Vec<ServiceRange>) -> Self {
        Self {
            purpose: Purpose::Given,
            ranges,
            ..Self::default()
        }
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
                automatic: held.automatic,
                provisional: held.automatic && !held.saved,
            })
            .collect()
    }

    /// What is wrong with the addresses a service asks for.
    #[must_use]
    pub fn faults(&self, name: &ObjectName) -> &[Fault] {
        self.faults.get(name).map_or(&[], Vec::as_slice)
    }

    /// Where addresses come from.
    #[must_use]
    pub fn ranges(&self) -> &[ServiceRange] {
        &self.ranges
    }

    /// Services that may have other addresses since [`Allocator::saved`].
    pub fn unkept(&self) -> impl Iterator<Item = &ObjectName> {
        self.unkept.0.iter()
    }

    /// Addresses that may rest or not since then, and who had them last.
    pub fn unkept_resting(&self) -> impl Iterator<Item = (IpAddr, Option<ObjectName>)> {
        self.unkept.1.iter().map(|address| {
            let resting = self.resting.get(address);
            (*address, resting.map(|resting| resting.owner.clone()))
        })
    }

    /// What a service has now.
    pub fn held_by(&self, name: &ObjectName) -> impl Iterator<Item = IpAddr> {
        let held = self.held.get(name).into_iter().flatten();
        held.map(|held| held.address)
    }

    /// Who has what now.
    #[must_use]
    pub fn kept(&self) -> BTreeMap<ObjectName, Vec<IpAddr>> {
        let names = self.held.keys();
        names
            .map(|name| (name.clone(), self.held_by(name).collect()))
            .collect()
    }

    /// The released addresses that still rest, and their last owners.
    #[must_use]
    pub fn resting(&self) -> BTreeMap<IpAddr, ObjectName> {
        self.resting
            .iter()
            .map(|(address, resting)| (*address, resting.owner.clone()))
            .collect()
    }

    /// The dataplane holds what the services say, and time has passed: addresses that have rested are free. Those who
    /// wait for one are added to `touched`.
    pub fn advance(&mut self, touched: &mut BTreeSet<ObjectName>) {
        let before = self.resting.len();
        let (_, unkept) = &mut self.unkept;
        self.resting.retain(|address, resting| {
            let is_over = resting.advance();
            if is_over {
                unkept.insert(*address);
            }
            !is_over
        });
        if self.resting.len() < before {
            touched.append(&mut self.waiting);
        }
    }

    fn rest(&mut self, address: IpAddr, owner: ObjectName) {
        self.unkept.1.insert(address);
        self.resting.insert(address, Resting::new(owner));
    }

    /// All is kept on disk now; adds those to `touched` that have an address which was provisional until now.
    pub fn saved(&mut self, touched: &mut BTreeSet<ObjectName>) {
        let (names, _) = std::mem::take(&mut self.unkept);
        for name in names {
            let mut is_kept = false;
            for held in self.held.get_mut(&name).into_iter().flatten() {
                is_kept |= !std::mem::replace(&mut held.saved, true) && held.automatic;
            }
            if is_kept {
                touched.insert(name);
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
                .map(|(_, service)| self.purpose.wish(service, &self.ranges));
            self.replace_wish(name, wish, &mut released);
        }
        for address in &released {
            let claims = self.claims.get(address).into_iter();
            touched.extend(claims.flat_map(Group::iter).cloned());
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
        by_age.sort_by_cached_key(|name| cluster.age(name));
        for name in by_age {
            self.grant_explicit(name);
        }
        for name in touched.iter() {
            self.grant_automatic(name);
        }
    }

    /// Takes back what is no longer asked for.
    fn replace_wish(&mut self, name: &ObjectName, wish: Option<Wish>, released: &mut Vec<IpAddr>) {
        // All that it asks for was seen to when it asked for it.
        if wish.is_some() && wish.as_ref() == self.wishes.get(name) {
            return;
        }
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
            if is_wanted && self.fits(held.address).is_ok() {
                held.automatic = !is_named;
                kept.push(held);
            } else {
                self.owners.remove(&held.address);
                self.rest(held.address, name.clone());
                self.unkept.0.insert(name.clone());
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
            // Most ask nothing of a pool.
            if wish != Wish::default() {
                self.wishes.insert(name.clone(), wish);
            }
        }
    }

    fn grant_explicit(&mut self, name: &ObjectName) {
        let Some(wish) = self.wishes.get(name) else {
            return;
        };
        for Asked { address, field } in wish.explicit.clone() {
            let verdict = match self.owners.get(&address) {
                Some(owner) if owner == name => continue,
                owner => self.fits(address).and_then(|()| {
                    owner.map_or(Ok(()), |owner| {
                        Err(format!(
                            "is taken by Service {owner}: choose another address"
                        ))
                    })
                }),
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
            let mut held = self.held.get(name).into_iter().flatten();
            let has_one = held.any(|held| Family::of(held.address) == family);
            if has_one {
                continue;
            }
            let Some(range) = self.range(family).copied() else {
                self.fault(
                    name,
                    "spec.ipFamilies",
                    family.to_string(),
                    self.no_range(family),
                );
                continue;
            };
            let free = range
                .candidates(place_of(&name.to_string()))
                .find(|address| self.is_free(name, *address));
            if let Some(address) = free {
                self.take(name, address, true, false);
            } else {
                self.waiting.insert(name.clone());
                let message = format!(
                    "the {} {range} is full, all {} addresses are taken: remove a service or enlarge {}",
                    self.purpose.range(),
                    range.usable(),
                    self.purpose.flag()
                );
                self.fault(name, self.purpose.field(), String::new(), message);
            }
        }
    }

    /// Nobody has it, and nobody else had it just now (G4). Who asks for an address by name need not wait: the flows
    /// of its last owner are dead (C10), and a service that is renamed goes on.
    fn is_free(&self, name: &ObjectName, address: IpAddr) -> bool {
        let resting = self.resting.get(&address);
        !self.owners.contains_key(&address) && resting.is_none_or(|it| it.owner == *name)
    }

    /// Whether a service may have this address at all.
    fn fits(&self, address: IpAddr) -> Result<(), String> {
        if self.purpose == Purpose::Given {
            return Ok(());
        }
        let family = Family::of(address);
        let range = self.range(family).ok_or_else(|| self.no_range(family))?;
        range.check(address).map_err(|why| match why {
            Unusable::Outside => format!(
                "is outside the {} {range} ({})",
                self.purpose.range(),
                self.purpose.flag()
            ),
            Unusable::Reserved => format!(
                "is the first or last address of the {} {range} and cannot be a service's",
                self.purpose.range()
            ),
        })
    }

    fn no_range(&self, family: Family) -> String {
        let (range, flag) = (self.purpose.range(), self.purpose.flag());
        format!("there is no {family} {range}: add one to {flag}")
    }

    fn range(&self, family: Family) -> Option<&ServiceRange> {
        self.ranges.iter().find(|range| range.family() == family)
    }

    fn take(&mut self, name: &ObjectName, address: IpAddr, automatic: bool, saved: bool) {
        self.owners.insert(address, name.clone());
        if self.resting.remove(&address).is_some() {
            self.unkept.1.insert(address);
        }
        self.unkept.0.insert(name.clone());
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

/// Where the search for an automatic address or number begins: the same on every node and after every restart (G2).
pub(super) fn place_of(name: &str) -> u64 {
    // The keys are part of what `plan` promises: an address is a function of the name.
    let mut hasher = SipHasher24::new_with_keys(0x636c_7573_7465_7269, 0x7020_6164_6472_6573);
    hasher.write(name.as_bytes());
    hasher.finish()
}
