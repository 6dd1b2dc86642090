//! The reconciler over the kernel's maps, in this process: from objects to the last write.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use clusterip_agent::{
    dataplane::{
        bpf::Bpf,
        load::{LoadOptions, load},
    },
    model::{event::Event, range::ServiceRange, resolver::Resolver, service::Algorithm},
    plan::Limits,
    reconcile::{Reconciler, Report},
    state::Store,
};
use tempfile::TempDir;

use super::{
    Scale,
    clock::{Cost, Others, Summary, measure, milliseconds},
    cluster::{Cluster, changes},
    report::Row,
};

/// Services are given addresses out of this.
const SERVICE_CIDR: &str = "10.96.0.0/12";
/// A flow table is not what is measured.
const FLOWS: u32 = 1024;
/// From one service to the next that changes: a prime, so that all have their turn.
const STRIDE: usize = 7919;
/// Seconds that pass after a change, for what it retired to be free again.
const SECONDS: usize = 3;

/// An agent's core with its maps.
struct Core {
    agent: Reconciler<Bpf>,
    cluster: Cluster,
    /// Of each service that was changed, how often.
    rounds: BTreeMap<usize, usize>,
    turn: usize,
    state: TempDir,
}

impl Core {
    /// One with empty maps that have room for a cluster.
    fn new(cluster: Cluster) -> Result<Self> {
        let entries = |count: usize| u32::try_from(count.next_power_of_two());
        let (services, backends) = (
            entries(cluster.services * 3)?,
            entries(cluster.services * cluster.endpoints * 3 / 2)?,
        );
        let mut loaded = load(&LoadOptions {
            max_services: services,
            max_backends: backends,
            max_flows: FLOWS,
            sockets: false,
            ..LoadOptions::default()
        })?;
        let maps = Bpf::new(&mut loaded)?;
        let state = tempfile::tempdir().context("make a state directory")?;
        let agent = reconciler(maps, &state, Limits::new(services, backends))?;
        Ok(Self {
            agent,
            cluster,
            rounds: BTreeMap::new(),
            turn: 0,
            state,
        })
    }

    fn installed(cluster: Cluster, listing: Vec<Event>) -> Result<(Self, Cost)> {
        let mut core = Self::new(cluster)?;
        let cost = measure(|| done(core.agent.handle(listing)))?;
        for _ in 0..SECONDS {
            core.second()?;
        }
        Ok((core, cost))
    }

    /// A service that has not changed for long: one of its endpoints goes and another comes.
    fn change(&mut self) -> Result<Cost> {
        let index = self.turn * STRIDE % self.cluster.services;
        self.turn += 1;
        let round = self.rounds.entry(index).or_default();
        *round += 1;
        let events = changes(self.cluster.slice(index, *round));
        let cost = measure(|| done(self.agent.handle(events)))?;
        for _ in 0..SECONDS {
            self.second()?;
        }
        Ok(cost)
    }

    /// A service comes that was not there; the address of it is chosen and kept.
    fn add(&mut self) -> Result<Cost> {
        let events = changes(Cluster::service(self.cluster.services + self.turn));
        self.turn += 1;
        let cost = measure(|| done(self.agent.handle(events)))?;
        for _ in 0..SECONDS {
            self.second()?;
        }
        Ok(cost)
    }

    /// A second passes.
    fn second(&mut self) -> Result<Cost> {
        measure(|| done(self.agent.advance()))
    }

    fn resync(&mut self) -> Result<Cost> {
        measure(|| done(self.agent.resync()))
    }

    /// Another agent takes over what this one leaves.
    fn restarted(self, limits: Limits, listing: Vec<Event>) -> Result<Cost> {
        let mut agent = reconciler(self.agent.into_dataplane(), &self.state, limits)?;
        measure(|| done(agent.handle(listing)))
    }

    const fn limits(&self) -> Limits {
        self.agent.limits()
    }
}

fn reconciler(maps: Bpf, state: &TempDir, limits: Limits) -> Result<Reconciler<Bpf>> {
    let store = Store::new(state.path());
    let ranges = vec![ServiceRange::new(SERVICE_CIDR.parse()?)];
    let resolver = Resolver::new("node-0", Algorithm::default(), ranges, store.load()?);
    Ok(Reconciler::new(maps, resolver, Some(store), limits))
}

/// How many writes it took, if all of them were made.
fn done(report: Report) -> Result<usize> {
    let Report {
        services: _,
        families: _,
        is_full: _,
        ops,
        failure,
    } = report;
    match failure {
        Some(error) => Err(error).context("write the maps"),
        None => Ok(ops),
    }
}

/// From parsed objects to the last write, for empty maps.
pub(super) fn first(scale: &Scale, rows: &mut Vec<Row>) -> Result<()> {
    let (mut parsing, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        let mut listing = Vec::new();
        parsing.push(measure(|| {
            listing = scale.many.listing()?;
            Ok(0)
        })?);
        costs.push(Core::installed(scale.many, listing)?.1);
    }
    let size = scale.many.size();
    rows.push(Row::time(
        format!("write and parse a file, {size}"),
        &Summary::of(&parsing),
    ));
    let row = Row::time(format!("first programming, {size}"), &Summary::of(&costs));
    rows.push(scale.goal(row, 1000.0));
    Ok(())
}

/// What a change costs beside few services and beside many: measured in turn.
pub(super) fn changing(scale: &Scale, rows: &mut Vec<Row>) -> Result<()> {
    let (mut few, _) = Core::installed(scale.few, scale.few.listing()?)?;
    let (mut most, _) = Core::installed(scale.most, scale.most.listing()?)?;
    let turns = scale.rounds * 60;
    let mut others = Others::new();
    let (in_few, in_most) = (scale.few.size(), scale.most.size());
    for (what, step, is_bounded) in [
        (
            "one endpoint changed",
            Core::change as fn(&mut Core) -> Result<Cost>,
            true,
        ),
        ("a second without a change", Core::second, true),
        (
            "one service more, its address kept on disk",
            Core::add,
            false,
        ),
    ] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            for (core, costs) in [(&mut few, &mut a), (&mut most, &mut b)] {
                others.run();
                costs.push(step(core)?);
            }
        }
        let (a, b) = (Summary::of(&a), Summary::of(&b));
        rows.push(Row::time(format!("{what}, {in_few}"), &a));
        let row = Row::time(format!("{what}, {in_most}"), &b);
        rows.push(if is_bounded {
            scale.goal(row, 1.0)
        } else {
            row
        });
        let ratio = milliseconds(b.wall) / milliseconds(a.wall);
        let row = Row::figure(format!("{what}, ratio of the two"), "", ratio);
        rows.push(if is_bounded {
            scale.goal(row, 1.2)
        } else {
            row
        });
    }
    whole(scale, most, rows)
}

/// What it costs to look at everything.
fn whole(scale: &Scale, mut core: Core, rows: &mut Vec<Row>) -> Result<()> {
    let size = scale.most.size();
    let costs: Result<Vec<Cost>> = (0..scale.rounds).map(|_| core.resync()).collect();
    let row = Row::time(format!("full resync, {size}"), &Summary::of(&costs?));
    rows.push(scale.goal(row, 5000.0));
    let limits = core.limits();
    let cost = core.restarted(limits, scale.most.listing()?)?;
    let row = Row::time(
        format!("restart over full maps, {size}"),
        &Summary::of(&[cost]),
    );
    rows.push(row);
    Ok(())
}
