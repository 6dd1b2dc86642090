//! Maps of another size or layout: new ones are filled beside the old, and put in their place.
//!
//! 1. The new map is made under another name and gets what the old one holds. Nobody uses it yet; whatever fails up to here
//!    leaves everything as it was.
//! 2. It gets the old one's name, and the programs in the links are replaced: packets use the new maps from here on.
//! 3. Flows that began in between are fetched too, and the old map goes.
//!
//! An agent that is killed in any moment leaves names from which the next one goes on.

use std::{collections::BTreeMap, io};

use aya::maps::MapError;
use clusterip_common::abi::{
    Flow, Service, ServiceKey,
    maps::{self, Kind, Shape},
};
use log::{info, warn};
use zerocopy::FromBytes as _;

use super::{
    entries::Entries,
    pins::{PinError, Pins, make, names},
};

/// A map that could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// A pin.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// An old or a new map cannot be opened.
    #[error("open map {map} to take it over")]
    Open {
        /// Which.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
    /// Its entries cannot be copied.
    #[error("copy the entries of map {map}; what is programmed stays in force")]
    Copy {
        /// Which.
        map: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The map that is to be filled is not there.
    #[error("the map {map} that is to be filled is not there")]
    Missing {
        /// Which.
        map: &'static str,
    },
}

/// Maps whose sizes go together: either all of them get their new size, or none.
const GROUPS: [(&str, &[Shape]); 3] = [
    (
        "--max-services",
        &[maps::SERVICES, maps::CURSORS, maps::SERVICE_COUNTERS],
    ),
    (
        "--max-backends",
        &[
            maps::BACKENDS,
            maps::SLOTS,
            maps::LIVE_FLOWS,
            maps::BACKEND_COUNTERS,
        ],
    ),
    ("--max-flows", &[maps::FLOWS, maps::HALF_OPEN]),
];

/// Where a map comes from.
struct Origin {
    shape: Shape,
    /// A new map is filled; otherwise the pinned one is used as it is.
    is_new: bool,
    /// Who has entries for it, the most recent first.
    sources: Vec<Entries>,
}

/// What is to be done before the maps can be used.
pub(super) struct Takeover {
    pins: Pins,
    others: Vec<Pins>,
    origins: BTreeMap<&'static str, Origin>,
}

impl Takeover {
    /// Looks at what is pinned. `sizes` become those that the maps will have: one stays as it is if what it holds does not
    /// fit into the wanted one.
    pub(super) fn begin(pins: &Pins, sizes: &mut [(Shape, u32)]) -> Result<Self, TakeoverError> {
        let others = pins.others()?;
        pins.prepare()?;
        let [_, next, _] = pins.directories();
        for (shape, _) in &*sizes {
            // An agent that was killed between two renames.
            if pins.old(shape).exists() && !pins.map(shape).exists() {
                Pins::rename(&pins.old(shape), &pins.map(shape))?;
            }
        }
        Pins::clear(&next)?;
        let mut origins = BTreeMap::new();
        for (shape, _) in &*sizes {
            let _entries = pins.check_map(shape)?;
            let places = [pins.map(shape), pins.old(shape)];
            let places = places
                .into_iter()
                .chain(others.iter().map(|it| it.map(shape)));
            let mut sources = Vec::new();
            for place in places {
                let opened =
                    Entries::open(&place, shape).map_err(|source| TakeoverError::Open {
                        map: shape.name,
                        source,
                    })?;
                sources.extend(opened);
            }
            origins.insert(
                shape.name,
                Origin {
                    shape: *shape,
                    is_new: false,
                    sources,
                },
            );
        }
        let mut takeover = Self {
            pins: pins.clone(),
            others,
            origins,
        };
        takeover.settle_sizes(sizes)?;
        for (shape, entries) in sizes {
            let is_pinned = pins.map(shape).exists();
            if let Some(origin) = takeover.origins.get_mut(shape.name)
                && let Some(newest) = origin.sources.first()
            {
                origin.is_new = !is_pinned || newest.capacity() != *entries;
            }
        }
        if takeover.is_needed() {
            make(&next)?;
        }
        Ok(takeover)
    }

    fn settle_sizes(&self, sizes: &mut [(Shape, u32)]) -> Result<(), TakeoverError> {
        for (flag, group) in GROUPS {
            let is_of_group = |shape: &Shape| group.iter().any(|it| it.name == shape.name);
            let wanted: BTreeMap<&str, u32> = sizes
                .iter()
                .filter(|(shape, _)| is_of_group(shape))
                .map(|(shape, entries)| (shape.name, *entries))
                .collect();
            // Mostly nothing shrinks, and nothing needs to be read.
            let shrinks = group
                .iter()
                .any(|shape| self.shrinks(shape, &wanted).is_some());
            if !shrinks || self.fits(&wanted)? {
                continue;
            }
            for (shape, entries) in sizes.iter_mut().filter(|(shape, _)| is_of_group(shape)) {
                if let Some(newest) = self.newest(shape) {
                    warn!(map = shape.name, entries = newest.capacity(), wanted = *entries;
                        "what the map holds does not fit into the size of {flag}: it keeps its size");
                    *entries = newest.capacity();
                }
            }
        }
        Ok(())
    }

    fn newest(&self, shape: &Shape) -> Option<&Entries> {
        self.origins.get(shape.name)?.sources.first()
    }

    /// The map that is there and the size it is to get, if that is a smaller one.
    fn shrinks(&self, shape: &Shape, wanted: &BTreeMap<&str, u32>) -> Option<(&Entries, u32)> {
        let entries = wanted.get(shape.name)?;
        let newest = self.newest(shape)?;
        (newest.capacity() > *entries).then_some((newest, *entries))
    }

    /// Whether all that is in use fits into maps of these sizes. Flows always do: the oldest are left behind.
    fn fits(&self, wanted: &BTreeMap<&str, u32>) -> Result<bool, TakeoverError> {
        let shrinks = |shape: &Shape| self.shrinks(shape, wanted);
        let (mut services, mut service_ids, mut slots) = (0, 0, 0);
        if let Some(heads) = self.newest(&maps::SERVICES) {
            let see = |key: &[u8], value: &[u8]| {
                services += 1;
                if let (Ok(key), Ok(head)) = (
                    ServiceKey::read_from_bytes(key),
                    Service::read_from_bytes(value),
                ) && !key.is_address()
                {
                    service_ids = service_ids.max(head.id.0.saturating_add(1));
                    slots = slots.max(head.first_slot.0.saturating_add(head.slot_count));
                }
            };
            heads.each(see).map_err(copy_error(&maps::SERVICES))?;
        }
        let mut backends = 0;
        if let Some((map, _)) = shrinks(&maps::BACKENDS) {
            // A free one too: its generation must not be forgotten (C10).
            let see = |key: &[u8], _: &[u8]| {
                let id = u32::read_from_bytes(key).unwrap_or(u32::MAX);
                backends = backends.max(id.saturating_add(1));
            };
            map.each(see).map_err(copy_error(&maps::BACKENDS))?;
        }
        let used = [
            (maps::SERVICES, services.max(service_ids)),
            (maps::CURSORS, service_ids),
            (maps::SERVICE_COUNTERS, service_ids),
            (maps::SLOTS, slots),
            (maps::BACKENDS, backends),
        ];
        Ok(used
            .iter()
            .all(|(shape, used)| shrinks(shape).is_none_or(|(_, entries)| *used <= entries)))
    }

    /// Where the loader finds or makes a map.
    pub(super) fn place(&self, shape: &Shape) -> std::path::PathBuf {
        match self.origins.get(shape.name) {
            Some(origin) if origin.is_new => self.pins.next(shape),
            _ => self.pins.map(shape),
        }
    }

    /// Whether a map is replaced, or was and not all of it was fetched.
    pub(super) fn is_needed(&self) -> bool {
        !self.others.is_empty()
            || self
                .origins
                .values()
                .any(|origin| origin.is_new || origin.sources.len() > 1)
    }

    /// The programs that are in links.
    pub(super) fn attached(&self) -> Result<Vec<String>, PinError> {
        let mut programs = Vec::new();
        for pins in self.others.iter().chain([&self.pins]) {
            let links = names(&pins.links())?.into_iter();
            programs.extend(links.filter_map(|name| Some(name.split_once('_')?.1.to_owned())));
        }
        programs.sort();
        programs.dedup();
        Ok(programs)
    }

    /// Fills the new maps; then they are those that count.
    pub(super) fn replace(&self) -> Result<(), TakeoverError> {
        let new = || self.origins.values().filter(|origin| origin.is_new);
        for Origin { shape, sources, .. } in new() {
            let target = Entries::open(&self.pins.next(shape), shape);
            let target = opened(shape, target)?;
            // What the agent writes, and counters, are those of one map; flows may be in several.
            let count = if is_flows(shape) { sources.len() } else { 1 };
            for source in sources.iter().take(count) {
                copy(shape, source, &target).map_err(copy_error(shape))?;
            }
            info!(map = shape.name, entries = target.capacity(); "a new map takes over");
        }
        let [_, _, old] = self.pins.directories();
        make(&old)?;
        for Origin { shape, .. } in new() {
            let place = self.pins.map(shape);
            if place.exists() {
                Pins::rename(&place, &self.pins.old(shape))?;
            }
            Pins::rename(&self.pins.next(shape), &place)?;
        }
        for other in &self.others {
            for name in names(&other.links())? {
                Pins::rename(&other.links().join(&name), &self.pins.links().join(&name))?;
            }
        }
        // As late as can be: what begins from here on until the programs are replaced is all that is missed.
        self.fetch()
    }

    /// After the programs use the new maps: fetches the flows that began meanwhile, and lets the old maps go.
    pub(super) fn finish(&self) -> Result<(), TakeoverError> {
        self.fetch()?;
        let [_, next, old] = self.pins.directories();
        Pins::clear(&next)?;
        Pins::clear(&old)?;
        for other in &self.others {
            let [version, _, _] = other.directories();
            Pins::clear(&version)?;
        }
        Ok(())
    }

    /// Adds the flows that are in the old maps only.
    fn fetch(&self) -> Result<(), TakeoverError> {
        for origin in self.origins.values() {
            let Origin {
                shape,
                is_new,
                sources,
            } = origin;
            // The first one of a map that stays is the map itself.
            let others = sources.get(usize::from(!is_new)..).unwrap_or_default();
            if !is_flows(shape) || others.is_empty() {
                continue;
            }
            let target = opened(shape, Entries::open(&self.pins.map(shape), shape))?;
            for source in others {
                copy(shape, source, &target).map_err(copy_error(shape))?;
            }
        }
        Ok(())
    }

    /// Before [`Takeover::replace`]: nothing has happened.
    pub(super) fn abandon(&self) {
        let [_, next, _] = self.pins.directories();
        if let Err(error) = Pins::clear(&next) {
            warn!(error:err; "maps that nobody uses are left behind");
        }
    }
}

/// What the program writes, packet by packet.
fn is_flows(shape: &Shape) -> bool {
    shape.kind == Kind::LruHash
}

fn opened(
    shape: &Shape,
    result: Result<Option<Entries>, MapError>,
) -> Result<Entries, TakeoverError> {
    let map = shape.name;
    let found = result.map_err(|source| TakeoverError::Open { map, source })?;
    found.ok_or(TakeoverError::Missing { map })
}

/// Adds what is not there yet.
fn copy(shape: &Shape, source: &Entries, target: &Entries) -> io::Result<()> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    source.each(|key, value| entries.push((key.to_vec(), value.to_vec())))?;
    if target.capacity() < source.capacity() {
        // Not all of them may find room: the kernel then drops those that were written first.
        entries.sort_by_key(|(_, value)| last_seen(shape, value));
    }
    for (key, value) in entries {
        let is_index = matches!(shape.kind, Kind::Array | Kind::PerCpuArray);
        let is_outside =
            |key: &[u8]| u32::read_from_bytes(key).is_ok_and(|index| index >= target.capacity());
        // `fits` saw that nobody needs it.
        if !(is_index && is_outside(&key)) {
            target.add(&key, &value)?;
        }
    }
    Ok(())
}

fn last_seen(shape: &Shape, value: &[u8]) -> u64 {
    if shape.name != maps::FLOWS.name && shape.name != maps::HALF_OPEN.name {
        return 0;
    }
    Flow::read_from_bytes(value).map_or(0, |flow| flow.last_seen)
}

fn copy_error(shape: &Shape) -> impl Fn(io::Error) -> TakeoverError {
    let map = shape.name;
    move |source| TakeoverError::Copy { map, source }
}
