//! The programs over a copy of what they would read for one packet: what they make of it is what those in the links would,
//! and nothing that is in force is touched (docs/adr/0010-live-trace.md).

use std::collections::{BTreeMap, BTreeSet};

use aya::{
    TestRun as _, TestRunOptions,
    maps::{Array, HashMap, LpmTrie, MapError, PerCpuArray},
    programs::ProgramError,
};
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Backend, BackendId, BackendState, Flow, FlowKey, Inside, InsideKey,
        Outcome, Scope, Service, ServiceId, ServiceKey, Settings, SlotIndex, Traffic,
        maps::{self, Shape},
    },
    wire::{Addr, Be16, Proto},
};

use super::{
    Dataplane as _, DataplaneError,
    batch::Whole,
    bpf::Bpf,
    flows::FlowMaps,
    load::{Data, FROM_POD, FROM_UPLINK, LoadError, LoadOptions, load},
    pinned,
    pins::Pins,
    raw::Raw,
};
use crate::plan::{Tables, diff, tables::slots_of};

/// A copy that could not be made, or not be run.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// What is in force cannot be read.
    #[error(transparent)]
    Open(#[from] LoadError),
    /// A map of it, or of the copy.
    #[error(transparent)]
    Map(#[from] DataplaneError),
    /// The program does not run.
    #[error("run {program} over a copy of what it would read")]
    Run {
        /// Which.
        program: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// It ran, and counted nothing.
    #[error("{program} ran and counted nothing")]
    Silent {
        /// Which.
        program: &'static str,
    },
}

/// What a packet is to and from, which says what will be read for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subject {
    /// Who sends it.
    pub source: (Addr, Be16),
    /// To whom.
    pub destination: (Addr, Be16),
    /// The protocol.
    pub protocol: Proto,
}

/// What the kernel holds that a packet may meet.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Its service, backends, ranges.
    pub tables: Tables,
    /// Flows of its client that both sides have spoken in.
    pub flows: Vec<(FlowKey, Flow)>,
    /// Flows that only the client has spoken in.
    pub half_open: Vec<(FlowKey, Flow)>,
    /// What the client had last.
    pub affinity: Vec<(AffinityKey, Affinity)>,
    /// When the client's ICMP errors are paid for.
    pub errors: Vec<(Addr, u64)>,
    /// Round-robin counters.
    pub cursors: BTreeMap<ServiceId, u64>,
    /// Live flows of backends.
    pub live: BTreeMap<BackendId, u64>,
}

impl Held {
    /// Reads it by the pins. Nothing is written.
    ///
    /// # Errors
    /// A pin that is not there, or a map that cannot be read.
    pub fn read(pins: &Pins, subject: &Subject) -> Result<Self, ReplicaError> {
        let mut held = Self::default();
        let services: HashMap<Data, Raw<ServiceKey>, Raw<Service>> =
            pinned::map(pins, &maps::SERVICES)?;
        let (address, port) = subject.destination;
        let key = ServiceKey::new(address, port, subject.protocol);
        let keys = [
            key,
            ServiceKey::address(address),
            key.seen(Scope::INSIDE),
            key.seen(Scope::OUTSIDE),
        ];
        for key in keys {
            if let Some(Raw(head)) = found(services.get(&Raw(key), 0), &maps::SERVICES)? {
                held.tables.services.insert(key, head);
            }
        }
        let slots: Array<Data, u32> = pinned::map(pins, &maps::SLOTS)?;
        for slot in held.tables.services.values().flat_map(slots_of) {
            if let Some(id) = found(slots.get(&slot.0, 0), &maps::SLOTS)? {
                held.tables.slots.insert(slot, BackendId(id));
            }
        }
        held.read_flows(pins, subject)?;
        held.read_backends(pins, subject)?;
        let inside: LpmTrie<Data, [u8; 16], Raw<Inside>> = pinned::map(pins, &maps::INSIDE)?;
        for entry in &inside {
            let (key, Raw(whose)) = entry.map_err(DataplaneError::reading(maps::INSIDE.name))?;
            let (prefix, address) = (key.prefix_len(), key.data());
            let range = InsideKey { prefix, address };
            held.tables.inside.insert(range, whose);
        }
        let cursors: Array<Data, u64> = pinned::map(pins, &maps::CURSORS)?;
        for head in held.balancers() {
            if let Some(count) = found(cursors.get(&head.id.0, 0), &maps::CURSORS)? {
                held.cursors.insert(head.id, count);
            }
        }
        Ok(held)
    }

