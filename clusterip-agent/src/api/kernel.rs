//! What the kernel holds, as the documents want it.

use std::collections::BTreeMap;

use clusterip_common::abi::{BackendId, Counters, Outcome, ServiceId, Traffic};

use crate::{
    clock::monotonic,
    dataplane::{
        DataplaneError, counters::CounterMaps, flows::FlowMaps, load::LoadError, pins::Pins,
    },
    view::{
        Readings,
        flows::{Entry, FlowCount, tally},
    },
};

/// The maps that are read for the API.
pub struct KernelTables {
    counters: CounterMaps,
    flows: FlowMaps,
}

impl KernelTables {
    /// Opens them by their pins.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            counters: CounterMaps::open(pins)?,
            flows: FlowMaps::open(pins)?,
        })
    }

    /// The flow tables.
    pub(super) const fn flows(&self) -> &FlowMaps {
        &self.flows
    }

    /// The entries that are wanted.
    pub(super) fn entries(
        &self,
        mut is_wanted: impl FnMut(&Entry) -> bool,
    ) -> Result<Vec<Entry>, DataplaneError> {
        let mut found = Vec::new();
        self.flows.flows(|key, flow, answered| {
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

    /// How many flows each backend has.
    pub(super) fn tally(&self) -> Result<BTreeMap<BackendId, FlowCount>, DataplaneError> {
        let mut counts = BTreeMap::new();
        let now = monotonic();
        self.flows.flows(|key, flow, answered| {
            let entry = Entry {
                key,
                flow,
                answered,
            };
            tally(&mut counts, &entry, now);
        })?;
        Ok(counts)
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

impl Readings for KernelTables {
    fn service(&self, id: ServiceId) -> Option<Counters> {
        noted(self.counters.service(id))
    }

    fn backend(&self, id: BackendId) -> Option<Counters> {
        noted(self.counters.backend(id))
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
