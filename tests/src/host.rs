//! The host's body of `packet::Env`: the tables in memory.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use clusterip_agent::plan::Tables;
use clusterip_common::{
    abi::{
        Backend, BackendId, BackendState, Counters, Flow, FlowKey, FlowState, Outcome, Service,
        ServiceId, ServiceKey, Settings, SlotIndex, Traffic,
    },
    packet::{Env, FlowEntry, FlowError},
};

/// Maps in memory, with a clock that is set by hand.
#[derive(Debug)]
pub struct HostEnv {
    /// Settings.
    pub settings: Settings,
    /// Services, slots, backends.
    pub tables: RefCell<Tables>,
    /// Flows.
    pub flows: RefCell<BTreeMap<FlowKey, Flow>>,
    /// Room in the flow table.
    pub capacity: usize,
    /// An entry that another CPU makes just before this one does (C7).
    pub race: RefCell<Option<(FlowKey, Flow)>>,
    /// Nanoseconds.
    pub clock: Cell<u64>,
    /// Round-robin counters.
    pub cursors: RefCell<BTreeMap<ServiceId, u64>>,
    /// Counters by service.
    pub services: RefCell<BTreeMap<ServiceId, Counters>>,
    /// Counters by backend.
    pub backends: RefCell<BTreeMap<BackendId, Counters>>,
    /// Counters by outcome.
    pub outcomes: RefCell<BTreeMap<Outcome, Traffic>>,
}

impl HostEnv {
    /// An environment with these tables.
    #[must_use]
    pub fn new(tables: Tables, settings: Settings) -> Self {
        Self {
            settings,
            tables: RefCell::new(tables),
            flows: RefCell::default(),
            capacity: 1_000_000,
            race: RefCell::default(),
            clock: Cell::new(1_000_000_000),
            cursors: RefCell::default(),
            services: RefCell::default(),
            backends: RefCell::default(),
            outcomes: RefCell::default(),
        }
    }

    /// Counts what became of a packet, as the hook does.
    pub fn count(&self, outcome: Outcome, bytes: usize) {
        add(
            self.outcomes.borrow_mut().entry(outcome).or_default(),
            bytes,
        );
    }

    fn counters(&self, service: ServiceId, backend: BackendId, count: impl Fn(&mut Counters)) {
        count(self.services.borrow_mut().entry(service).or_default());
        count(self.backends.borrow_mut().entry(backend).or_default());
    }
}

const fn add(traffic: &mut Traffic, bytes: usize) {
    traffic.packets += 1;
    traffic.bytes += bytes as u64;
}

/// An entry of the flow table.
#[derive(Debug)]
pub struct HostFlow<'a> {
    env: &'a HostEnv,
    key: FlowKey,
    flow: Flow,
}

impl FlowEntry for HostFlow<'_> {
    fn get(&self) -> Flow {
        self.flow
    }

    fn seen(&self, now: u64, state: FlowState) {
        if let Some(flow) = self.env.flows.borrow_mut().get_mut(&self.key) {
            flow.state = state;
            flow.last_seen = now;
        }
    }
}

impl Env for HostEnv {
    type Entry<'a> = HostFlow<'a>;

    fn settings(&self) -> &Settings {
        &self.settings
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        self.tables.borrow().services.get(key).copied()
    }

    fn slot(&self, slot: SlotIndex) -> Option<BackendId> {
        self.tables.borrow().slots.get(&slot).copied()
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        let free = Backend {
            state: BackendState::FREE,
            ..Backend::default()
        };
        Some(
            self.tables
                .borrow()
                .backends
                .get(&id)
                .copied()
                .unwrap_or(free),
        )
    }

    fn turn(&self, service: ServiceId) -> Option<u64> {
        let mut cursors = self.cursors.borrow_mut();
        let cursor = cursors.entry(service).or_default();
        *cursor += 1;
        Some(*cursor - 1)
    }

    fn flow(&self, key: &FlowKey) -> Option<HostFlow<'_>> {
        let flow = *self.flows.borrow().get(key)?;
        Some(HostFlow {
            env: self,
            key: *key,
            flow,
        })
    }

    fn add_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        self.flows.borrow_mut().extend(self.race.take());
        if self.flows.borrow().contains_key(key) {
            return Err(FlowError::Exists);
        }
        self.put_flow(key, flow)
    }

    fn put_flow(&self, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let mut flows = self.flows.borrow_mut();
        if flows.len() >= self.capacity && !flows.contains_key(key) {
            return Err(FlowError::Full);
        }
        flows.insert(*key, *flow);
        Ok(())
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn count_flow(&self, service: ServiceId, backend: BackendId) {
        self.counters(service, backend, |counters| counters.flows += 1);
    }

    fn count_request(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        self.counters(service, backend, |counters| {
            add(&mut counters.requests, bytes);
        });
    }

    fn count_reply(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        self.counters(service, backend, |counters| {
            add(&mut counters.replies, bytes);
        });
    }
}
