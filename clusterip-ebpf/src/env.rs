//! The kernel's body of `packet::Env`: maps, clock, counters.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns},
    maps::{LruHashMap, lpm_trie::Key},
};
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, AnnouncedKey, Backend, BackendId, Counters, Flow, FlowKey,
        FlowState, Fragment, FragmentKey, Inside, InsideKey, NodePlace, Outcome, Service,
        ServiceId, ServiceKey, Settings, SlotIndex, SourcesKey, Traffic, endpoint,
    },
    packet::{Beyond, Env, Exit, FlowEntry, FlowError, Mac, Table, Way},
    wire::{Addr, Be16},
};

use crate::{
    event,
    frame::known_later,
    leave,
    maps::{
        AFFINITY, ANNOUNCED, BACKEND_COUNTS, BACKENDS, CURSORS, Caller, DEVICES, ENDPOINTS, ERRORS,
        EXITS, FLOWS, FRAGMENTS, HALF_OPEN, INSIDE, LIVE_FLOWS, NODE, OUTCOMES, SERVICE_COUNTS,
        SERVICES, SETTINGS, SLOTS, SOURCES, WAYS,
    },
};

const EEXIST: i32 = -17;

/// The running kernel.
pub(crate) struct KernelEnv;

/// An entry of the flow map. Two CPUs may write it at once: each field is a word of its own, and any mixture is one that
/// a packet could have left.
pub(crate) struct KernelFlow(*mut Flow);

impl FlowEntry for KernelFlow {
    #[inline(always)]
    fn get(&self) -> Flow {
        // SAFETY: the look-up gave a pointer to a value that stays readable until the program ends.
        unsafe { *self.0 }
    }

    #[inline(always)]
    fn seen(&self, now: u64, state: FlowState) {
        // SAFETY: as above, and writable.
        let flow = unsafe { &mut *self.0 };
        if flow.state != state {
            flow.state = state;
        }
        if flow.last_seen != now {
            flow.last_seen = now;
        }
    }
}

/// A key of the trie whose address lies where an address may lie on the stack: aya's own has the alignment of a byte.
#[repr(C, align(8))]
struct Whole {
    _before: u32,
    key: Key<Addr>,
}

/// As above.
#[repr(C, align(8))]
struct WholeCaller(Key<Caller>);

impl KernelEnv {
    /// Counts what became of a packet.
    #[inline(always)]
    pub(crate) fn count(outcome: Outcome, bytes: usize) {
        if let Some(traffic) = OUTCOMES.get_ptr_mut(outcome.index()) {
            // SAFETY: this CPU's own counter, and a program is not preempted by another on its CPU.
            add(unsafe { &mut *traffic }, bytes);
        }
    }

    /// Counts what became of a process's call. Unlike a packet's program this one may be interrupted.
    #[inline(always)]
    pub(crate) fn count_call(outcome: Outcome) {
        if let Some(traffic) = OUTCOMES.get_ptr_mut(outcome.index()) {
            // SAFETY: this CPU's own counter.
            bump(unsafe { &mut (*traffic).packets });
        }
    }

    /// This CPU's counters of a service and of a backend.
    #[inline(always)]
    fn counters(service: ServiceId, backend: BackendId, count: impl Fn(&mut Counters)) {
        if let Some(counters) = SERVICE_COUNTS.get_ptr_mut(service.0) {
            // SAFETY: as in `count`.
            count(unsafe { &mut *counters });
        }
        if let Some(counters) = BACKEND_COUNTS.get_ptr_mut(backend.0) {
            // SAFETY: as in `count`.
            count(unsafe { &mut *counters });
        }
    }
}

#[inline(always)]
const fn add(traffic: &mut Traffic, bytes: usize) {
    traffic.packets += 1;
    traffic.bytes += bytes as u64;
}

#[inline(always)]
fn flows(table: Table) -> &'static LruHashMap<FlowKey, Flow> {
    match table {
        Table::Talking => &FLOWS,
        Table::HalfOpen => &HALF_OPEN,
    }
}

#[inline(always)]
fn has_bit(bit: u32) -> bool {
    ENDPOINTS
        .get(bit / endpoint::WORD)
        .is_some_and(|bits| bits >> (bit % endpoint::WORD) & 1 == 1)
}

/// Adds 1 in one instruction.
#[inline(always)]
fn bump(counter: &mut u64) {
    // SAFETY: a live map value; what was there before is not asked for (docs/adr/0003-round-robin.md).
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, 1) };
}

impl Env for KernelEnv {
    type Entry<'a> = KernelFlow;

    #[inline(always)]
    fn settings(&self) -> &Settings {
        // The loader patches them: the compiler must not know what they were when it ran. A black box would put the
        // pointer on the stack and take it from there each time.
        known_later(&SETTINGS)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        let clock = self.settings().clock;
        if clock.tick == 0 {
            // SAFETY: the helper takes nothing and gives a number.
            unsafe { bpf_ktime_get_coarse_ns() }
        } else {
            // SAFETY: as above; the kernel makes one load of it.
            clock.at(unsafe { bpf_jiffies64() })
        }
    }

    #[inline(always)]
    fn service(&self, key: &ServiceKey) -> Option<Service> {
        // SAFETY: the value is copied at once; the agent replaces it as a whole.
        unsafe { SERVICES.get(key) }.copied()
    }

    #[inline(always)]
    fn slot(&self, slot: SlotIndex) -> Option<BackendId> {
        SLOTS.get(slot.0).copied()
    }

    #[inline(always)]
    fn backend(&self, id: BackendId) -> Option<Backend> {
        BACKENDS.get(id.0).copied()
    }

