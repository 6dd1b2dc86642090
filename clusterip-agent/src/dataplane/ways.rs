//! What the programs know of the ways past the stack: what is beyond a device, and how often something has changed; and
//! which ways packets went. All of it is of this load: nobody pins it.

use std::{collections::BTreeMap, sync::Arc};

use aya::maps::{Array, HashMap, MapError, PerCpuArray};
use clusterip_common::{
    abi::Traffic,
    packet::{Beyond, Exit},
};

use super::{
    DataplaneError,
    load::{Data, LoadError, Loaded},
    raw::Raw,
};

const DEVICES: &str = "DEVICES";
const EXITS: &str = "EXITS";
/// A section of the program's own data.
const CHANGES: &str = ".data.changes";

/// What is beyond each device.
pub struct DeviceMap {
    map: HashMap<Data, u32, u32>,
    written: BTreeMap<u32, Beyond>,
}

/// The count of changes.
pub struct Changes {
    map: Array<Data, u32>,
    count: u32,
}

/// The counters of the ways on.
#[derive(Clone)]
pub struct Exits(Arc<PerCpuArray<Data, Raw<Traffic>>>);

/// Takes the maps out of what was loaded.
///
/// # Errors
/// A map of another type.
pub fn open(loaded: &mut Loaded) -> Result<(DeviceMap, Changes, Exits), LoadError> {
    let devices = DeviceMap {
        map: loaded.map_named(DEVICES)?,
        written: BTreeMap::new(),
    };
    let changes = Changes {
        map: loaded.map_named(CHANGES)?,
        count: 0,
    };
    let exits = Exits(Arc::new(loaded.map_named(EXITS)?));
    Ok((devices, changes, exits))
}

impl DeviceMap {
    /// Makes the map say this, and says whether it said something else before.
    ///
    /// # Errors
    /// A write failed: what was written stays, and the next call goes on.
    pub fn follow(&mut self, wanted: &BTreeMap<u32, Beyond>) -> Result<bool, DataplaneError> {
        let fail = |operation, index: &u32| {
            let entry = index.to_string();
            move |source: MapError| DataplaneError::Write {
                map: DEVICES,
                operation,
                entry,
                source: source.into(),
            }
        };
        let mut has_changed = false;
        let gone: Vec<u32> = self.written.keys().copied().collect();
        for index in gone.iter().filter(|index| !wanted.contains_key(index)) {
            match self.map.remove(index) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(fail("delete", index)(error)),
            }
            self.written.remove(index);
            has_changed = true;
        }
        for (index, beyond) in wanted {
            if self.written.get(index) != Some(beyond) {
                let result = self.map.insert(index, beyond.0, 0);
                result.map_err(fail("update", index))?;
                self.written.insert(*index, *beyond);
                has_changed = true;
            }
        }
        Ok(has_changed)
    }
}

impl Changes {
    /// Something has changed: what programs remember holds no more.
    ///
    /// # Errors
    /// The write failed.
    pub fn note(&mut self) -> Result<(), DataplaneError> {
        self.count = self.count.wrapping_add(1);
        let result = self.map.set(0, self.count, 0);
        result.map_err(|source| DataplaneError::Write {
            map: CHANGES,
            operation: "update",
            entry: "0".to_owned(),
            source: source.into(),
        })
    }
}

impl Exits {
    /// How many packets went on by a way, since the programs were loaded.
    ///
    /// # Errors
    /// The read failed.
    pub fn of(&self, exit: Exit) -> Result<Traffic, DataplaneError> {
        let values = self.0.get(&exit.index(), 0);
        let values = values.map_err(DataplaneError::reading(EXITS))?;
        let mut sum = Traffic::default();
        for Raw(Traffic { packets, bytes }) in values.iter() {
            sum.packets += packets;
            sum.bytes += bytes;
        }
        Ok(sum)
    }
}

impl std::fmt::Debug for Exits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exits").finish_non_exhaustive()
    }
}
