//! Memory that tells what it is asked: the decisions of the packet functions, one line each.

use std::{cell::RefCell, net::SocketAddr};

use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Algorithm, Backend, BackendId, BackendState, Flow, FlowKey,
        Fragment, FragmentKey, Inside, Service, ServiceFlags, ServiceId, ServiceKey, Settings,
        SlotIndex, SocketFlow, SocketKey,
    },
    packet::{Env, FlowError, Mac, Table, socket::SocketTable},
    wire::{Addr, Be16},
};

use super::memory::{HostEnv, HostFlow};
use crate::plan::Index;

/// Memory, and what it was asked.
#[derive(Debug)]
pub(super) struct Witness<'a> {
    pub(super) memory: HostEnv,
    index: &'a Index,
    steps: RefCell<Vec<String>>,
    /// The balancer that was found.
    found: RefCell<Option<Service>>,
}

impl<'a> Witness<'a> {
    pub(super) const fn new(memory: HostEnv, index: &'a Index) -> Self {
        Self {
            memory,
            index,
            steps: RefCell::new(Vec::new()),
            found: RefCell::new(None),
        }
    }

    /// Adds a line, unless it was just said.
    pub(super) fn say(&self, line: String) {
        let mut steps = self.steps.borrow_mut();
        if steps.last() != Some(&line) {
            steps.push(line);
        }
    }

    /// What was said.
    pub(super) fn steps(&self) -> Vec<String> {
        self.steps.borrow().clone()
    }

    /// The balancer that was found last.
    pub(super) fn balancer(&self) -> Option<Service> {
        *self.found.borrow()
    }

    /// `namespace/name` of a balancer's service, with the name of its port.
    pub(super) fn name(&self, id: ServiceId) -> Option<(String, String)> {
        self.index.services.iter().find_map(|(name, places)| {
            let place = places.iter().find(|place| place.id == id)?;
            Some((name.to_string(), place.port_name.to_string()))
        })
    }

    fn titled(&self, id: ServiceId) -> String {
        match self.name(id) {
            Some((name, port)) if port.is_empty() => name,
            Some((name, port)) => format!("{name}, port {port}"),
            None => format!("service id {}", id.0),
        }
    }

    fn head(&self, key: &ServiceKey, head: &Service) {
        let Service {
            id,
            first_slot: _,
            slot_count,
            algorithm,
            flags,
            affinity,
        } = *head;
        let algorithm = match algorithm {
            Algorithm::RANDOM => "random",
            Algorithm::MAGLEV => "maglev",
            Algorithm::LEAST_CONNECTIONS => "least-connections",
            _ => "round-robin",
        };
        let sticky = match affinity {
            0 => String::new(),
            seconds => format!(", clients keep their backend for {seconds} s (B3)"),
        };
        let end = match (slot_count, flags.has(ServiceFlags::LOCAL)) {
            (0, true) => "no endpoint on this node, some elsewhere (B8)".to_owned(),
            (0, false) => "no endpoint anywhere (B7)".to_owned(),
            (slots, _) => format!("{slots} slots, {algorithm}{sticky}"),
        };
        self.say(format!("{key} is {}: {end}", self.titled(id)));
    }
}

fn socket(address: Addr, port: Be16) -> SocketAddr {
    SocketAddr::new(address.into(), port.get())
}

const fn table_name(table: Table) -> &'static str {
    match table {
        Table::Talking => "flows that both sides have spoken in",
        Table::HalfOpen => "flows that are not answered yet",
    }
}

