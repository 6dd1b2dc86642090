//! The kernel's maps as a dataplane.

use std::{collections::BTreeMap, fmt::Display, mem::discriminant, ops::Range};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, MapError, lpm_trie::Key},
};
use clusterip_common::{
    abi::{
        Backend, BackendId, BackendState, Counters, Inside, InsideKey, NodePlace, Service,
        ServiceId, ServiceKey, SlotIndex, Sources, SourcesKey,
        maps::{self, Shape},
    },
    wire::{Addr, Be16},
};

use super::{
    Dataplane, DataplaneError,
    batch::{PerCpu, Unwritten, Whole},
    endpoints::{Destinations, Endpoints, place_of},
    load::{Data, LoadError, Loaded},
    pinned::failed,
    raw::Raw,
};
use crate::{
    model::served::Owner,
    plan::{
        Op, Tables,
        desired::address_head,
        tables::{free_backend, slots_of},
    },
};

/// A service's id, as it lies in memory, and a range of clients.
type Caller = [[u8; 4]; 5];

/// The maps that the agent writes.
pub struct Bpf {
    services: HashMap<Data, Raw<ServiceKey>, Raw<Service>>,
    inside: LpmTrie<Data, [u8; 16], Raw<Inside>>,
    sources: LpmTrie<Data, Caller, Raw<Sources>>,
    node: Array<Data, Raw<Addr>>,
    /// The bitmap of endpoints.
    endpoint_words: Array<Data, u64>,
    /// What the bitmap follows from; None until the backends have been read.
    endpoints: Option<Endpoints>,
    destinations: Destinations,
    whole: Wholes,
}

/// The maps that are read as a whole, and written many entries at a time.
struct Wholes {
    services: Whole<Raw<ServiceKey>, Raw<Service>>,
    slots: Whole<u32, u32>,
    backends: Whole<u32, Raw<Backend>>,
    endpoint_words: Whole<u32, u64>,
    cursors: Whole<u32, u64>,
    live_flows: Whole<u32, u64>,
    service_counters: PerCpu<Counters>,
    backend_counters: PerCpu<Counters>,
}

impl Bpf {
    /// Takes the maps out of what was loaded. The counters stay shared with whoever reads them: see `counters`.
    ///
    /// # Errors
    /// A map of another type.
    pub fn new(loaded: &mut Loaded) -> Result<Self, LoadError> {
        let counters = |shape: &Shape| {
            let map = PerCpu::new(loaded.descriptor(shape)?);
            map.map_err(|error| failed(shape)(MapError::IoError(error)))
        };
        let whole = Wholes {
            services: Whole::new(loaded.descriptor(&maps::SERVICES)?),
            slots: Whole::new(loaded.descriptor(&maps::SLOTS)?),
            backends: Whole::new(loaded.descriptor(&maps::BACKENDS)?),
            endpoint_words: Whole::new(loaded.descriptor(&maps::ENDPOINTS)?),
            cursors: Whole::new(loaded.descriptor(&maps::CURSORS)?),
            live_flows: Whole::new(loaded.descriptor(&maps::LIVE_FLOWS)?),
            service_counters: counters(&maps::SERVICE_COUNTERS)?,
            backend_counters: counters(&maps::BACKEND_COUNTERS)?,
        };
        Ok(Self {
            services: loaded.map(&maps::SERVICES)?,
            inside: loaded.map(&maps::INSIDE)?,
            sources: loaded.map(&maps::SOURCES)?,
            node: loaded.map(&maps::NODE)?,
            endpoint_words: loaded.map(&maps::ENDPOINTS)?,
            endpoints: None,
            destinations: Destinations::default(),
            whole,
        })
    }

    /// Whether the bitmap has that address and port.
    ///
    /// # Errors
    /// The map could not be read.
    pub fn has_endpoint(&self, address: Addr, port: Be16) -> Result<bool, DataplaneError> {
        let (index, bit) = place_of(address, port);
        let word = self.endpoint_words.get(&index, 0);
        let word = word.map_err(DataplaneError::reading(maps::ENDPOINTS.name))?;
        Ok(word & bit != 0)
    }

