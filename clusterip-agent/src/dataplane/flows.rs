//! Reads the tables that the program fills: flows, clients and their backends, and how full each is.

use std::io;

use aya::maps::MapData;
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Flow, FlowKey, Fragment, FragmentKey, SocketFlow, SocketKey,
        maps::{self, Shape},
    },
    wire::Addr,
};

use super::{
    DataplaneError, batch,
    load::{Data, LoadError},
    pins::Pins,
    raw::Raw,
};

/// The maps, by way of their pins.
pub struct FlowMaps {
    flows: MapData,
    half_open: MapData,
    affinity: MapData,
    fragments: MapData,
    errors: MapData,
    sockets: MapData,
}

impl FlowMaps {
    /// Opens them.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            flows: open(pins, &maps::FLOWS)?,
            half_open: open(pins, &maps::HALF_OPEN)?,
            affinity: open(pins, &maps::AFFINITY)?,
            fragments: open(pins, &maps::FRAGMENTS)?,
            errors: open(pins, &maps::ERRORS)?,
            sockets: open(pins, &maps::SOCKETS)?,
        })
    }

    /// Every entry of the flow tables, those of both directions, and whether both sides have spoken; also those that are
    /// dead and not removed yet.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn flows(&self, mut each: impl FnMut(FlowKey, Flow, bool)) -> Result<(), DataplaneError> {
        batch::for_each(&self.flows, |Raw(key), Raw(flow)| each(key, flow, true))
            .map_err(read_error(&maps::FLOWS))?;
        batch::for_each(&self.half_open, |Raw(key), Raw(flow)| {
            each(key, flow, false);
        })
        .map_err(read_error(&maps::HALF_OPEN))
    }

    /// Every client that is remembered.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn affinity(
        &self,
        mut each: impl FnMut(AffinityKey, Affinity),
    ) -> Result<(), DataplaneError> {
        batch::for_each(&self.affinity, |Raw(key), Raw(entry)| each(key, entry))
            .map_err(read_error(&maps::AFFINITY))
    }

    /// Entries in use of the tables that the program fills, by name of the map. Reads all of them.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn entries(&self) -> Result<Vec<(&'static str, u64)>, DataplaneError> {
        Ok(vec![
            count::<FlowKey, Raw<Flow>>(&self.flows, &maps::FLOWS)?,
            count::<FlowKey, Raw<Flow>>(&self.half_open, &maps::HALF_OPEN)?,
            count::<AffinityKey, Raw<Affinity>>(&self.affinity, &maps::AFFINITY)?,
            count::<FragmentKey, Raw<Fragment>>(&self.fragments, &maps::FRAGMENTS)?,
            count::<Addr, u64>(&self.errors, &maps::ERRORS)?,
            count::<SocketKey, Raw<SocketFlow>>(&self.sockets, &maps::SOCKETS)?,
        ])
    }
}

fn count<K: Copy, V: aya::Pod>(
    map: &MapData,
    shape: &Shape,
) -> Result<(&'static str, u64), DataplaneError>
where
    Raw<K>: aya::Pod,
{
    let mut count = 0;
    batch::for_each(map, |_: Raw<K>, _: V| count += 1).map_err(read_error(shape))?;
    Ok((shape.name, count))
}

fn open(pins: &Pins, shape: &Shape) -> Result<Data, LoadError> {
    Data::from_pin(pins.map(shape)).map_err(|source| map_error(shape, source))
}

fn map_error(shape: &Shape, source: aya::maps::MapError) -> LoadError {
    LoadError::Map {
        map: shape.name,
        source: Box::new(source),
    }
}

fn read_error(shape: &Shape) -> impl Fn(io::Error) -> DataplaneError {
    move |source| DataplaneError::Read {
        map: shape.name,
        source: source.into(),
    }
}
