//! The host's body of `packet::Env`: the tables in memory. `trace` and the tests run packets over it.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
};

use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Backend, BackendId, BackendState, Counters, Event, EventHook,
        EventKind, Flow, FlowKey, FlowState, Fragment, FragmentKey, Inside, NodePlace, Outcome,
        Scope, Service, ServiceId, ServiceKey, Settings, SlotIndex, SocketFlow, SocketKey, Traffic,
        Watch,
        event::{CAPTURE, Record},
    },
    packet::{
        Ask, Beyond, Env, Exit, FlowEntry, FlowError, Frame, Mac, Route, Table, Verdict, Way, Work,
        event::{self, wants_frame},
        socket::SocketTable,
    },
    wire::{Addr, Be16},
};

use crate::plan::Tables;

/// The first client port that chance gives a flow whose own is taken (C12).
#[must_use]
pub fn first_chosen_port() -> u16 {
    let env = HostEnv::new(Tables::default(), Settings::DEFAULT);
    u16::try_from(32_768 + env.random() % 28_232).unwrap_or_default()
}

/// The first port of the node that chance gives a client whose own is taken (E8).
#[must_use]
pub fn first_chosen_masquerade_port() -> u16 {
    let env = HostEnv::new(Tables::default(), Settings::DEFAULT);
    let Settings {
        masquerade_first,
        masquerade_count,
        ..
    } = env.settings;
    u16::try_from(masquerade_first + env.random() % masquerade_count).unwrap_or_default()
}

/// Maps in memory, with a clock that is set by hand.
#[derive(Debug)]
pub struct HostEnv {
    /// Settings.
    pub settings: Settings,
    /// Services, slots, backends.
    pub tables: RefCell<Tables>,
    /// Link addresses that are told at a device to whoever asks for an address.
    pub announced: RefCell<BTreeMap<(Addr, u32), Mac>>,
    /// Flows that both sides have spoken in.
    pub flows: RefCell<BTreeMap<FlowKey, Flow>>,
    /// Flows that only the client has spoken in.
    pub half_open: RefCell<BTreeMap<FlowKey, Flow>>,
    /// Live flows by backend.
    pub live: RefCell<BTreeMap<BackendId, u64>>,
    /// Clients and their backends.
    pub affinity: RefCell<Vec<(AffinityKey, Affinity)>>,
    /// Packets in pieces.
    pub fragments: RefCell<Vec<(FragmentKey, Fragment)>>,
    /// Clients that were sent ICMP errors.
    pub errors: RefCell<BTreeMap<Addr, u64>>,
    /// Where the next random number comes from.
    pub chance: Cell<u32>,
    /// Flows of sockets.
    pub sockets: RefCell<BTreeMap<SocketKey, SocketFlow>>,
    /// Room in each flow table, and in that of sockets.
    pub capacity: usize,
    /// The tuple that a packet asked for first, since it was last taken.
    pub asked: Cell<Option<FlowKey>>,
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
    /// What is remembered of ways.
    pub ways: RefCell<BTreeMap<u32, Way>>,
    /// How often they have changed.
    pub changes: Cell<u32>,
    /// The routes, by address: what the kernel would say, and what is beyond the device.
    pub routes: RefCell<BTreeMap<std::net::IpAddr, (Route, Beyond)>>,
    /// How often a route was asked for.
    pub route_questions: Cell<u32>,
    /// The ways that packets went on, in order.
    pub exits: RefCell<Vec<Exit>>,
    /// Which events are wanted.
    pub watch: Cell<Watch>,
    /// The events so far.
    pub events: RefCell<Vec<Record>>,
    /// Whether a flow has ended since the last verdict.
    pub ended: Cell<bool>,
    /// A frame as it was before it became an answer: how many bytes it had, and how many of them are here.
    pub kept: Cell<(u32, u32, [u8; CAPTURE])>,
}