    /// Sets the counters of choices, of a copy that is to choose as another one would.
    ///
    /// # Errors
    /// A write failed.
    pub(super) fn set_counts(
        &mut self,
        cursors: &BTreeMap<ServiceId, u64>,
        live: &BTreeMap<BackendId, u64>,
    ) -> Result<(), DataplaneError> {
        let cursors = cursors.iter().map(|(ServiceId(id), count)| (*id, *count));
        put_numbers(&self.whole.cursors, &maps::CURSORS, cursors)?;
        let live = live.iter().map(|(BackendId(id), count)| (*id, *count));
        put_numbers(&self.whole.live_flows, &maps::LIVE_FLOWS, live)
    }
}

impl Dataplane for Bpf {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        let blank = (
            Raw(ServiceKey::address(Addr::default())),
            Raw(address_head(Owner::default())),
        );
        let services = self.whole.services.read(blank);
        let services = services.map_err(DataplaneError::reading(maps::SERVICES.name))?;
        let services: BTreeMap<ServiceKey, Service> = services
            .into_iter()
            .map(|(Raw(key), Raw(head))| (key, head))
            .collect();
        let slots = self.whole.slots.read_range(used(&services), 0);
        let slots: BTreeMap<u32, u32> = slots
            .map_err(DataplaneError::reading(maps::SLOTS.name))?
            .into_iter()
            .collect();
        let backends = self.whole.backends.read((0, Raw(Backend::default())));
        let backends = backends.map_err(DataplaneError::reading(maps::BACKENDS.name))?;
        let mut inside = BTreeMap::new();
        for entry in &self.inside {
            let (key, Raw(whose)) = entry.map_err(DataplaneError::reading(maps::INSIDE.name))?;
            let range = InsideKey {
                prefix: key.prefix_len(),
                address: key.data(),
            };
            inside.insert(range, whose);
        }
        let mut sources = BTreeMap::new();
        for entry in &self.sources {
            let (key, Raw(value)) = entry.map_err(DataplaneError::reading(maps::SOURCES.name))?;
            sources.insert(sources_key(&key), value);
        }
        let mut node = BTreeMap::new();
        for place in [NodePlace::V4, NodePlace::V6] {
            let address = self.node.get(&place.0, 0);
            let Raw(address) = address.map_err(DataplaneError::reading(maps::NODE.name))?;
            if address != Addr::UNSPECIFIED {
                node.insert(place, address);
            }
        }
        let tables = Tables {
            inside,
            sources,
            node,
            slots: services
                .values()
                .flat_map(slots_of)
                .filter_map(|slot| Some((slot, BackendId(*slots.get(&slot.0)?))))
                .collect(),
            backends: backends
                .into_iter()
                .map(|(id, Raw(backend))| (BackendId(id), backend))
                .filter(|(_, it)| it.state != BackendState::FREE || it.generation > 0)
                .collect(),
            services,
        };
        self.derive_endpoints(&tables)?;
        Ok(tables)
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        if self.endpoints.is_none() && !ops.is_empty() {
            self.dump()?;
        }
        // Their order is that of their kinds, so that the first programming is a few runs of thousands.
        let mut runs = ops.chunk_by(|a, b| discriminant(a) == discriminant(b));
        runs.try_for_each(|run| self.carry_out(run))
    }
}

impl Bpf {
    /// Where flows lead, to be told by whoever looks through them.
    #[must_use]
    pub fn destinations(&self) -> Destinations {
        self.destinations.clone()
    }

    /// Makes the bitmap of endpoints what the backends and flows say.
    fn derive_endpoints(&mut self, tables: &Tables) -> Result<(), DataplaneError> {
        let present = self.whole.endpoint_words.read((0, 0));
        let present = present.map_err(DataplaneError::reading(maps::ENDPOINTS.name))?;
        let mut endpoints = self.endpoints.take().unwrap_or_else(|| {
            let mut inherited = Endpoints::of(tables);
            inherited.keep(present.iter().copied());
            inherited
        });
        endpoints.renew(tables, &self.destinations);
        let words = endpoints.words().zip(present);
        let changed = words.filter(|(wanted, present)| wanted != present);
        self.put_words(changed.map(|(wanted, _)| wanted))?;
        self.endpoints = Some(endpoints);
        Ok(())
    }

    fn put_words(&self, words: impl IntoIterator<Item = (u32, u64)>) -> Result<(), DataplaneError> {
        put_numbers(&self.whole.endpoint_words, &maps::ENDPOINTS, words)
    }

