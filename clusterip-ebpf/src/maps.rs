//! The maps, declared from the one table in `clusterip_common::abi::maps`.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray},
};
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Announced, AnnouncedKey, Backend, BackendId, Counters, Flow,
        FlowKey, Fragment, FragmentKey, Inside, Service, ServiceId, ServiceKey, Settings,
        SocketFlow, SocketKey, Sources, Traffic, maps,
    },
    packet::{Exit, WAYS as PLACES, Way, Work},
    wire::Addr,
};

/// A service and a client, as a key of `SOURCES` has them behind its prefix.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Caller {
    pub(crate) service: ServiceId,
    pub(crate) client: [u32; 4],
}

#[map]
pub(crate) static SERVICES: HashMap<ServiceKey, Service> =
    HashMap::with_max_entries(maps::SERVICES.entries, 0);

#[map]
pub(crate) static SLOTS: Array<BackendId> = Array::with_max_entries(maps::SLOTS.entries, 0);

#[map]
pub(crate) static BACKENDS: Array<Backend> = Array::with_max_entries(maps::BACKENDS.entries, 0);

#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow> =
    LruHashMap::with_max_entries(maps::FLOWS.entries, 0);

#[map]
pub(crate) static HALF_OPEN: LruHashMap<FlowKey, Flow> =
    LruHashMap::with_max_entries(maps::HALF_OPEN.entries, 0);

#[map]
pub(crate) static AFFINITY: LruHashMap<AffinityKey, Affinity> =
    LruHashMap::with_max_entries(maps::AFFINITY.entries, 0);

#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, Fragment> =
    LruHashMap::with_max_entries(maps::FRAGMENTS.entries, 0);

#[map]
pub(crate) static ERRORS: LruHashMap<Addr, u64> =
    LruHashMap::with_max_entries(maps::ERRORS.entries, 0);

#[map]
pub(crate) static ENDPOINTS: Array<u64> = Array::with_max_entries(maps::ENDPOINTS.entries, 0);

#[map]
pub(crate) static LIVE_FLOWS: Array<u64> = Array::with_max_entries(maps::LIVE_FLOWS.entries, 0);

#[map]
pub(crate) static SOCKETS: LruHashMap<SocketKey, SocketFlow> =
    LruHashMap::with_max_entries(maps::SOCKETS.entries, 0);

#[map]
pub(crate) static INSIDE: LpmTrie<Addr, Inside> =
    LpmTrie::with_max_entries(maps::INSIDE.entries, 0);

#[map]
pub(crate) static SOURCES: LpmTrie<Caller, Sources> =
    LpmTrie::with_max_entries(maps::SOURCES.entries, 0);

#[map]
pub(crate) static NODE: Array<Addr> = Array::with_max_entries(maps::NODE.entries, 0);

#[map]
pub(crate) static ANNOUNCED: HashMap<AnnouncedKey, Announced> =
    HashMap::with_max_entries(maps::ANNOUNCED.entries, 0);

#[map]
pub(crate) static CURSORS: Array<u64> = Array::with_max_entries(maps::CURSORS.entries, 0);

#[map]
pub(crate) static SERVICE_COUNTS: PerCpuArray<Counters> =
    PerCpuArray::with_max_entries(maps::SERVICE_COUNTERS.entries, 0);

#[map]
pub(crate) static BACKEND_COUNTS: PerCpuArray<Counters> =
    PerCpuArray::with_max_entries(maps::BACKEND_COUNTERS.entries, 0);

#[map]
pub(crate) static OUTCOMES: PerCpuArray<Traffic> =
    PerCpuArray::with_max_entries(maps::OUTCOMES.entries, 0);

/// What one way of a packet leaves for the next: of the packet that this CPU is at. Nobody else looks at it.
#[map]
static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(1, 0);

/// What this CPU remembers of ways past the stack: of this load alone.
#[map]
pub(crate) static WAYS: PerCpuArray<Way> = PerCpuArray::with_max_entries(PLACES, 0);

/// Which ways packets went on. Of this load alone.
#[map]
pub(crate) static EXITS: PerCpuArray<Traffic> = PerCpuArray::with_max_entries(Exit::COUNT, 0);

/// What devices lead to, by their number: the agent that loaded this says so.
#[map]
pub(crate) static DEVICES: HashMap<u32, u32> = HashMap::with_max_entries(maps::DEVICES, 0);

/// This CPU's.
#[inline(always)]
pub(crate) fn work() -> Option<&'static mut Work> {
    let work = WORK.get_ptr_mut(0)?;
    // SAFETY: a packet's program is not interrupted by another on its CPU, and each way takes it once.
    Some(unsafe { &mut *work })
}

/// Read-only data; the agent patches it before the program is loaded.
#[unsafe(no_mangle)]
pub(crate) static SETTINGS: Settings = Settings::DEFAULT;
