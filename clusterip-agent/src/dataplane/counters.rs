//! Reads what the kernel counts.

use aya::{
    Pod,
    maps::{MapError, PerCpuArray},
};
use clusterip_common::abi::{
    BackendId, Counters, Outcome, ServiceId, Traffic,
    maps::{self, Shape},
};

use super::{
    DataplaneError,
    batch::PerCpu,
    load::{Data, LoadError},
    pinned,
    pins::Pins,
    raw::Raw,
};

/// The counters, by way of their pins: they go on being shared with the kernel and with whoever writes.
pub struct CounterMaps {
    services: Table<Counters>,
    backends: Table<Counters>,
    outcomes: Table<Traffic>,
}

/// One map: its values one by one, or many in few calls.
struct Table<V>
where
    V: Copy,
    Raw<V>: Pod,
{
    single: PerCpuArray<Data, Raw<V>>,
    many: PerCpu<V>,
}

impl CounterMaps {
    /// Opens them.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            services: open(pins, &maps::SERVICE_COUNTERS)?,
            backends: open(pins, &maps::BACKEND_COUNTERS)?,
            outcomes: open(pins, &maps::OUTCOMES)?,
        })
    }

    /// What went through a service.
    ///
    /// # Errors
    /// The read failed.
    pub fn service(&self, id: ServiceId) -> Result<Counters, DataplaneError> {
        sum(&self.services, &maps::SERVICE_COUNTERS, id.0)
    }

    /// What went through a backend.
    ///
    /// # Errors
    /// The read failed.
    pub fn backend(&self, id: BackendId) -> Result<Counters, DataplaneError> {
        sum(&self.backends, &maps::BACKEND_COUNTERS, id.0)
    }

    /// What ended in an outcome.
    ///
    /// # Errors
    /// The read failed.
    pub fn outcome(&self, outcome: Outcome) -> Result<Traffic, DataplaneError> {
        sum(&self.outcomes, &maps::OUTCOMES, outcome.index())
    }

    /// The counters up to these ids, read in a few calls: some thousand take as long as a few single ones. Others, and all
    /// where the kernel does not do it, are read one by one when they are asked for.
    #[must_use]
    pub fn sweep(&self, service: Option<ServiceId>, backend: Option<BackendId>) -> Swept<'_> {
        let read = |table: &Table<Counters>, last: Option<u32>| {
            let count = last.map_or(0, |last| last.saturating_add(1));
            // Whoever asks for one of them gets the error.
            table.many.sums(count).unwrap_or_default()
        };
        Swept {
            maps: self,
            services: read(&self.services, service.map(|id| id.0)),
            backends: read(&self.backends, backend.map(|id| id.0)),
        }
    }
}

/// Counters of one moment.
pub struct Swept<'a> {
    maps: &'a CounterMaps,
    services: Vec<Counters>,
    backends: Vec<Counters>,
}

impl Swept<'_> {
    /// What went through a service.
    ///
    /// # Errors
    /// The read failed.
    pub fn service(&self, id: ServiceId) -> Result<Counters, DataplaneError> {
        match self.services.get(id.0 as usize) {
            Some(counters) => Ok(*counters),
            None => self.maps.service(id),
        }
    }

    /// What went through a backend.
    ///
    /// # Errors
    /// The read failed.
    pub fn backend(&self, id: BackendId) -> Result<Counters, DataplaneError> {
        match self.backends.get(id.0 as usize) {
            Some(counters) => Ok(*counters),
            None => self.maps.backend(id),
        }
    }
}

fn open<V>(pins: &Pins, shape: &Shape) -> Result<Table<V>, LoadError>
where
    V: Copy + Default + std::ops::AddAssign,
    Raw<V>: Pod,
{
    let many = PerCpu::new(pinned::descriptor(pins, shape)?);
    Ok(Table {
        single: pinned::map(pins, shape)?,
        many: many.map_err(|error| pinned::failed(shape)(MapError::IoError(error)))?,
    })
}

/// Adds up what the CPUs counted.
fn sum<V>(table: &Table<V>, shape: &Shape, index: u32) -> Result<V, DataplaneError>
where
    V: Copy + Default + std::ops::AddAssign,
    Raw<V>: Pod,
{
    let values = table
        .single
        .get(&index, 0)
        .map_err(DataplaneError::reading(shape.name))?;
    let mut total = V::default();
    for Raw(value) in values.iter() {
        total += *value;
    }
    Ok(total)
}
