//! What a packet function asks of the world: tables, a clock, chance, counters.

use super::{
    exit::{Beyond, Exit, Route, Way},
    frame::Frame,
    leave::Ask,
    neighbour::Mac,
    verdict::Verdict,
    way::Work,
};
use crate::{
    abi::{
        Affinity, AffinityKey, Backend, BackendId, EventHook, Flow, FlowKey, FlowState, Fragment,
        FragmentKey, Inside, Service, ServiceId, ServiceKey, Settings, SlotIndex,
    },
    wire::{Addr, Be16},
};

/// The two tables of flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Flows that both sides have spoken in.
    Talking,
    /// Flows that only the client has spoken in: a flood of them cannot drive out the others (C13).
    HalfOpen,
}

/// An entry of a flow table, in place.
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

    /// Any number.
    fn random(&self) -> u32;

    /// The head of a service.
    fn service(&self, key: &ServiceKey) -> Option<Service>;

    /// What a slot holds.
    fn slot(&self, slot: SlotIndex) -> Option<BackendId>;

    /// A backend; one that is free is still there, see its state.
    fn backend(&self, id: BackendId) -> Option<Backend>;

    /// Whether a backend may have this address and port; false is certain.
    fn is_endpoint(&self, address: Addr, port: Be16) -> bool;

    /// Whether a service may be called by this address and port towards the outside, or of port 0 by this address; false is
    /// certain.
    fn is_frontend(&self, address: Addr, port: Be16) -> bool;

    /// The node's address for clients from outside, of one family (E2); unspecified while no service is for them.
    fn node_address(&self, is_v6: bool) -> Addr;

    /// Whether a client is in the source ranges of a guarded service (E4).
    fn admits(&self, service: ServiceId, client: Addr) -> bool;

    /// Takes the next number of a service's counter, shared by all CPUs (B1). None for an id out of range.
    fn turn(&self, service: ServiceId) -> Option<u64>;

    /// Live flows of a backend, roughly.
    fn live_flows(&self, backend: BackendId) -> u64;

    /// One live flow of a backend more, or less: then this packet ended it, or takes its place.
    fn add_live_flow(&self, backend: BackendId, more: bool);

    /// What a client had last.
    fn affinity(&self, key: &AffinityKey) -> Option<Affinity>;

    /// Remembers what a client has; forgets another one if there is no room.
    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity);

    /// The ports of a packet in pieces.
    fn fragment(&self, key: &FragmentKey) -> Option<Fragment>;

    /// Remembers them; forgets others if there is no room.
    fn set_fragment(&self, key: &FragmentKey, fragment: &Fragment);

    /// When the ICMP errors that a client was sent are paid for, in nanoseconds of the clock.
    fn errors_until(&self, client: Addr) -> Option<u64>;

    /// Remembers it; forgets another client if there is no room.
    fn set_errors_until(&self, client: Addr, until: u64);

    /// Whose an address inside the cluster is; [`Inside::NONE`] of one outside (E1). No option: the compiler compares what of one was never set,
    /// which the verifier refuses.
    fn inside(&self, address: Addr) -> Inside;

    /// The link address that is told at a device to whoever asks for an address; none if it is not announced there.
    fn announced(&self, address: Addr, device: u32) -> Option<Mac>;

    /// The entry of a 5-tuple.
    fn flow(&self, table: Table, key: &FlowKey) -> Option<Self::Entry<'_>>;

    /// Makes an entry where there is none (C7).
    ///
    /// # Errors
    /// There is one, or there is no room.
    fn add_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError>;

    /// Makes or overwrites an entry.
    ///
    /// # Errors
    /// There is no room.
    fn put_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError>;

    /// Removes an entry; it need not be there.
    fn remove_flow(&self, table: Table, key: &FlowKey);

    /// Counts a new flow.
    fn count_flow(&self, service: ServiceId, backend: BackendId);

    /// Counts a translated request of `bytes` bytes.
    fn count_request(&self, service: ServiceId, backend: BackendId, bytes: usize);

    /// Counts a translated reply of `bytes` bytes.
    fn count_reply(&self, service: ServiceId, backend: BackendId, bytes: usize);

    /// How often ways have changed, by the agent's count.
    fn changes(&self) -> u32 {
        0
    }

    /// What is remembered of a way at a place below [`WAYS`](super::WAYS).
    fn way(&self, _place: u32) -> Option<Way> {
        None
    }

    /// Remembers it.
    fn set_way(&self, _place: u32, _way: &Way) {}

    /// What a device leads to.
    fn beyond(&self, _device: u32) -> Beyond {
        Beyond::UNKNOWN
    }

    /// The way to an address. In the kernel the hook asks, which has what the kernel wants for it.
    fn route(&self, _ask: &Ask) -> Route {
        Route::NONE
    }

    /// Counts which way a translated packet of `bytes` bytes went on, where there is a choice.
    fn count_exit(&self, _exit: Exit, _bytes: usize) {}

    /// A frame is about to become an answer: the last chance to see it. Only who listens cares.
    fn keep<F: Frame>(&self, _frame: &F) {}

    /// A frame has its verdict: see [`event`](super::event). Only who listens cares.
    fn tell<F: Frame>(
        &self,
        _frame: &F,
        _work: &Work,
        _seen: (EventHook, bool),
        _verdict: Verdict,
    ) {
    }
}