impl Env for Witness<'_> {
    type Entry<'a>
        = HostFlow<'a>
    where
        Self: 'a;

    fn settings(&self) -> &Settings {
        self.memory.settings()
    }

    fn now(&self) -> u64 {
        self.memory.now()
    }

    fn random(&self) -> u32 {
        let number = self.memory.random();
        self.say("chance decides".to_owned());
        number
    }

    fn service(&self, key: &ServiceKey) -> Option<Service> {
        let found = self.memory.service(key);
        match &found {
            Some(_) if key.is_address() => {
                self.say(format!("{} is the address of a service (B9)", key.address));
            }
            None if key.is_address() => {
                self.say(format!("{} is no address of a service (B9)", key.address));
            }
            Some(head) => {
                self.head(key, head);
                *self.found.borrow_mut() = Some(*head);
            }
            None => self.say(format!("{key}: no service has this port")),
        }
        found
    }

    fn slot(&self, slot: SlotIndex) -> Option<BackendId> {
        let found = self.memory.slot(slot);
        let id = found.map_or_else(|| "nothing".to_owned(), |id| format!("backend id {}", id.0));
        self.say(format!("slot {} holds {id}", slot.0));
        found
    }

    fn backend(&self, id: BackendId) -> Option<Backend> {
        let found = self.memory.backend(id);
        match &found {
            Some(backend) if backend.state != BackendState::FREE => self.say(format!(
                "backend id {} is {}, {}, generation {} (C10)",
                id.0,
                socket(backend.address, backend.port),
                backend.state,
                backend.generation
            )),
            _ => self.say(format!("backend id {} is free (C10)", id.0)),
        }
        found
    }

    fn is_endpoint(&self, address: Addr, port: Be16) -> bool {
        let is_one = self.memory.is_endpoint(address, port);
        let word = if is_one { "may be" } else { "is no" };
        self.say(format!("{} {word} backend", socket(address, port)));
        is_one
    }

    fn is_frontend(&self, address: Addr, port: Be16) -> bool {
        let is_one = self.memory.is_frontend(address, port);
        if is_one {
            let socket = socket(address, port);
            self.say(format!("{socket} may be a service's towards the outside"));
        }
        is_one
    }

    fn node_address(&self, is_v6: bool) -> Addr {
        self.memory.node_address(is_v6)
    }

    fn admits(&self, service: ServiceId, client: Addr) -> bool {
        let admits = self.memory.admits(service, client);
        let word = if admits { "in" } else { "outside" };
        let service = self.titled(service);
        self.say(format!(
            "{client} is {word} the source ranges of {service} (E4)"
        ));
        admits
    }

    fn turn(&self, service: ServiceId) -> Option<u64> {
        let turn = self.memory.turn(service);
        if let Some(turn) = turn {
            self.say(format!("turn {turn} of {} (B1)", self.titled(service)));
        }
        turn
    }

    fn live_flows(&self, backend: BackendId) -> u64 {
        let flows = self.memory.live_flows(backend);
        self.say(format!(
            "backend id {} has {flows} live flows (B2)",
            backend.0
        ));
        flows
    }

    fn add_live_flow(&self, backend: BackendId, more: bool) {
        self.memory.add_live_flow(backend, more);
    }

    fn affinity(&self, key: &AffinityKey) -> Option<Affinity> {
        let found = self.memory.affinity(key);
        self.say(match found {
            Some(it) => format!("{} had backend id {} last (B3)", key.client, it.backend.0),
            None => format!("{} is not remembered (B3)", key.client),
        });
        found
    }

    fn set_affinity(&self, key: &AffinityKey, affinity: &Affinity) {
        self.memory.set_affinity(key, affinity);
        let id = affinity.backend.0;
        self.say(format!("{} keeps backend id {id} (B3)", key.client));
    }

    fn fragment(&self, key: &FragmentKey) -> Option<Fragment> {
        self.memory.fragment(key)
    }

    fn set_fragment(&self, key: &FragmentKey, fragment: &Fragment) {
        self.memory.set_fragment(key, fragment);
    }

    fn errors_until(&self, client: Addr) -> Option<u64> {
        self.memory.errors_until(client)
    }

    fn set_errors_until(&self, client: Addr, until: u64) {
        self.memory.set_errors_until(client, until);
        self.say(format!("{client} is told by ICMP (D8)"));
    }

    fn inside(&self, address: Addr) -> Inside {
        let found = self.memory.inside(address);
        let is_none = found == Inside::NONE;
        let word = if is_none { "outside" } else { "inside" };
        self.say(format!("{address} is {word} the cluster (E1)"));
        found
    }

    fn announced(&self, address: Addr, device: u32) -> Option<Mac> {
        self.memory.announced(address, device)
    }

    fn flow(&self, table: Table, key: &FlowKey) -> Option<HostFlow<'_>> {
        let found = self.memory.flow(table, key);
        match (&found, table) {
            (Some(_), _) => self.say(format!("{key} is among the {}", table_name(table))),
            // The second of the two that are looked into.
            (None, Table::HalfOpen) => self.say(format!("{key} belongs to no flow")),
            (None, Table::Talking) => {}
        }
        found
    }

    fn add_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let done = self.memory.add_flow(table, key, flow);
        self.made(table, key, flow, done.is_ok());
        done
    }

    fn put_flow(&self, table: Table, key: &FlowKey, flow: &Flow) -> Result<(), FlowError> {
        let done = self.memory.put_flow(table, key, flow);
        self.made(table, key, flow, done.is_ok());
        done
    }

    fn remove_flow(&self, table: Table, key: &FlowKey) {
        self.memory.remove_flow(table, key);
    }

    fn count_flow(&self, service: ServiceId, backend: BackendId) {
        self.memory.count_flow(service, backend);
    }

    fn count_request(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        self.memory.count_request(service, backend, bytes);
    }

    fn count_reply(&self, service: ServiceId, backend: BackendId, bytes: usize) {
        self.memory.count_reply(service, backend, bytes);
    }
}

impl Witness<'_> {
    fn made(&self, table: Table, key: &FlowKey, flow: &Flow, is_done: bool) {
        let side = if flow.direction.is_request() {
            "destination"
        } else {
            "source"
        };
        let end = if is_done { "" } else { ": refused (C6)" };
        let becomes = socket(flow.address, flow.port);
        let table = table_name(table);
        self.say(format!(
            "noted among the {table}: the {side} of {key} becomes {becomes}{end}"
        ));
    }
}

impl SocketTable for Witness<'_> {
    fn socket_flow(&self, key: &SocketKey) -> Option<SocketFlow> {
        self.memory.socket_flow(key)
    }

    fn put_socket_flow(&self, key: &SocketKey, flow: &SocketFlow) -> Result<(), FlowError> {
        self.say(
            "noted with the socket, so that the process sees the service's address (C11)"
                .to_owned(),
        );
        self.memory.put_socket_flow(key, flow)
    }

    fn remove_socket_flow(&self, key: &SocketKey) {
        self.memory.remove_socket_flow(key);
    }
}