    /// What was counted under these ids was another's.
    fn clear_services(&self, ids: impl Iterator<Item = u32> + Clone) -> Result<(), DataplaneError> {
        let cleared = self.whole.service_counters.clear(ids.clone());
        cleared.map_err(|it| unwritten(&maps::SERVICE_COUNTERS, it, |id| id.to_string()))?;
        let zero = ids.map(|id| (id, 0));
        put_numbers(&self.whole.cursors, &maps::CURSORS, zero)
    }

    fn clear_backends(&self, ids: impl Iterator<Item = u32> + Clone) -> Result<(), DataplaneError> {
        let cleared = self.whole.backend_counters.clear(ids.clone());
        cleared.map_err(|it| unwritten(&maps::BACKEND_COUNTERS, it, |id| id.to_string()))?;
        let zero = ids.map(|id| (id, 0));
        put_numbers(&self.whole.live_flows, &maps::LIVE_FLOWS, zero)
    }

    /// Writes backends, and before them the bits of their endpoints.
    fn put_backends(
        &mut self,
        backends: impl Iterator<Item = (BackendId, Backend)> + Clone,
    ) -> Result<(), DataplaneError> {
        // If a write fails, the next reading finds out which bits there should be.
        let mut endpoints = self
            .endpoints
            .take()
            .unwrap_or_else(|| Endpoints::of(&Tables::default()));
        let places = backends.clone();
        self.put_words(places.filter_map(|(_, backend)| endpoints.add(&backend)))?;
        let entries = backends.map(|(BackendId(id), backend)| (id, Raw(backend)));
        let map = &self.whole.backends;
        put(map, &maps::BACKENDS, entries, |id| id.to_string())?;
        self.endpoints = Some(endpoints);
        Ok(())
    }

    fn put_slots(
        &self,
        slots: impl Iterator<Item = (SlotIndex, BackendId)>,
    ) -> Result<(), DataplaneError> {
        let entries = slots.map(|(SlotIndex(slot), BackendId(id))| (slot, id));
        put(&self.whole.slots, &maps::SLOTS, entries, |slot| {
            slot.to_string()
        })
    }

    /// Writes frontends; before those towards the outside the bits by which packets to them are known.
    fn put_services(
        &mut self,
        services: impl Iterator<Item = (ServiceKey, Service)> + Clone,
    ) -> Result<(), DataplaneError> {
        if let Some(mut endpoints) = self.endpoints.take() {
            let keys = services.clone();
            self.put_words(keys.flat_map(|(key, _)| endpoints.add_frontend(&key)))?;
            self.endpoints = Some(endpoints);
        }
        let entries = services.map(|(key, head)| (Raw(key), Raw(head)));
        let map = &self.whole.services;
        put(map, &maps::SERVICES, entries, |Raw(key)| key.to_string())
    }

    fn remove(&mut self, key: ServiceKey) -> Result<(), DataplaneError> {
        removed(self.services.remove(&Raw(key)), maps::SERVICES.name, key)
    }

    /// Operations of one kind.
    fn carry_out(&mut self, run: &[Op]) -> Result<(), DataplaneError> {
        let all = run.iter();
        match run {
            [Op::PutBackend(..) | Op::FreeBackend(..), ..] => {
                self.put_backends(all.filter_map(|op| match *op {
                    Op::PutBackend(id, backend) => Some((id, backend)),
                    Op::FreeBackend(id, generation) => Some((id, free_backend(generation))),
                    _ => None,
                }))
            }
            [Op::ClearService(_), ..] => self.clear_services(all.filter_map(|op| match *op {
                Op::ClearService(ServiceId(id)) => Some(id),
                _ => None,
            })),
            [Op::ClearBackend(_), ..] => self.clear_backends(all.filter_map(|op| match *op {
                Op::ClearBackend(BackendId(id)) => Some(id),
                _ => None,
            })),
            [Op::PutSlot(..), ..] => self.put_slots(all.filter_map(|op| match *op {
                Op::PutSlot(slot, id) => Some((slot, id)),
                _ => None,
            })),
            [Op::PutService(..), ..] => self.put_services(all.filter_map(|op| match *op {
                Op::PutService(key, head) => Some((key, head)),
                _ => None,
            })),
            _ => run.iter().try_for_each(|op| self.carry_out_one(*op)),
        }
    }