impl HostEnv {
    /// An environment with these tables.
    #[must_use]
    pub fn new(tables: Tables, settings: Settings) -> Self {
        Self {
            settings,
            tables: RefCell::new(tables),
            announced: RefCell::default(),
            flows: RefCell::default(),
            half_open: RefCell::default(),
            live: RefCell::default(),
            affinity: RefCell::default(),
            fragments: RefCell::default(),
            errors: RefCell::default(),
            chance: Cell::new(1),
            sockets: RefCell::default(),
            capacity: 1_000_000,
            asked: Cell::default(),
            race: RefCell::default(),
            clock: Cell::new(1_000_000_000),
            cursors: RefCell::default(),
            services: RefCell::default(),
            backends: RefCell::default(),
            outcomes: RefCell::default(),
            ways: RefCell::default(),
            changes: Cell::default(),
            routes: RefCell::default(),
            route_questions: Cell::default(),
            exits: RefCell::default(),
            watch: Cell::new(Watch::NOBODY),
            events: RefCell::default(),
            ended: Cell::default(),
            kept: Cell::new((0, 0, [0; CAPTURE])),
        }
    }

    /// Counts what became of a packet, as the hook does.
    pub fn count(&self, outcome: Outcome, bytes: usize) {
        add(
            self.outcomes.borrow_mut().entry(outcome).or_default(),
            bytes,
        );
    }

    const fn table(&self, table: Table) -> &RefCell<BTreeMap<FlowKey, Flow>> {
        match table {
            Table::Talking => &self.flows,
            Table::HalfOpen => &self.half_open,
        }
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
    flows: &'a RefCell<BTreeMap<FlowKey, Flow>>,
    key: FlowKey,
    flow: Flow,
}

impl FlowEntry for HostFlow<'_> {
    fn get(&self) -> Flow {
        self.flow
    }