    /// Flows in which the client's end is the packet's source, and what is remembered of the client.
    fn read_flows(&mut self, pins: &Pins, subject: &Subject) -> Result<(), ReplicaError> {
        let maps = FlowMaps::open(pins)?;
        let (client, port) = subject.source;
        maps.flows(|key, flow, answered| {
            let ends = [
                (key.source, key.source_port),
                (key.destination, key.destination_port),
                (key.source, flow.client_port),
                (key.destination, flow.client_port),
            ];
            if ends.contains(&(client, port)) {
                let table = if answered {
                    &mut self.flows
                } else {
                    &mut self.half_open
                };
                table.push((key, flow));
            }
        })?;
        maps.affinity(|key, entry| {
            if key.client == client {
                self.affinity.push((key, entry));
            }
        })?;
        let errors: HashMap<Data, Raw<Addr>, u64> = pinned::map(pins, &maps::ERRORS)?;
        if let Some(until) = found(errors.get(&Raw(client), 0), &maps::ERRORS)? {
            self.errors.push((client, until));
        }
        Ok(())
    }

    /// The backends of slots, flows and clients, and those that the packet itself may be to or from.
    fn read_backends(&mut self, pins: &Pins, subject: &Subject) -> Result<(), ReplicaError> {
        let backends: Whole<u32, Raw<Backend>> = pinned::whole(pins, &maps::BACKENDS)?;
        let live: Array<Data, u64> = pinned::map(pins, &maps::LIVE_FLOWS)?;
        let flows = self.flows.iter().chain(&self.half_open);
        let named: BTreeSet<BackendId> = (self.tables.slots.values().copied())
            .chain(flows.map(|(_, flow)| flow.backend))
            .chain(self.affinity.iter().map(|(_, entry)| entry.backend))
            .collect();
        for (id, Raw(backend)) in pinned::read(&backends, &maps::BACKENDS)? {
            let end = (backend.address, backend.port);
            let is_end = backend.state != BackendState::FREE
                && [subject.source, subject.destination].contains(&end);
            if is_end || named.contains(&BackendId(id)) {
                self.tables.backends.insert(BackendId(id), backend);
                let flows = found(live.get(&id, 0), &maps::LIVE_FLOWS)?;
                self.live.insert(BackendId(id), flows.unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Heads of services. What stands at an address alone has a number that is no id.
    fn balancers(&self) -> Vec<Service> {
        let all = self.tables.services.iter();
        all.filter(|(key, _)| !key.is_address())
            .map(|(_, head)| *head)
            .collect()
    }

    /// Sizes of maps in which the ids of all this have room.
    fn options(&self, settings: Settings, uplinks: bool) -> LoadOptions {
        let services = self.balancers().into_iter().map(|head| head.id.0);
        let backends = self.tables.backends.keys().map(|id| id.0);
        let slots = self.tables.slots.keys().map(|SlotIndex(slot)| slot / 2);
        let room =
            |ids: &mut dyn Iterator<Item = u32>| ids.max().unwrap_or_default().saturating_add(16);
        LoadOptions {
            pins: None,
            max_services: room(&mut services.into_iter()),
            max_backends: room(&mut backends.chain(slots)),
            max_flows: 4096,
            settings,
            sockets: false,
            uplinks,
            drivers: false,
            log_level: 0,
        }
    }
}

/// What a program did with a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ran {
    /// Name of the program.
    pub program: &'static str,
    /// Hash of its instructions, which that of the program in force has too.
    pub tag: u64,
    /// What it returned: an action of TC.
    pub action: i32,
    /// What it counted.
    pub outcome: Outcome,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Runs a frame through the program of a pod's device, or of an uplink's, over a copy of what is held.
///
/// # Errors
/// The copy cannot be made, or the program does not run.
pub fn run(
    held: &Held,
    settings: Settings,
    at_uplink: bool,
    frame: &[u8],
) -> Result<Ran, ReplicaError> {
    let mut loaded = load(&held.options(settings, at_uplink))?;
    let program = if at_uplink { FROM_UPLINK } else { FROM_POD };
    // One that is loaded on demand, now: it knows its maps by their descriptors, some of which are closed below.
    let _loaded = loaded.program(program)?;
    for (shape, entries) in [
        (&maps::FLOWS, &held.flows),
        (&maps::HALF_OPEN, &held.half_open),
    ] {
        let mut map: HashMap<Data, Raw<FlowKey>, Raw<Flow>> = loaded.map(shape)?;
        for (key, flow) in entries {
            let written = map.insert(Raw(*key), Raw(*flow), 0);
            written.map_err(|error| write_error(shape, key, error))?;
        }
    }
    let mut affinity: HashMap<Data, Raw<AffinityKey>, Raw<Affinity>> =
        loaded.map(&maps::AFFINITY)?;
    for (key, entry) in &held.affinity {
        let written = affinity.insert(Raw(*key), Raw(*entry), 0);
        written.map_err(|error| write_error(&maps::AFFINITY, &key.client, error))?;
    }
    let mut errors: HashMap<Data, Raw<Addr>, u64> = loaded.map(&maps::ERRORS)?;
    for (client, until) in &held.errors {
        let written = errors.insert(Raw(*client), until, 0);
        written.map_err(|error| write_error(&maps::ERRORS, client, error))?;
    }
    let counts: PerCpuArray<Data, Raw<Traffic>> = loaded.map(&maps::OUTCOMES)?;
    let mut tables = Bpf::new(&mut loaded)?;
    tables.apply(&diff(&Tables::default(), &held.tables))?;
    tables.set_counts(&held.cursors, &held.live)?;
    let mut output = vec![0; frame.len() + 256];
    let result = loaded.program(program)?.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut output),
        ..TestRunOptions::default()
    });
    let result = result.map_err(|source| ReplicaError::Run { program, source })?;
    output.truncate(usize::try_from(result.data_size_out).unwrap_or_default());
    let info = loaded.info(program)?;
    Ok(Ran {
        program,
        tag: info.tag(),
        action: result.return_value.cast_signed(),
        outcome: counted(&counts)?.ok_or(ReplicaError::Silent { program })?,
        frame: output,
    })
}

/// The one outcome that was counted.
fn counted(counts: &PerCpuArray<Data, Raw<Traffic>>) -> Result<Option<Outcome>, ReplicaError> {
    for outcome in Outcome::ALL {
        let values = counts.get(&outcome.index(), 0);
        let values = values.map_err(DataplaneError::reading(maps::OUTCOMES.name))?;
        if values.iter().any(|Raw(traffic)| traffic.packets > 0) {
            return Ok(Some(*outcome));
        }
    }
    Ok(None)
}

/// An entry that may not be there.
fn found<V>(result: Result<V, MapError>, shape: &Shape) -> Result<Option<V>, DataplaneError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound | MapError::OutOfBounds { .. }) => Ok(None),
        Err(error) => Err(DataplaneError::reading(shape.name)(error)),
    }
}

fn write_error(shape: &Shape, entry: &impl ToString, source: MapError) -> DataplaneError {
    DataplaneError::Write {
        map: shape.name,
        operation: "update",
        entry: entry.to_string(),
        source: source.into(),
    }
}
