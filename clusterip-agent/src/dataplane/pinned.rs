//! Maps, opened by their pins.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{Map, MapError},
};
use clusterip_common::abi::maps::Shape;

use super::{
    DataplaneError,
    batch::Whole,
    load::{Data, LoadError},
    pins::Pins,
};

/// Opens one, as aya knows it.
pub(super) fn map<T>(pins: &Pins, shape: &Shape) -> Result<T, LoadError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = Data::from_pin(pins.map(shape)).and_then(Map::from_map_data);
    map.and_then(T::try_from).map_err(failed(shape))
}

/// Opens one for bpf(2) itself.
pub(super) fn descriptor(pins: &Pins, shape: &Shape) -> Result<OwnedFd, LoadError> {
    let map = Data::from_pin(pins.map(shape)).map_err(failed(shape))?;
    let descriptor = map.fd().as_fd().try_clone_to_owned();
    descriptor.map_err(|error: io::Error| failed(shape)(MapError::IoError(error)))
}

/// Opens one, to be read as a whole.
pub(super) fn whole<K: Pod, V: Pod>(pins: &Pins, shape: &Shape) -> Result<Whole<K, V>, LoadError> {
    descriptor(pins, shape).map(Whole::new)
}

/// How many entries there is room for in one.
pub(super) fn room(pins: &Pins, shape: &Shape) -> Result<u32, LoadError> {
    let info = Data::from_pin(pins.map(shape)).and_then(|map| map.info());
    Ok(info.map_err(failed(shape))?.max_entries())
}

/// Reads a whole map.
pub(super) fn read<K: Pod, V: Pod>(
    map: &Whole<K, V>,
    shape: &Shape,
) -> Result<Vec<(K, V)>, DataplaneError> {
    map.read((blank(), blank()))
        .map_err(DataplaneError::reading(shape.name))
}

/// What a buffer is filled with before the kernel writes into it.
pub(super) const fn blank<T: Pod>() -> T {
    // SAFETY: `Pod` says that any bytes are a value.
    unsafe { std::mem::zeroed() }
}

pub(super) fn failed(shape: &Shape) -> impl Fn(MapError) -> LoadError {
    let map = shape.name;
    move |source| LoadError::Map {
        map,
        source: Box::new(source),
    }
}