    /// An operation of a kind that is written one by one; of the others one is a run, too.
    fn carry_out_one(&mut self, op: Op) -> Result<(), DataplaneError> {
        match op {
            Op::ClearService(_)
            | Op::ClearBackend(_)
            | Op::PutBackend(..)
            | Op::FreeBackend(..)
            | Op::PutSlot(..)
            | Op::PutService(..) => self.carry_out(&[op]),
            Op::RemoveService(key) => self.remove(key),
            Op::RemoveAddress(address) => self.remove(ServiceKey::address(address)),
            Op::PutInside(range, whose) => self
                .inside
                .insert(&trie_key(range), Raw(whose), 0)
                .map_err(|error| write_error(maps::INSIDE.name, "update", range, error)),
            Op::RemoveInside(range) => removed(
                self.inside.remove(&trie_key(range)),
                maps::INSIDE.name,
                range,
            ),
            Op::PutSources(range, sources) => self
                .sources
                .insert(&caller(range), Raw(sources), 0)
                .map_err(|error| write_error(maps::SOURCES.name, "update", range, error)),
            Op::RemoveSources(range) => removed(
                self.sources.remove(&caller(range)),
                maps::SOURCES.name,
                range,
            ),
            Op::PutNode(NodePlace(place), address) => {
                set(&mut self.node, maps::NODE.name, place, Raw(address))
            }
        }
    }
}

const fn caller(range: SourcesKey) -> Key<Caller> {
    let service = zerocopy::transmute!(range.service);
    let [a, b, c, d] = zerocopy::transmute!(range.address);
    Key::new(range.prefix, [service, a, b, c, d])
}

fn sources_key(key: &Key<Caller>) -> SourcesKey {
    let [service, a, b, c, d] = key.data();
    SourcesKey {
        prefix: key.prefix_len(),
        service: zerocopy::transmute!(service),
        address: zerocopy::transmute!([a, b, c, d]),
    }
}

const fn trie_key(range: InsideKey) -> Key<[u8; 16]> {
    let InsideKey { prefix, address } = range;
    Key::new(prefix, address)
}

/// Not being there is as good as being removed.
fn removed(
    result: Result<(), MapError>,
    map: &'static str,
    key: impl Display,
) -> Result<(), DataplaneError> {
    match result {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        Err(error) => Err(write_error(map, "delete", key, error)),
    }
}

/// From the first slot that a head leads to up to the last one.
fn used(services: &BTreeMap<ServiceKey, Service>) -> Range<u32> {
    let heads = services.values().filter(|head| head.slot_count > 0);
    heads
        .map(|head| head.first_slot.0..head.first_slot.0.saturating_add(head.slot_count))
        .reduce(|all, run| all.start.min(run.start)..all.end.max(run.end))
        .unwrap_or_default()
}

/// Writes entries in their order; `text` is a key for people.
fn put<K: Pod, V: Pod>(
    map: &Whole<K, V>,
    shape: &Shape,
    entries: impl IntoIterator<Item = (K, V)>,
    text: impl Fn(K) -> String,
) -> Result<(), DataplaneError> {
    let written = map.write(entries);
    written.map_err(|it| unwritten(shape, it, text))
}

fn put_numbers(
    map: &Whole<u32, u64>,
    shape: &Shape,
    counts: impl IntoIterator<Item = (u32, u64)>,
) -> Result<(), DataplaneError> {
    put(map, shape, counts, |id| id.to_string())
}

fn unwritten<K>(
    shape: &Shape,
    Unwritten { key, source }: Unwritten<K>,
    text: impl Fn(K) -> String,
) -> DataplaneError {
    let entry = key.map_or_else(|| "unknown".to_owned(), text);
    write_error(shape.name, "update", entry, source)
}

fn set<V: Pod>(
    array: &mut Array<Data, V>,
    map: &'static str,
    index: u32,
    value: V,
) -> Result<(), DataplaneError> {
    array
        .set(index, value, 0)
        .map_err(|error| write_error(map, "update", index, error))
}

fn write_error(
    map: &'static str,
    operation: &'static str,
    entry: impl Display,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> DataplaneError {
    DataplaneError::Write {
        map,
        operation,
        entry: entry.to_string(),
        source: source.into(),
    }
}
