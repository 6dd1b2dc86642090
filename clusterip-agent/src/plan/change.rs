//! Tables that remember what was touched: the fragment of a change, before and after.

use std::collections::BTreeMap;

use clusterip_common::{
    abi::{
        Backend, BackendId, Inside, InsideKey, NodePlace, Scope, Service, ServiceKey, SlotIndex,
        Sources, SourcesKey,
    },
    wire::Addr,
};

use super::{Op, Tables, desired, diff, tables::free_backend};
use crate::model::served::Owner;

/// The part of the tables that a change touched.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Change {
    /// As it was.
    pub before: Tables,
    /// As it is wanted now.
    pub after: Tables,
}

impl Change {
    /// The writes that make it so.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        diff(&self.before, &self.after)
    }
}

/// Tables, and for each key touched since the last [`Recorder::take`] what stood there before.
#[derive(Clone, Default, Debug)]
pub(super) struct Recorder {
    tables: Tables,
    backends: BTreeMap<BackendId, Option<Backend>>,
    slots: BTreeMap<SlotIndex, Option<BackendId>>,
    services: BTreeMap<ServiceKey, Option<Service>>,
    inside: BTreeMap<InsideKey, Option<Inside>>,
    sources: BTreeMap<SourcesKey, Option<Sources>>,
    node: BTreeMap<NodePlace, Option<Addr>>,
    /// The node's addresses for clients from outside, and whether there are such clients whatever the services are.
    node_addresses: BTreeMap<NodePlace, Addr>,
    has_guests: bool,
    /// How many frontends are for clients outside: while there is none, no packet need be looked at for their sake.
    outside: usize,
    /// How many of `services` were there and are not there now.
    leaving: usize,
    /// Everything will be compared: what was touched is noted as far as room depends on it.
    is_whole: bool,
}

impl Recorder {
    pub(super) const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// How many frontends and addresses there are at most while the change is carried out: what goes away goes last (F2).
    pub(super) fn most_services(&self) -> usize {
        self.tables.services.len() + self.leaving
    }

    pub(super) fn put_backend(&mut self, id: BackendId, backend: Backend) {
        let old = self.tables.backends.insert(id, backend);
        if !self.is_whole {
            self.backends.entry(id).or_insert(old);
        }
    }

    /// Leaves only the generation of a backend.
    pub(super) fn free_backend(&mut self, id: BackendId) {
        let generation = self
            .tables
            .backends
            .get(&id)
            .map_or(0, |backend| backend.generation);
        self.put_backend(id, free_backend(generation));
    }

    pub(super) fn put_slot(&mut self, slot: SlotIndex, backend: BackendId) {
        let old = self.tables.slots.insert(slot, backend);
        if !self.is_whole {
            self.slots.entry(slot).or_insert(old);
        }
    }

    pub(super) fn remove_slot(&mut self, slot: SlotIndex) {
        let old = self.tables.slots.remove(&slot);
        if !self.is_whole {
            self.slots.entry(slot).or_insert(old);
        }
    }

    /// Puts a frontend, and its address before it, with its owner if that is known. An address towards the outside is not the
    /// services' alone, and has no entry.
    pub(super) fn put_service(&mut self, key: ServiceKey, head: Service, owner: Owner) {
        if key.scope != Scope::CLUSTER {
            self.put_head(key, head);
            return;
        }
        let address = ServiceKey::address(key.address);
        let entry = desired::address_head(owner);
        let is_right = |old: &Service| *old == entry || !owner.is_known();
        if !self.tables.services.get(&address).is_some_and(is_right) {
            self.put_head(address, entry);
        }
        self.put_head(key, head);
    }

    /// Removes a frontend, and its address with the last one.
    pub(super) fn remove_service(&mut self, key: ServiceKey) {
        self.remove_head(key);
        if key.scope != Scope::CLUSTER {
            return;
        }
        let address = ServiceKey::address(key.address);
        // Keys are in the order of their addresses, and this one is the first of its own.
        let mut rest = self.tables.services.range(address..);
        let has_port = rest
            .nth(1)
            .is_some_and(|(next, _)| next.address == key.address);
        if !has_port && self.tables.services.contains_key(&address) {
            self.remove_head(address);
        }
    }

