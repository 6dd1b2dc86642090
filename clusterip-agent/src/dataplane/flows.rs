//! Reads the tables that the program fills: flows, clients and their backends, and how full each is.

use aya::Pod;
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Flow, FlowKey, Fragment, FragmentKey, SocketFlow, SocketKey,
        maps::{self, Shape},
    },
    wire::Addr,
};

use super::{
    DataplaneError,
    batch::Whole,
    load::LoadError,
    pinned::{self, blank},
    pins::Pins,
    raw::Raw,
};

/// A map of these keys and values.
type Table<K, V> = Whole<Raw<K>, V>;

/// One with its number of places.
struct Roomy<K: Copy, V> {
    map: Table<K, V>,
    room: u32,
}

/// The maps, by way of their pins.
pub struct FlowMaps {
    flows: Roomy<FlowKey, Raw<Flow>>,
    half_open: Roomy<FlowKey, Raw<Flow>>,
    affinity: Table<AffinityKey, Raw<Affinity>>,
    fragments: Table<FragmentKey, Raw<Fragment>>,
    errors: Table<Addr, u64>,
    sockets: Table<SocketKey, Raw<SocketFlow>>,
}

impl FlowMaps {
    /// Opens them.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            flows: roomy(pins, &maps::FLOWS)?,
            half_open: roomy(pins, &maps::HALF_OPEN)?,
            affinity: pinned::whole(pins, &maps::AFFINITY)?,
            fragments: pinned::whole(pins, &maps::FRAGMENTS)?,
            errors: pinned::whole(pins, &maps::ERRORS)?,
            sockets: pinned::whole(pins, &maps::SOCKETS)?,
        })
    }

    /// Every entry of the flow tables, those of both directions, and whether both sides have spoken; also those that are
    /// dead and not removed yet.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn flows(&self, mut each: impl FnMut(FlowKey, Flow, bool)) -> Result<(), DataplaneError> {
        for (Roomy { map, room }, shape, answered) in [
            (&self.flows, &maps::FLOWS, true),
            (&self.half_open, &maps::HALF_OPEN, false),
        ] {
            map.visit_hash(*room, (blank(), blank()), |key, flow| {
                each(key.0, flow.0, answered);
            })
            .map_err(DataplaneError::reading(shape.name))?;
        }
        Ok(())
    }

    /// Every client that is remembered.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn affinity(
        &self,
        mut each: impl FnMut(AffinityKey, Affinity),
    ) -> Result<(), DataplaneError> {
        visit(&self.affinity, &maps::AFFINITY, |key, entry| {
            each(key.0, entry.0);
        })
    }

    /// Entries in use of the tables that the program fills, but those of flows, by name of the map. Reads all of them.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn entries(&self) -> Result<Vec<(&'static str, u64)>, DataplaneError> {
        Ok(vec![
            count(&self.affinity, &maps::AFFINITY)?,
            count(&self.fragments, &maps::FRAGMENTS)?,
            count(&self.errors, &maps::ERRORS)?,
            count(&self.sockets, &maps::SOCKETS)?,
        ])
    }
}

fn roomy<K: Copy, V>(pins: &Pins, shape: &Shape) -> Result<Roomy<K, V>, LoadError>
where
    Raw<K>: Pod,
    V: Pod,
{
    Ok(Roomy {
        map: pinned::whole(pins, shape)?,
        room: pinned::room(pins, shape)?,
    })
}

fn visit<K: Pod, V: Pod>(
    map: &Whole<K, V>,
    shape: &Shape,
    each: impl FnMut(&K, &V),
) -> Result<(), DataplaneError> {
    map.visit((blank(), blank()), each)
        .map_err(DataplaneError::reading(shape.name))
}

fn count<K: Pod, V: Pod>(
    map: &Whole<K, V>,
    shape: &Shape,
) -> Result<(&'static str, u64), DataplaneError> {
    let mut entries = 0;
    visit(map, shape, |_, _| entries += 1)?;
    Ok((shape.name, entries))
}
