//! The kernel's body of `packet::Env`: maps, clock, counters.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_coarse_ns,
};
use clusterip_common::{
    abi::{
        Backend, BackendId, Counters, Flow, FlowKey, FlowState, Outcome, Service, ServiceId,
        ServiceKey, Settings, SlotIndex, Traffic,
    },
    packet::{Env, FlowEntry, FlowError},
};

use crate::maps::{
    BACKEND_COUNTS, BACKENDS, CURSORS, FLOWS, OUTCOMES, SERVICE_COUNTS, SERVICES, SETTINGS, SLOTS,
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

impl KernelEnv {
    /// Counts what became of a packet.
    #[inline(always)]
    pub(crate) fn count(outcome: Outcome, bytes: usize) {
        if let Some(traffic) = OUTCOMES.get_ptr_mut(outcome.index()) {
            // SAFETY: this CPU's own counter, and a program is not preempted by another on its CPU.
            add(unsafe { &mut *traffic }, bytes);
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

impl Env for KernelEnv {
    type Entry<'a> = KernelFlow;

    #[inline(always)]
    fn settings(&self) -> &Settings {
        // The loader patches them: the compiler must not know what they were when it ran.
        core::hint::black_box(&SETTINGS)
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: the helper takes nothing and gives a number.
        unsafe { bpf_ktime_get_coarse_ns() }
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
    fn flow(&self, key: &FlowKey) -> Option<KernelFlow> {
        FLOWS.get_ptr_mut(key).map(KernelFlow)
    }

    #[inline(always)]
    fn add_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        FLOWS
            .insert(key, flow, u64::from(BPF_NOEXIST))
            .map_err(|error| match error {
                EEXIST => FlowError::Exists,
                _ => FlowError::Full,
            })
    }

    #[inline(always)]
    fn put_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        FLOWS
            .insert(key, flow, u64::from(BPF_ANY))
            .map_err(|_code| FlowError::Full)
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        // Not being there is as good.
        let _result = FLOWS.remove(key);
    }

    #[inline(always)]
    fn count_flow(&self, service: ServiceId, backend: BackendId) {
        Self::counters(service, backend, |counters| counters.flows += 1);
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
