//! What a packet function asks of the world: tables, a clock, counters.

use crate::abi::{
    Backend, BackendId, Flow, FlowKey, FlowState, Service, ServiceId, ServiceKey, Settings,
    SlotIndex,
};

/// An entry of the flow table, in place.
pub trait FlowEntry {
    /// A copy of it.
    fn get(&self) -> Flow;

    /// Notes a packet. A write to a shared line only where it says something new.
    fn seen(&self, now: u64, state: FlowState);
}

/// Why a flow entry was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowError {
    /// Somebody else made it first.
    Exists,
    /// No room.
    Full,
}

/// The world as a packet function sees it: BPF maps in the kernel, plain memory on the host.
pub trait Env {
    /// A flow entry in place.
    type Entry<'a>: FlowEntry
    where
        Self: 'a;

    /// Settings patched in at load.
    fn settings(&self) -> &Settings;

    /// Nanoseconds of the monotonic clock; a coarse one will do.
    fn now(&self) -> u64;

    /// The head of a service.
    fn service(&self, key: &ServiceKey) -> Option<Service>;

    /// What a slot holds.
    fn slot(&self, slot: SlotIndex) -> Option<BackendId>;

    /// A backend; one that is free is still there, see its state.
    fn backend(&self, id: BackendId) -> Option<Backend>;

    /// Takes the next number of a service's counter, shared by all CPUs (B1). None for an id out of range.
    fn turn(&self, service: ServiceId) -> Option<u64>;

    /// The entry of a 5-tuple.
    fn flow(&self, key: &FlowKey) -> Option<Self::Entry<'_>>;

    /// Makes an entry where there is none (C7).
    ///
    /// # Errors
    /// There is one, or there is no room.
    fn add_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError>;

    /// Makes or overwrites an entry.
    ///
    /// # Errors
    /// There is no room.
    fn put_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError>;

    /// Removes an entry; it need not be there.
    fn remove_flow(&self, key: &FlowKey);

    /// Counts a new flow.
    fn count_flow(&self, service: ServiceId, backend: BackendId);

    /// Counts a translated request of `bytes` bytes.
    fn count_request(&self, service: ServiceId, backend: BackendId, bytes: usize);

    /// Counts a translated reply of `bytes` bytes.
    fn count_reply(&self, service: ServiceId, backend: BackendId, bytes: usize);
}
