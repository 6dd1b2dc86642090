//! Reads what the kernel counts.

use aya::{
    Pod,
    maps::{Map, MapError, PerCpuArray},
};
use clusterip_common::abi::{
    BackendId, Counters, Outcome, ServiceId, Traffic,
    maps::{self, Shape},
};

use super::{
    DataplaneError,
    load::{Data, LoadError},
    pins::Pins,
    raw::Raw,
};

/// The counters, by way of their pins: they go on being shared with the kernel and with whoever writes.
pub struct CounterMaps {
    services: PerCpuArray<Data, Raw<Counters>>,
    backends: PerCpuArray<Data, Raw<Counters>>,
    outcomes: PerCpuArray<Data, Raw<Traffic>>,
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
}

fn open<V>(pins: &Pins, shape: &Shape) -> Result<PerCpuArray<Data, Raw<V>>, LoadError>
where
    V: Copy,
    Raw<V>: Pod,
{
    let fail = |source| LoadError::Map {
        map: shape.name,
        source: Box::new(source),
    };
    let data = Data::from_pin(pins.map(shape)).map_err(fail)?;
    Map::from_map_data(data)
        .and_then(PerCpuArray::try_from)
        .map_err(fail)
}

/// Adds up what the CPUs counted.
fn sum<V>(map: &PerCpuArray<Data, Raw<V>>, shape: &Shape, index: u32) -> Result<V, DataplaneError>
where
    V: Copy + Default + std::ops::AddAssign,
    Raw<V>: Pod,
{
    let values = map
        .get(&index, 0)
        .map_err(|source: MapError| DataplaneError::Read {
            map: shape.name,
            source: source.into(),
        })?;
    let mut total = V::default();
    for Raw(value) in values.iter() {
        total += *value;
    }
    Ok(total)
}
