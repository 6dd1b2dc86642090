//! The packet cases in the kernel, by `BPF_PROG_TEST_RUN`: the same frames in, the same bytes out as on the host.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use std::collections::BTreeSet;

use aya::{
    TestRun, TestRunOptions,
    maps::{HashMap, Map, MapData, MapError},
};
use bytes::Bytes;
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        announced::AnnouncedMap,
        bpf::Bpf,
        events::Events,
        load::{
            FROM_POD, FROM_POD_IP, FROM_UPLINK, FROM_UPLINK_IP, LoadOptions, Loaded, TO_POD,
            TO_POD_IP, UPLINK_XDP, load,
        },
        raw::Raw,
        ways::{self, Changes, DeviceMap, Exits},
    },
    plan::{Tables, diff},
};
use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Direction, EventKind, Flow, FlowKey, Fragment, FragmentKey,
        Settings, Watch, maps,
    },
    packet::{Delivery, Exit, Link, Verdict},
    wire::Addr,
};
use clusterip_tests::{
    case::{Case, Hook, Seen, Step, compare},
    driver::{coarse, context, period},
    host::{HostEnv, Passage as _, Told},
    require, vectors,
    world::{DEVICE, World, settings},
};

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`, `TC_ACT_REDIRECT`.
const PASS: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

/// `XDP_DROP`, `XDP_PASS`, `XDP_TX`, `XDP_REDIRECT`.
const DRIVER_DROPS: u32 = 1;
const DRIVER_PASSES: u32 = 2;
const DRIVER_TURNS: u32 = 3;
const DRIVER_REDIRECTS: u32 = 4;

fn action(verdict: Verdict, exit: Option<Exit>) -> i32 {
    match verdict {
        Verdict::Translated(_) if exit.is_some_and(Exit::is_past_stack) => REDIRECT,
        Verdict::Pass(_) | Verdict::Translated(_) => PASS,
        Verdict::Reply(_) | Verdict::Refuse(_) => REDIRECT,
        Verdict::Drop(_) => DROP,
    }
}

struct Kernel {
    loaded: Loaded,
    maps: Bpf,
    events: Events,
    flows: [HashMap<MapData, Raw<FlowKey>, Raw<Flow>>; 2],
    affinity: HashMap<MapData, Raw<AffinityKey>, Raw<Affinity>>,
    fragments: HashMap<MapData, Raw<FragmentKey>, Raw<Fragment>>,
    errors: HashMap<MapData, Raw<Addr>, u64>,
    tables: Tables,
    announced: AnnouncedMap,
    devices: DeviceMap,
    changes: Changes,
    exits: Exits,
    /// The devices of the case's legs.
    legs: Vec<u32>,
    /// The kinds of events so far.
    kinds: BTreeSet<EventKind>,
}

fn take<T: TryFrom<Map, Error = MapError>>(loaded: &mut Loaded, name: &str) -> anyhow::Result<T> {
    let map = loaded.ebpf_mut().take_map(name);
    Ok(map
        .ok_or_else(|| anyhow::anyhow!("there is no map {name}"))?
        .try_into()?)
}

impl Kernel {
    fn new(settings: Settings) -> anyhow::Result<Self> {
        let mut loaded = load(&LoadOptions {
            max_services: 64,
            max_backends: 64,
            max_flows: 1024,
            settings,
            ..LoadOptions::default()
        })?;
        let maps = Bpf::new(&mut loaded)?;
        let mut events = Events::new(&mut loaded)?;
        events.watch(&Watch::everything(u64::MAX))?;
        let flows = [
            take(&mut loaded, maps::FLOWS.name)?,
            take(&mut loaded, maps::HALF_OPEN.name)?,
        ];
        let affinity = take(&mut loaded, maps::AFFINITY.name)?;
        let fragments = take(&mut loaded, maps::FRAGMENTS.name)?;
        let errors = take(&mut loaded, maps::ERRORS.name)?;
        let (devices, changes, exits) = ways::open(&mut loaded)?;
        let announced = AnnouncedMap::open(&mut loaded)?;
        Ok(Self {
            announced,
            devices,
            changes,
            exits,
            loaded,
            maps,
            events,
            flows,
            affinity,
            fragments,
            errors,
            tables: Tables::default(),
            legs: Vec::new(),
            kinds: BTreeSet::new(),
        })
    }

    fn become_(&mut self, wanted: &Tables) -> anyhow::Result<()> {
        self.maps.apply(&diff(&self.tables, wanted))?;
        self.tables = wanted.clone();
        Ok(())
    }

    fn later(&mut self, nanoseconds: u64) -> anyhow::Result<()> {
        for table in &mut self.flows {
            let flows: Result<Vec<_>, _> = table.iter().collect();
            for (key, Raw(mut flow)) in flows? {
                flow.last_seen = flow.last_seen.wrapping_sub(nanoseconds);
                table.insert(key, Raw(flow), 0)?;
            }
        }
        let clients: Result<Vec<_>, _> = self.affinity.iter().collect();
        for (key, Raw(mut affinity)) in clients? {
            affinity.last_used = affinity.last_used.wrapping_sub(nanoseconds);
            self.affinity.insert(key, Raw(affinity), 0)?;
        }
        let owed: Result<Vec<_>, _> = self.errors.iter().collect();
        for (client, until) in owed? {
            self.errors
                .insert(client, until.wrapping_sub(nanoseconds), 0)?;
        }
        Ok(())
    }

    /// The tables let go of all entries of a side, here and on the host.
    fn lose(&mut self, host: &HostEnv, side: Direction) -> anyhow::Result<()> {
        host.lose(side);
        for table in &mut self.flows {
            let flows: Result<Vec<_>, _> = table.iter().collect();
            for (key, _) in flows?
                .iter()
                .filter(|(_, Raw(flow))| flow.direction == side)
            {
                table.remove(key)?;
            }
        }
        Ok(())
    }

    /// What the hook at the driver makes of a frame; it comes in by the device of the first leg, if there is one.
    fn at_driver(&mut self, input: &Bytes) -> anyhow::Result<Seen<u32>> {
        let mut output = vec![0; input.len() + 256];
        let context = self.legs.first().map(|leg| context(input.len(), *leg));
        let program = self.loaded.driver_program(UPLINK_XDP)?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(input),
            data_out: Some(&mut output),
            ctx_in: context.as_deref(),
            ..TestRunOptions::default()
        })?;
        output.truncate(usize::try_from(result.data_size_out)?);
        Ok(Seen {
            verdict: result.return_value,
            bytes: output.into(),
        })
    }

    /// The action for what the host has said: the devices of legs have the numbers of the legs there.
    const fn driver_action(&self, delivery: Delivery) -> u32 {
        match delivery {
            Delivery::Pass => DRIVER_PASSES,
            Delivery::End(_) | Delivery::EndHalfway(_) => DRIVER_DROPS,
            Delivery::Send(1, _) if !self.legs.is_empty() => DRIVER_TURNS,
            Delivery::Send(..) => DRIVER_REDIRECTS,
        }
    }

    /// As [`run`](Self::run), and again where it may have been the turn of two periods: then a packet takes the stack, also for a
    /// way that an earlier case has left.
    fn run_within_a_period(&mut self, case: &Case) -> anyhow::Result<Result<(), String>> {
        let mut failed = None;
        loop {
            let before = period()?;
            self.empty()?;
            let Err(why) = self.run(case)? else {
                return Ok(Ok(()));
            };
            // Each run may stop at one more way of the period before.
            let again = Some((before, why));
            if period()? == before && failed == again {
                return Ok(again.map_or(Ok(()), |(_, why)| Err(why)));
            }
            failed = again;
        }
    }

    fn pass(&mut self, hook: Hook, link: Link, input: &Bytes) -> anyhow::Result<Seen<i32>> {
        let program = self.loaded.program(match (hook, link) {
            (Hook::FromPod, Link::Ethernet) => FROM_POD,
            (Hook::ToPod | Hook::ToUplink, Link::Ethernet) => TO_POD,
            (Hook::FromPod, Link::None) => FROM_POD_IP,
            (Hook::ToPod | Hook::ToUplink, Link::None) => TO_POD_IP,
            (Hook::FromUplink, Link::Ethernet) => FROM_UPLINK,
            (Hook::FromUplink, Link::None) => FROM_UPLINK_IP,
        })?;
        let mut output = vec![0; input.len() + 256];
        let result = program.test_run(TestRunOptions {
            data_in: Some(input),
            data_out: Some(&mut output),
            ..TestRunOptions::default()
        })?;
        output.truncate(usize::try_from(result.data_size_out)?);
        Ok(Seen {
            verdict: result.return_value.cast_signed(),
            bytes: output.into(),
        })
    }

    /// How many packets have gone each way.
    fn went(&self) -> anyhow::Result<Vec<u64>> {
        let all = Exit::ALL
            .iter()
            .map(|exit| Ok(self.exits.of(*exit)?.packets));
        all.collect()
    }

    /// The events since the last time.
    fn told(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        self.events.drain(usize::MAX, |event, frame| {
            self.kinds.insert(event.kind);
            told.push(Told::new(*event, frame));
        });
        told
    }

    /// As it was at first.
    fn empty(&mut self) -> anyhow::Result<()> {
        self.become_(&Tables::default())?;
        for table in &mut self.flows {
            let keys: Result<Vec<_>, _> = table.keys().collect();
            for key in keys? {
                table.remove(&key)?;
            }
        }
        let clients: Result<Vec<_>, _> = self.affinity.keys().collect();
        for client in clients? {
            self.affinity.remove(&client)?;
        }
        let pieces: Result<Vec<_>, _> = self.fragments.keys().collect();
        for piece in pieces? {
            self.fragments.remove(&piece)?;
        }
        let owed: Result<Vec<_>, _> = self.errors.keys().collect();
        for client in owed? {
            self.errors.remove(&client)?;
        }
        Ok(())
    }

    fn announce(&mut self, world: &World) -> anyhow::Result<()> {
        let announced = world.announced.iter();
        let announced = announced.map(|(address, mac)| ((*address, DEVICE), *mac));
        self.announced.follow(&announced.collect())?;
        Ok(self.changes.note()?)
    }

    fn run(&mut self, case: &Case) -> anyhow::Result<Result<(), String>> {
        if let Some(reason) = case.only_on_host {
            require::loudly(&format!(
                "NOTE {}: {reason}; it is shown on the host",
                case.name
            ));
            return Ok(Ok(()));
        }
        let mut world = case.world.clone();
        let host = world.host();
        host.watch.set(Watch::everything(u64::MAX));
        self.become_(&world.tables)?;
        self.announce(&world)?;
        for (number, step) in case.steps.iter().enumerate() {
            match step {
                Step::Frame {
                    hook,
                    link,
                    input,
                    verdict,
                    output,
                    exit,
                } => {
                    let wanted = Seen {
                        verdict: action(*verdict, *exit),
                        bytes: output.clone(),
                    };
                    // A driver has XDP for Ethernet only. It is the host's tests that say what it does.
                    if (*hook, *link) == (Hook::FromUplink, Link::Ethernet) {
                        let wanted = Seen {
                            verdict: self.driver_action(host.at_driver(input).verdict),
                            bytes: input.clone(),
                        };
                        let seen = self.at_driver(input)?;
                        if let Err(text) = compare(case, number, input, &wanted, &seen) {
                            return Ok(Err(text));
                        }
                        host.events.take();
                    }
                    let driver = self.told();
                    let before = self.went()?;
                    let seen = self.pass(*hook, *link, input)?;
                    if let Err(text) = compare(case, number, input, &wanted, &seen) {
                        return Ok(Err(text));
                    }
                    let after = self.went()?;
                    let went: Vec<Exit> = Exit::ALL
                        .iter()
                        .copied()
                        .zip(before.into_iter().zip(after))
                        .filter_map(|(exit, (before, after))| (after > before).then_some(exit))
                        .collect();
                    if !case.world.is_way(&went, *exit) {
                        return Ok(Err(format!(
                            "{}, step {}: went {went:?}, wanted {exit:?}",
                            case.name,
                            number + 1
                        )));
                    }
                    host.pass(*hook, *link, input);
                    let expected: Vec<Told> = host.events.take().iter().map(Told::of).collect();
                    let told = self.told();
                    if told != expected || !driver.iter().all(|it| expected.contains(it)) {
                        return Ok(Err(format!(
                            "{}, step {}: events {told:#?}\nat the driver {driver:#?}\nwanted {expected:#?}",
                            case.name,
                            number + 1
                        )));
                    }
                }
                Step::Driver { input, output, .. } => {
                    let wanted = Seen {
                        verdict: self.driver_action(host.at_driver(input).verdict),
                        bytes: output.clone(),
                    };
                    let seen = self.at_driver(input)?;
                    if let Err(text) = compare(case, number, input, &wanted, &seen) {
                        return Ok(Err(text));
                    }
                    let expected: Vec<Told> = host.events.take().iter().map(Told::of).collect();
                    let told = self.told();
                    if told != expected {
                        return Ok(Err(format!(
                            "{}: {told:#?}, wanted {expected:#?}",
                            case.name
                        )));
                    }
                }
                Step::Change(change) => {
                    change(&mut world);
                    host.tables.replace(world.tables.clone());
                    self.become_(&world.tables)?;
                }
                Step::Lose(side) => self.lose(&host, *side)?,
                Step::Later(nanoseconds) => {
                    host.clock.set(host.clock.get() + nanoseconds);
                    self.later(*nanoseconds)?;
                }
            }
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests;
