//! Entries of any map as bytes: what a map is copied by.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::maps::{MapData, MapError, MapType};
use clusterip_common::abi::maps::{Kind, Shape};
use zerocopy::IntoBytes as _;

use super::{
    batch::{Batch, CHUNK, LOOKUP_BATCH},
    links::{bpf, raw},
    pins::map_type,
};

/// Commands of bpf(2).
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;

/// `BPF_NOEXIST`
const ABSENT: u64 = 1;

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map, opened by its pin.
pub(super) struct Entries {
    map: MapData,
    kind: Kind,
    key: usize,
    /// Bytes of a value as bpf(2) takes it: one for each CPU where there is one for each.
    value: usize,
    capacity: u32,
}

impl Entries {
    /// Opens it; None if there is no such pin, or what is there has another shape.
    pub(super) fn open(pin: &Path, shape: &Shape) -> Result<Option<Self>, MapError> {
        if !pin.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(pin)?;
        let info = map.info()?;
        let found = (
            info.map_type().unwrap_or(MapType::Unspecified),
            info.key_size() as usize,
            info.value_size() as usize,
        );
        if found != (map_type(shape.kind), shape.key, shape.value) {
            return Ok(None);
        }
        let value = match shape.kind {
            Kind::PerCpuArray => {
                let cpus =
                    aya::util::nr_cpus().map_err(|(_file, error)| MapError::IoError(error))?;
                shape.value.next_multiple_of(8) * cpus
            }
            Kind::Hash | Kind::LruHash | Kind::LpmTrie | Kind::Array => shape.value,
        };
        Ok(Some(Self {
            kind: shape.kind,
            key: shape.key,
            value,
            capacity: info.max_entries(),
            map,
        }))
    }

    /// How many entries there is room for.
    pub(super) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Calls `see` with the key and the value of every entry; of an array, of every one that is not zero.
    pub(super) fn each(&self, see: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        match self.kind {
            Kind::Hash | Kind::LruHash | Kind::LpmTrie => self.each_by_key(see),
            Kind::Array | Kind::PerCpuArray => self.each_of_array(see),
        }
    }

    fn each_of_array(&self, mut see: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut value = vec![0_u8; self.value];
        for index in 0..self.capacity {
            let key = index.as_bytes();
            let mut element = Element {
                map: self.fd()?,
                pad: 0,
                key: key.as_ptr() as u64,
                value: value.as_mut_ptr() as u64,
                flags: 0,
            };
            bpf(LOOKUP, &mut element)?;
            if value.iter().any(|byte| *byte != 0) {
                see(key, &value);
            }
        }
        Ok(())
    }

    fn each_by_key(&self, mut see: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let mut room = CHUNK;
        // A bucket's number, or a key.
        let mut place = vec![0_u8; self.key.max(size_of::<u64>())];
        let (mut next, mut is_first) = (place.clone(), true);
        loop {
            let mut keys = vec![0_u8; room * self.key];
            let mut values = vec![0_u8; room * self.value];
            let mut batch = Batch {
                from: if is_first { 0 } else { place.as_ptr() as u64 },
                to: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: room.try_into().map_err(io::Error::other)?,
                map: self.fd()?,
                entry_flags: 0,
                flags: 0,
            };
            let result = bpf(LOOKUP_BATCH, &mut batch);
            let is_last = match &result {
                Ok(_) => false,
                Err(error) if error.kind() == io::ErrorKind::NotFound => true,
                // One bucket holds more than that.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    continue;
                }
                Err(_) => return result.map(drop),
            };
            let count = batch.count as usize;
            let entries = keys
                .chunks_exact(self.key)
                .zip(values.chunks_exact(self.value));
            for (key, value) in entries.take(count) {
                see(key, value);
            }
            if is_last {
                return Ok(());
            }
            place.copy_from_slice(&next);
            is_first = false;
        }
    }

    /// Writes an entry that is not there yet; one that is stays as it is. An array has every entry: it is written.
    pub(super) fn add(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let is_hash = !matches!(self.kind, Kind::Array | Kind::PerCpuArray);
        let mut element = Element {
            map: self.fd()?,
            pad: 0,
            key: key.as_ptr() as u64,
            value: value.as_ptr() as u64,
            flags: if is_hash { ABSENT } else { 0 },
        };
        match bpf(UPDATE, &mut element) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map(drop),
        }
    }

    fn fd(&self) -> io::Result<u32> {
        raw(self.map.fd().as_fd().as_raw_fd())
    }
}
