//! Looks through the flow tables in a few calls, and takes out entries that are over.

use std::{io, os::fd::AsRawFd as _};

use aya::maps::Array;
use clusterip_common::{
    abi::{Backend, Flow, FlowKey, maps},
    packet::Table,
};

use super::{
    DataplaneError,
    batch::Whole,
    links::{bpf, raw},
    load::{Data, LoadError},
    pinned::{self, blank, read},
    pins::Pins,
    raw::Raw,
};

/// Commands of `enum bpf_cmd`.
const UPDATE_ELEM: libc::c_long = 2;
/// Of hash tables since Linux 5.14.
const LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
/// Only if there is none.
const NOEXIST: u64 = 1;

/// The part of `union bpf_attr` for one entry.
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The flow tables, and what depends on them.
pub struct FlowSweep {
    talking: Whole<Raw<FlowKey>, Raw<Flow>>,
    half_open: Whole<Raw<FlowKey>, Raw<Flow>>,
    backends: Whole<u32, Raw<Backend>>,
    live: Whole<u32, u64>,
    live_written: Array<Data, u64>,
}

impl FlowSweep {
    /// Opens the maps by their pins.
    ///
    /// # Errors
    /// A pin that is not there, or not permitted.
    pub fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            talking: pinned::whole(pins, &maps::FLOWS)?,
            half_open: pinned::whole(pins, &maps::HALF_OPEN)?,
            backends: pinned::whole(pins, &maps::BACKENDS)?,
            live: pinned::whole(pins, &maps::LIVE_FLOWS)?,
            live_written: pinned::map(pins, &maps::LIVE_FLOWS)?,
        })
    }

    /// Every entry of both tables.
    ///
    /// # Errors
    /// A map could not be read.
    pub fn entries(&self) -> Result<Vec<(Table, FlowKey, Flow)>, DataplaneError> {
        let mut entries = Vec::new();
        for (table, map, shape) in [
            (Table::Talking, &self.talking, &maps::FLOWS),
            (Table::HalfOpen, &self.half_open, &maps::HALF_OPEN),
        ] {
            let read = read(map, shape)?.into_iter();
            entries.extend(read.map(|(Raw(key), Raw(flow))| (table, key, flow)));
        }
        Ok(entries)
    }

    /// Every backend, by its id.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn backends(&self) -> Result<Vec<Backend>, DataplaneError> {
        let backends = read(&self.backends, &maps::BACKENDS)?.into_iter();
        Ok(backends.map(|(_, Raw(backend))| backend).collect())
    }

    /// The count of live flows of each backend, by its id.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn live(&self) -> Result<Vec<u64>, DataplaneError> {
        let counts = read(&self.live, &maps::LIVE_FLOWS)?.into_iter();
        Ok(counts.map(|(_, count)| count).collect())
    }

    /// Sets the count of live flows of a backend.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn set_live(&mut self, id: u32, count: u64) -> Result<(), DataplaneError> {
        self.live_written
            .set(id, count, 0)
            .map_err(|source| DataplaneError::Write {
                map: maps::LIVE_FLOWS.name,
                operation: "update",
                entry: id.to_string(),
                source: source.into(),
            })
    }

    /// Takes an entry out, if it still is as it was judged (C14): the kernel gives back what it has removed, and what a packet has
    /// touched since goes back in. Tells whether it is gone.
    ///
    /// # Errors
    /// The map could not be written.
    pub fn remove(
        &mut self,
        table: Table,
        key: FlowKey,
        judged: Flow,
    ) -> Result<bool, DataplaneError> {
        let (map, shape) = match table {
            Table::Talking => (&self.talking, &maps::FLOWS),
            Table::HalfOpen => (&self.half_open, &maps::HALF_OPEN),
        };
        let fail = |operation| {
            move |source: io::Error| DataplaneError::Write {
                map: shape.name,
                operation,
                entry: key.to_string(),
                source: source.into(),
            }
        };
        let key_there = Raw(key);
        let mut found: Raw<Flow> = blank();
        let mut element = Element {
            map: raw(map.descriptor().as_raw_fd()).map_err(fail("delete"))?,
            padding: 0,
            key: (&raw const key_there) as u64,
            value: (&raw mut found) as u64,
            flags: 0,
        };
        match bpf(LOOKUP_AND_DELETE_ELEM, &mut element) {
            Ok(_zero) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(fail("delete")(error)),
        }
        if found.0 == judged {
            return Ok(true);
        }
        element.flags = NOEXIST;
        match bpf(UPDATE_ELEM, &mut element) {
            Ok(_zero) => Ok(false),
            // A packet has made a newer one meanwhile.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(fail("update")(error)),
        }
    }
}
