//! Maps in memory, for tests and for a run without a kernel.

use super::{Dataplane, DataplaneError};
use crate::plan::{Limits, Op, Tables};

/// Tables in memory, with the capacities of the maps.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Slots that no head leads to are in it too, as in an array.
    tables: Tables,
    limits: Limits,
    /// How many operations were carried out.
    writes: usize,
}

/// The map holds no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the map has room for {limit} entries")]
struct MapFull {
    limit: u32,
}

impl Memory {
    /// Empty maps.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            tables: Tables::default(),
            limits,
            writes: 0,
        }
    }

    /// How many operations were carried out so far.
    #[must_use]
    pub const fn writes(&self) -> usize {
        self.writes
    }

    fn check(&self, op: Op) -> Result<(), DataplaneError> {
        let (map, entry, fits, limit) = match op {
            Op::PutBackend(id, _) | Op::FreeBackend(id, _) | Op::ClearBackend(id) => (
                "BACKENDS",
                id.0.to_string(),
                id.0 < self.limits.backends,
                self.limits.backends,
            ),
            Op::PutSlot(slot, _) => (
                "SLOTS",
                slot.0.to_string(),
                slot.0 < self.limits.slots,
                self.limits.slots,
            ),
            Op::PutService(key, _) => (
                "SERVICES",
                key.to_string(),
                self.tables.services.contains_key(&key)
                    || self.tables.services.len() < self.limits.services as usize,
                self.limits.services,
            ),
            Op::ClearService(id) => (
                "CURSORS",
                id.0.to_string(),
                id.0 < self.limits.services,
                self.limits.services,
            ),
            Op::PutInside(..)
            | Op::RemoveInside(_)
            | Op::PutSources(..)
            | Op::RemoveSources(_)
            | Op::PutNode(..)
            | Op::RemoveService(_)
            | Op::RemoveAddress(_) => return Ok(()),
        };
        if fits {
            return Ok(());
        }
        Err(DataplaneError::Write {
            map,
            operation: "update",
            entry,
            source: Box::new(MapFull { limit }),
        })
    }
}

impl Dataplane for Memory {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        let mut tables = self.tables.clone();
        tables.prune();
        Ok(tables)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            self.check(*op)?;
            self.tables.apply(*op);
            self.writes += 1;
        }
        Ok(())
    }
}