    fn seen(&self, now: u64, state: FlowState) {
        if let Some(flow) = self.flows.borrow_mut().get_mut(&self.key) {
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

    fn random(&self) -> u32 {
        self.chance.set(
            self.chance
                .get()
                .wrapping_mul(1_664_525)
                .wrapping_add(1_013_904_223),
        );
        self.chance.get() >> 8
    }

    fn is_endpoint(&self, address: Addr, port: Be16) -> bool {
        let tables = self.tables.borrow();
        tables.backends.values().any(|backend| {
            backend.state != BackendState::FREE
                && (backend.address, backend.port) == (address, port)
        })
    }

    fn is_frontend(&self, address: Addr, port: Be16) -> bool {
        let tables = self.tables.borrow();
        tables.services.keys().any(|key| {
            let is_called = matches!(key.scope, Scope::INSIDE | Scope::OUTSIDE);
            is_called && key.address == address && (key.port == port || port == Be16::new(0))
        })
    }

    fn node_address(&self, is_v6: bool) -> Addr {
        let place = if is_v6 { NodePlace::V6 } else { NodePlace::V4 };
        let tables = self.tables.borrow();
        tables.node.get(&place).copied().unwrap_or_default()
    }

    fn admits(&self, service: ServiceId, client: Addr) -> bool {
        let tables = self.tables.borrow();
        let mut ranges = tables.sources.keys();
        ranges.any(|range| range.admits(service, client))
    }

    fn live_flows(&self, backend: BackendId) -> u64 {
        self.live
            .borrow()
            .get(&backend)
            .copied()
            .unwrap_or_default()
    }

    fn add_live_flow(&self, backend: BackendId, more: bool) {
        self.ended.set(!more);
        let mut live = self.live.borrow_mut();
        let flows = live.entry(backend).or_default();
        *flows = if more {
            flows.wrapping_add(1)
        } else {
            flows.wrapping_sub(1)
        };
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        let remembered = self.affinity.borrow();
        remembered
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, affinity)| *affinity)
    }

    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        let mut remembered = self.affinity.borrow_mut();
        remembered.retain(|(known, _)| known != key);
        remembered.push((*key, *affinity));
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        let pieces = self.fragments.borrow();
        pieces
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, first)| *first)
    }

    fn set_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        let mut pieces = self.fragments.borrow_mut();
        pieces.retain(|(known, _)| known != key);
        pieces.push((*key, *fragment));
    }

    fn errors_until(&self, client: Addr) -> Option<u64> {
        self.errors.borrow().get(&client).copied()
    }

    fn set_errors_until(&self, client: Addr, until: u64) {
        self.errors.borrow_mut().insert(client, until);
    }

    fn inside(&self, address: Addr) -> Inside {
        let tables = self.tables.borrow();
        let holding = tables
            .inside
            .iter()
            .filter(|(range, _)| range.contains(address));
        holding
            .max_by_key(|(range, _)| range.prefix)
            .map_or(Inside::NONE, |(_, whose)| *whose)
    }

    fn announced(&self, address: Addr, device: u32) -> Option<Mac> {
        self.announced.borrow().get(&(address, device)).copied()
    }

    fn flow(&self, table: Table, key: &FlowKey) -> Option<HostFlow<'_>> {
        self.asked.set(self.asked.get().or(Some(*key)));
        let flow = *self.table(table).borrow().get(key)?;
        Some(HostFlow {
            flows: self.table(table),
            key: *key,
            flow,
        })
    }

    fn add_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        self.table(table).borrow_mut().extend(self.race.take());
        if self.table(table).borrow().contains_key(key) {
            return Err(FlowError::Exists);
        }
        self.put_flow(table, key, flow)
    }

    fn put_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let mut flows = self.table(table).borrow_mut();
        if flows.len() >= self.capacity && !flows.contains_key(key) {
            return Err(FlowError::Full);
        }
        flows.insert(*key, *flow);
        Ok(())
    }

    fn remove_flow(&self, table: Table, key: &FlowKey) {
        self.table(table).borrow_mut().remove(key);
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

    fn changes(&self) -> u32 {
        self.changes.get()
    }

    fn way(&self, place: u32) -> Option<Way> {
        Some(self.ways.borrow().get(&place).copied().unwrap_or(Way::NONE))
    }

    fn set_way(&self, place: u32, way: &Way) {
        self.ways.borrow_mut().insert(place, *way);
    }

    fn beyond(&self, device: u32) -> Beyond {
        let routes = self.routes.borrow();
        let mut found = routes.values().filter(|(route, _)| route.device == device);
        found.next().map_or(Beyond::UNKNOWN, |(_, beyond)| *beyond)
    }

    fn route(&self, ask: &Ask) -> Route {
        self.route_questions.set(self.route_questions.get() + 1);
        let found = self.routes.borrow().get(&ask.target.into()).copied();
        found.map_or(Route::NONE, |(route, _)| route)
    }

    fn count_exit(&self, exit: Exit, _bytes: usize) {
        self.exits.borrow_mut().push(exit);
    }

    fn keep<F: Frame>(&self, frame: &F) {
        let mut bytes = [0; CAPTURE];
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.kept
            .set((length, event::copy(frame, &mut bytes), bytes));
    }

    fn tell<F: Frame>(
        &self,
        frame: &F,
        work: &Work,
        (hook, is_v6): (EventHook, bool),
        verdict: Verdict,
    ) {
        let (watch, outcome) = (self.watch.get(), verdict.outcome());
        let (ended, (length, kept, mut bytes)) =
            (self.ended.take(), self.kept.replace((0, 0, [0; CAPTURE])));
        let Some(kind) = event::kind(verdict, ended) else {
            return;
        };
        let mut event = Event::NONE;
        if !watch.wants(kind, outcome, self.now()) {
            return;
        }
        let seen = (kind, outcome.index(), hook, is_v6);
        if !event::describe(frame, self, work, &watch, seen, &mut event) {
            return;
        }
        event.time = self.now();
        if kind == EventKind::REJECTED {
            event.bytes = length;
        }
        if wants_frame(&watch, kind) {
            event.captured = match verdict {
                Verdict::Reply(_) => kept,
                _ => event::copy(frame, &mut bytes),
            };
        }
        let record = Record {
            event,
            frame: bytes,
        };
        self.events.borrow_mut().push(record);
    }
}

impl SocketTable for HostEnv {
    fn socket_flow(&self, key: &SocketKey) -> Option<SocketFlow> {
        self.sockets.borrow().get(key).copied()
    }

    fn put_socket_flow(&self, key: &SocketKey, flow: &SocketFlow) -> Result<(), FlowError> {
        let mut sockets = self.sockets.borrow_mut();
        if sockets.len() >= self.capacity && !sockets.contains_key(key) {
            return Err(FlowError::Full);
        }
        sockets.insert(*key, *flow);
        Ok(())
    }

    fn remove_socket_flow(&self, key: &SocketKey) {
        self.sockets.borrow_mut().remove(key);
    }
}