    #[inline(always)]
    fn turn(&self, service: ServiceId) -> Option<u64> {
        let cursor = CURSORS.get_ptr_mut(service.0)?;
        // SAFETY: a live map value. Relaxed would compile to an add that fetches nothing (docs/adr/0003-round-robin.md).
        Some(unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(cursor, 1) })
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: the helper takes nothing and gives a number.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn is_endpoint(&self, address: Addr, port: Be16) -> bool {
        has_bit(endpoint::bit_of(address, port))
    }

    #[inline(always)]
    fn is_frontend(&self, address: Addr, port: Be16) -> bool {
        has_bit(endpoint::frontend_bit_of(address, port))
    }

    #[inline(always)]
    fn node_address(&self, is_v6: bool) -> Addr {
        let place = if is_v6 { NodePlace::V6 } else { NodePlace::V4 };
        NODE.get(place.0).copied().unwrap_or(Addr::UNSPECIFIED)
    }

    #[inline(always)]
    fn admits(&self, service: ServiceId, client: Addr) -> bool {
        let client = client.quarters();
        let caller = WholeCaller(Key::new(SourcesKey::WHOLE, Caller { service, client }));
        SOURCES.get(&caller.0).is_some()
    }

    #[inline(always)]
    fn live_flows(&self, backend: BackendId) -> u64 {
        LIVE_FLOWS.get(backend.0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn add_live_flow(&self, backend: BackendId, more: bool) {
        if !more {
            event::ended();
        }
        if let Some(flows) = LIVE_FLOWS.get_ptr_mut(backend.0) {
            let change = if more { 1 } else { u64::MAX };
            // SAFETY: a live map value. The result is not used, so that any order will do.
            unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::SeqCst }>(flows, change) };
        }
    }

    #[inline(always)]
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        // SAFETY: the value is copied at once.
        unsafe { AFFINITY.get(key) }.copied()
    }

    #[inline(always)]
    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        // A client that is forgotten chooses anew.
        let _result = AFFINITY.insert(key, affinity, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: the value is copied at once.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn set_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        // Later pieces of a packet that is forgotten are dropped by name.
        let _result = FRAGMENTS.insert(key, fragment, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn errors_until(&self, client: Addr) -> Option<u64> {
        // SAFETY: the value is copied at once.
        unsafe { ERRORS.get(client) }.copied()
    }

    #[inline(always)]
    fn set_errors_until(&self, client: Addr, until: u64) {
        // A client that is forgotten may have a few more.
        let _result = ERRORS.insert(client, until, u64::from(BPF_ANY));
    }

    #[inline(always)]
    fn inside(&self, address: Addr) -> Inside {
        let place = Whole {
            _before: 0,
            key: Key::new(InsideKey::WHOLE.into(), address),
        };
        match INSIDE.get(&place.key) {
            Some(whose) => *whose,
            None => Inside::NONE,
        }
    }

    #[inline(always)]
    fn announced(&self, address: Addr, device: u32) -> Option<Mac> {
        // SAFETY: the value is copied at once; the agent replaces it as a whole.
        unsafe { ANNOUNCED.get(AnnouncedKey::new(address, device)) }.map(|it| it.mac)
    }

    #[inline(always)]
    fn changes(&self) -> u32 {
        leave::changes()
    }

    #[inline(always)]
    fn way(&self, place: u32) -> Option<Way> {
        WAYS.get(place).copied()
    }

    #[inline(always)]
    fn set_way(&self, place: u32, way: &Way) {
        if let Some(known) = WAYS.get_ptr_mut(place) {
            // SAFETY: this CPU's own, and a program is not preempted by another on its CPU.
            unsafe { *known = *way };
        }
    }

    #[inline(always)]
    fn beyond(&self, device: u32) -> Beyond {
        // SAFETY: the value is copied at once.
        unsafe { DEVICES.get(device) }.map_or(Beyond::UNKNOWN, |beyond| Beyond(*beyond))
    }

    #[inline(always)]
    fn count_exit(&self, exit: Exit, bytes: usize) {
        if let Some(traffic) = EXITS.get_ptr_mut(exit.index()) {
            // SAFETY: as in `count`.
            add(unsafe { &mut *traffic }, bytes);
        }
    }

    #[inline(always)]
    fn flow(&self, table: Table, key: &FlowKey) -> Option<KernelFlow> {
        flows(table).get_ptr_mut(key).map(KernelFlow)
    }

    #[inline(always)]
    fn add_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let result = flows(table).insert(key, flow, u64::from(BPF_NOEXIST));
        result.map_err(|error| match error {
            EEXIST => FlowError::Exists,
            _ => FlowError::Full,
        })
    }

    #[inline(always)]
    fn put_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let result = flows(table).insert(key, flow, u64::from(BPF_ANY));
        result.map_err(|_code| FlowError::Full)
    }

    #[inline(always)]
    fn remove_flow(&self, table: Table, key: &FlowKey) {
        // Not being there is as good.
        let _result = flows(table).remove(key);
    }

    #[inline(always)]
    fn count_flow(&self, service: ServiceId, backend: BackendId) {
        // A call of a process may be interrupted by a packet: both count here.
        Self::counters(service, backend, |counters| bump(&mut counters.flows));
    }

    #[inline(always)]
    fn count_request(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        Self::counters(service, backend, |counters| {
            add(&mut counters.requests, bytes);
        });
    }

    #[inline(always)]
    fn count_reply(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        Self::counters(service, backend, |counters| {
            add(&mut counters.replies, bytes);
        });
    }
}
