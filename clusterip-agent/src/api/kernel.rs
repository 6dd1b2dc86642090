//! What the kernel holds, as the documents want it.

use std::sync::Arc;

use clusterip_common::abi::{BackendId, Counters, Outcome, ServiceId, Traffic};

use crate::{
    census::Census,
    dataplane::{
        DataplaneError,
        counters::{CounterMaps, Swept},
        load::LoadError,
        pins::Pins,
    },
    view::{Extent, Readings, flows::Entry},
};

/// More counters than these are read all together.
const SINGLES: usize = 64;

/// The maps that are read for the API.
pub struct KernelTables {
    counters: CounterMaps,
    census: Arc<Census>,
}

impl KernelTables {
    /// Opens them by their pins.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins, census: Arc<Census>) -> Result<Self, LoadError> {
        Ok(Self {
            counters: CounterMaps::open(pins)?,
            census,
        })
    }

    /// The tables that the program fills.
    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// The entries that are wanted.
    pub(super) fn entries(
        &self,
        mut is_wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>, DataplaneError> {
        let mut found = Vec::new();
        self.census.maps().flows(|key, flow, answered| {
            let entry = Entry {
                key,
                flow,
                answered,
            };
            if is_wanted(&entry) {
                found.push(entry);
            }
        })?;
        Ok(found)
    }

    /// The counters of these balancers and backends.
    pub(super) fn readings(&self, extent: Extent) -> Swept<'_> {
        let Extent {
            services,
            last_service,
            backends,
            last_backend,
        } = extent;
        self.counters.sweep(
            last_service.filter(|_| services > SINGLES),
            last_backend.filter(|_| backends > SINGLES),
        )
    }

    /// What became of packets.
    pub(super) fn outcomes(&self) -> Vec<(Outcome, Traffic)> {
        let read = |outcome: &Outcome| {
            let traffic = noted(self.counters.outcome(*outcome))?;
            Some((*outcome, traffic))
        };
        Outcome::ALL.iter().filter_map(read).collect()
    }
}

impl Readings for Swept<'_> {
    fn service(&self, id: ServiceId) -> Option<Counters> {
        noted(Swept::service(self, id))
    }

    fn backend(&self, id: BackendId) -> Option<Counters> {
        noted(Swept::backend(self, id))
    }
}

fn noted<T>(reading: Result<T, DataplaneError>) -> Option<T> {
    match reading {
        Ok(value) => Some(value),
        Err(error) => {
            log::warn!(error:err; "a counter is left out");
            None
        }
    }
}
