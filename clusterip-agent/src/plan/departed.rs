//! Backends that left the serving set and are kept for the sake of their flows (C1), oldest first.

use std::collections::{BTreeMap, BTreeSet};

use clusterip_common::{abi::BackendId, wire::Addr};

/// Backends that are gone, by when they left and by where they are.
#[derive(Clone, Default, Debug)]
pub(super) struct Departed {
    by_epoch: BTreeSet<(u64, BackendId)>,
    by_address: BTreeMap<Addr, BTreeSet<BackendId>>,
}

impl Departed {
    pub(super) fn insert(&mut self, id: BackendId, address: Addr, epoch: u64) {
        self.by_epoch.insert((epoch, id));
        self.by_address.entry(address).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, id: BackendId, address: Addr, epoch: u64) {
        self.by_epoch.remove(&(epoch, id));
        if let Some(ids) = self.by_address.get_mut(&address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }

    /// When each of them left, oldest first.
    pub(super) fn oldest(&self) -> impl Iterator<Item = (u64, BackendId)> {
        self.by_epoch.iter().copied()
    }

    /// Those at that address.
    pub(super) fn at(&self, address: Addr) -> Vec<BackendId> {
        self.by_address
            .get(&address)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }
}
