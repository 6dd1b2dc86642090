//! What is in the tables that the program fills: how full they are, and how many flows each backend has.
//!
//! Counting reads a table from end to end. Whoever asks while a count is made gets the next one together with all others
//! that wait: any number of readers cost two counts at the most.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use clusterip_common::abi::{Settings, maps};

use crate::{
    clock::monotonic,
    dataplane::{DataplaneError, flows::FlowMaps},
    view::{
        Moment,
        flows::{Entry, FlowCounts},
    },
};

/// One count.
#[derive(Debug)]
pub struct Count {
    /// Entries in use, by name of the map.
    pub entries: Vec<(&'static str, u64)>,
    /// Flows by backend.
    pub flows: FlowCounts,
    begun: Instant,
}

/// The tables, and the last count.
pub struct Census {
    maps: FlowMaps,
    settings: Settings,
    last: Mutex<Option<Arc<Count>>>,
}

impl Census {
    /// Of these tables; the settings say how long flows live.
    #[must_use]
    pub const fn new(maps: FlowMaps, settings: Settings) -> Self {
        Self {
            maps,
            settings,
            last: Mutex::new(None),
        }
    }

    /// The tables themselves.
    #[must_use]
    pub const fn maps(&self) -> &FlowMaps {
        &self.maps
    }

    /// A count that was begun after this call.
    ///
    /// # Errors
    /// A table could not be read.
    pub fn now(&self) -> Result<Arc<Count>, DataplaneError> {
        self.since(Instant::now())
    }

    /// A count that is not older than this.
    ///
    /// # Errors
    /// A table could not be read.
    pub fn of_last(&self, age: Duration) -> Result<Arc<Count>, DataplaneError> {
        let now = Instant::now();
        self.since(now.checked_sub(age).unwrap_or(now))
    }

    fn since(&self, earliest: Instant) -> Result<Arc<Count>, DataplaneError> {
        // Held while it counts: those who wait find its result.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = last.as_ref().filter(|count| count.begun >= earliest) {
            return Ok(Arc::clone(count));
        }
        let count = Arc::new(self.count()?);
        *last = Some(Arc::clone(&count));
        Ok(count)
    }

    fn count(&self) -> Result<Count, DataplaneError> {
        let begun = Instant::now();
        let moment = Moment {
            now: monotonic(),
            settings: &self.settings,
        };
        let mut flows = FlowCounts::default();
        let (mut answered_entries, mut half_open) = (0, 0);
        self.maps.flows(|key, flow, answered| {
            if answered {
                answered_entries += 1;
            } else {
                half_open += 1;
            }
            let entry = Entry {
                key,
                flow,
                answered,
            };
            flows.add(&entry, moment);
        })?;
        let mut entries = vec![
            (maps::FLOWS.name, answered_entries),
            (maps::HALF_OPEN.name, half_open),
        ];
        entries.extend(self.maps.entries()?);
        Ok(Count {
            entries,
            flows,
            begun,
        })
    }
}