    /// Makes these ranges, and no others, inside the cluster.
    pub(super) fn set_inside(&mut self, wanted: BTreeMap<InsideKey, Inside>) {
        let old = std::mem::replace(&mut self.tables.inside, wanted);
        let now = &self.tables.inside;
        for range in now.keys().filter(|range| !old.contains_key(range)) {
            self.inside.entry(*range).or_insert(None);
        }
        for (range, whose) in old {
            if now.get(&range) != Some(&whose) {
                self.inside.entry(range).or_insert(Some(whose));
            }
        }
    }

    /// Lets clients in to a guarded service, or keeps them out.
    pub(super) fn set_sources(&mut self, range: SourcesKey, sources: Option<Sources>) {
        let old = match sources {
            Some(sources) => self.tables.sources.insert(range, sources),
            None => self.tables.sources.remove(&range),
        };
        self.sources.entry(range).or_insert(old);
    }

    /// Takes over the addresses by which the node stands for clients from outside.
    pub(super) fn set_node(&mut self, addresses: BTreeMap<NodePlace, Addr>, always: bool) {
        self.node_addresses = addresses;
        self.has_guests = always;
        self.settle_node();
    }

    fn settle_node(&mut self) {
        let wanted = if self.has_guests || self.outside > 0 {
            self.node_addresses.clone()
        } else {
            BTreeMap::new()
        };
        for place in [NodePlace::V4, NodePlace::V6] {
            let old = match wanted.get(&place) {
                Some(address) => self.tables.node.insert(place, *address),
                None => self.tables.node.remove(&place),
            };
            if old.as_ref() != wanted.get(&place) {
                self.node.entry(place).or_insert(old);
            }
        }
    }

    fn put_head(&mut self, key: ServiceKey, head: Service) {
        let old = self.tables.services.insert(key, head);
        if old.is_none() && key.scope == Scope::OUTSIDE {
            self.outside += 1;
            self.settle_node();
        }
        if old.is_none() && self.services.get(&key).is_some_and(Option::is_some) {
            self.leaving -= 1;
        }
        self.services.entry(key).or_insert(old);
    }

    fn remove_head(&mut self, key: ServiceKey) {
        let old = self.tables.services.remove(&key);
        if old.is_some() && key.scope == Scope::OUTSIDE {
            self.outside -= 1;
            self.settle_node();
        }
        let first = *self.services.entry(key).or_insert(old);
        if old.is_some() && first.is_some() {
            self.leaving += 1;
        }
    }

    /// Until [`Recorder::forget`] nobody asks what was touched: the whole of the tables is compared.
    pub(super) const fn compare_whole(&mut self) {
        self.is_whole = true;
    }

    /// From here on everything is noted; what was touched before is of no interest.
    pub(super) fn forget(&mut self) {
        self.backends.clear();
        self.slots.clear();
        self.services.clear();
        self.inside.clear();
        self.sources.clear();
        self.node.clear();
        self.leaving = 0;
        self.is_whole = false;
    }

    /// What was touched since the last time.
    pub(super) fn take(&mut self) -> Change {
        let mut change = Change::default();
        self.leaving = 0;
        split(
            std::mem::take(&mut self.backends),
            &self.tables.backends,
            (&mut change.before.backends, &mut change.after.backends),
        );
        split(
            std::mem::take(&mut self.slots),
            &self.tables.slots,
            (&mut change.before.slots, &mut change.after.slots),
        );
        split(
            std::mem::take(&mut self.services),
            &self.tables.services,
            (&mut change.before.services, &mut change.after.services),
        );
        split(
            std::mem::take(&mut self.inside),
            &self.tables.inside,
            (&mut change.before.inside, &mut change.after.inside),
        );
        split(
            std::mem::take(&mut self.sources),
            &self.tables.sources,
            (&mut change.before.sources, &mut change.after.sources),
        );
        split(
            std::mem::take(&mut self.node),
            &self.tables.node,
            (&mut change.before.node, &mut change.after.node),
        );
        change
    }
}

fn split<K: Ord + Copy, V: Copy>(
    touched: BTreeMap<K, Option<V>>,
    now: &BTreeMap<K, V>,
    (before, after): (&mut BTreeMap<K, V>, &mut BTreeMap<K, V>),
) {
    for (key, old) in touched {
        if let Some(old) = old {
            before.insert(key, old);
        }
        if let Some(new) = now.get(&key) {
            after.insert(key, *new);
        }
    }
}
