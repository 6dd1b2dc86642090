//! Whose link address the programs tell neighbours, and at which devices.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aya::maps::{HashMap, MapError};
use clusterip_common::{
    abi::{Announced, AnnouncedKey, maps},
    packet::Mac,
};

use super::{
    DataplaneError,
    load::{Data, LoadError, Loaded},
    raw::Raw,
};

/// An address at a device, by the kernel's number.
pub type Place = (IpAddr, u32);

/// The addresses that are announced, as the programs know them. They answer where no agent runs, too (F4).
pub struct AnnouncedMap {
    map: HashMap<Data, Raw<AnnouncedKey>, Raw<Announced>>,
    written: BTreeMap<AnnouncedKey, Mac>,
    /// How many addresses that are.
    count: Arc<AtomicUsize>,
}

impl AnnouncedMap {
    /// Takes the map out of what was loaded, with what an earlier agent announced.
    ///
    /// # Errors
    /// A map of another type.
    pub fn open(loaded: &mut Loaded) -> Result<Self, LoadError> {
        let map: HashMap<Data, Raw<AnnouncedKey>, Raw<Announced>> = loaded.map(&maps::ANNOUNCED)?;
        let found: Result<Vec<_>, MapError> = map.iter().collect();
        let found = found.map_err(|source| LoadError::Map {
            map: maps::ANNOUNCED.name,
            source: Box::new(source),
        })?;
        let written = found
            .into_iter()
            .map(|(Raw(key), Raw(Announced { mac, zero: _ }))| (key, mac))
            .collect();
        let opened = Self {
            map,
            written,
            count: Arc::default(),
        };
        opened.tell();
        Ok(opened)
    }

    /// How many addresses are announced, as that changes.
    #[must_use]
    pub fn count(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.count)
    }

    fn tell(&self) {
        let addresses: BTreeSet<_> = self.written.keys().map(|key| key.address).collect();
        self.count.store(addresses.len(), Ordering::Relaxed);
    }

    /// What is announced where.
    #[must_use]
    pub fn places(&self) -> BTreeSet<Place> {
        let keys = self.written.keys();
        keys.map(|key| (key.address.into(), key.device)).collect()
    }

    /// Makes the map say this.
    ///
    /// # Errors
    /// A write failed: what was written stays, and the next call goes on.
    pub fn follow(&mut self, wanted: &BTreeMap<Place, Mac>) -> Result<(), DataplaneError> {
        let result = self.write(wanted);
        self.tell();
        result
    }

    fn write(&mut self, wanted: &BTreeMap<Place, Mac>) -> Result<(), DataplaneError> {
        let fail = |operation, key: &AnnouncedKey| {
            let entry = format!("{} at device {}", key.address, key.device);
            move |source: MapError| DataplaneError::Write {
                map: maps::ANNOUNCED.name,
                operation,
                entry,
                source: source.into(),
            }
        };
        let wanted: BTreeMap<AnnouncedKey, Mac> = wanted
            .iter()
            .map(|((address, device), mac)| (AnnouncedKey::new((*address).into(), *device), *mac))
            .collect();
        let gone: Vec<AnnouncedKey> = self.written.keys().copied().collect();
        for key in gone.iter().filter(|key| !wanted.contains_key(key)) {
            match self.map.remove(&Raw(*key)) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(fail("delete", key)(error)),
            }
            self.written.remove(key);
        }
        for (key, mac) in wanted {
            if self.written.get(&key) != Some(&mac) {
                let value = Announced { mac, zero: [0; 2] };
                let result = self.map.insert(Raw(key), Raw(value), 0);
                result.map_err(fail("update", &key))?;
                self.written.insert(key, mac);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for AnnouncedMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnnouncedMap")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
