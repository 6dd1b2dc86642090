//! Events of the programs that this agent has loaded: what is wanted of them, and the ring buffer that they come by.

use aya::maps::{Array, PerCpuArray, RingBuf};
use clusterip_common::abi::{Event, Watch, event::CAPTURE};
use zerocopy::FromBytes as _;

use super::{
    DataplaneError,
    load::{Data, LoadError, Loaded},
    raw::Raw,
};

/// Names of the maps. They are of one load: nobody pins them.
const RING: &str = "EVENTS";
const LOST: &str = "LOST_EVENTS";
/// A section of the program's own data.
const WATCH: &str = ".data.watch";

/// The maps of events.
pub struct Events {
    ring: RingBuf<Data>,
    lost: PerCpuArray<Data, u64>,
    watch: Array<Data, Raw<Watch>>,
}

impl Events {
    /// Takes the maps out of what was loaded. Nobody listens yet.
    ///
    /// # Errors
    /// A map of another type.
    pub fn new(loaded: &mut Loaded) -> Result<Self, LoadError> {
        Ok(Self {
            ring: loaded.map_named(RING)?,
            lost: loaded.map_named(LOST)?,
            watch: loaded.map_named(WATCH)?,
        })
    }

    /// Says what is wanted from now on.
    ///
    /// # Errors
    /// The write failed.
    pub fn watch(&mut self, watch: &Watch) -> Result<(), DataplaneError> {
        let result = self.watch.set(0, Raw(*watch), 0);
        result.map_err(|source| DataplaneError::Write {
            map: WATCH,
            operation: "update",
            entry: "0".to_owned(),
            source: source.into(),
        })
    }

    /// Takes events out, `most` at once, each with what it brings of its frame; says how many there were. Nothing waits:
    /// the programs wake nobody.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(&Event, &[u8])) -> usize {
        for taken in 0..most {
            let Some(item) = self.ring.next() else {
                return taken;
            };
            if let Ok((event, frame)) = Event::read_from_prefix(&item) {
                let length = (event.captured as usize).min(CAPTURE);
                each(&event, frame.get(..length).unwrap_or_default());
            }
        }
        most
    }

    /// How many events found no room, since the programs were loaded.
    ///
    /// # Errors
    /// The read failed.
    pub fn lost(&self) -> Result<u64, DataplaneError> {
        let counts = self.lost.get(&0, 0);
        let counts = counts.map_err(DataplaneError::reading(LOST))?;
        Ok(counts.iter().sum())
    }
}
