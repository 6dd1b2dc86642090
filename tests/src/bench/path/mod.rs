//! From pod to pod: what a packet, a connection and its first answer cost on each way, with few services and with many.
//!
//! All ways of one size stand at the same time, each in namespaces of its own. A round goes through them in turn, and measures the
//! direct way right before each of the others: what a table has is the median of those ratios.

pub(super) mod clock;
mod rules;
mod services;
mod stage;
mod traffic;
mod way;
mod worker;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};

pub use self::worker::{WorkerArguments, serve};
use self::{
    services::Services,
    stage::Stage,
    traffic::Load,
    way::{Abilities, WAYS, Way},
};
pub(super) use self::{stage::load, way::versions, worker::pin_to_last};
use super::table::{Cell, Line, Table, at};

/// A few services in rules, to which others add their own.
const FEW: Services = Services(10);

/// As kube-proxy writes them for iptables.
pub(super) fn few_iptables() -> String {
    rules::iptables(FEW)
}

/// As above, for nftables.
pub(super) fn few_nftables() -> String {
    rules::nftables(FEW)
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Numbers of services.
    pub sizes: Vec<u32>,
    /// Rounds; the median counts.
    pub rounds: usize,
    /// How long one measurement is.
    pub slice: Duration,
    /// New connections of one measurement of their first answers.
    pub firsts: u32,
}

impl Scale {
    /// For figures.
    #[must_use]
    pub fn full(rounds: usize) -> Self {
        Self {
            sizes: vec![10, 1_000, 10_000, 50_000],
            rounds: rounds.max(1),
            slice: Duration::from_millis(40),
            firsts: 300,
        }
    }

    /// To see whether all of it runs.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            sizes: vec![10, 100],
            rounds: 2,
            slice: Duration::from_millis(5),
            firsts: 20,
        }
    }
}

/// Which tables are wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parts {
    /// Rates.
    pub rates: bool,
    /// First answers.
    pub firsts: bool,
}

/// Figures of one way with one number of services.
#[derive(Clone, Default, Debug)]
struct Figures {
    /// By load: ratios to the direct way, and rates.
    ratios: [Vec<f64>; 4],
    rates: [Vec<f64>; 4],
    /// Microseconds.
    firsts: Vec<f64>,
    /// Seconds.
    loading: f64,
}

/// Where a request came out: whom the client called by TCP, where it arrived in the pod, and whom it called by UDP.
///
/// `way` is a name of the table, or `nobody`, who translates nothing.
///
/// # Errors
/// There is no such way, or nothing comes through.
pub fn carried(program: &Path, way: &str, services: u32) -> Result<String> {
    let mut ways = WAYS.iter().chain([&way::NOBODY]);
    let way = ways.find(|it| it.name == way).context("no such way")?;
    let abilities = Abilities::of_agent()?;
    let mut stage = Stage::new(program, way, Services(services), abilities)?;
    let checked = stage.worker.check();
    checked.with_context(|| stage.log())
}

/// Names of the ways that can be had here.
///
/// # Errors
/// The agent cannot be asked.
pub fn ways() -> Result<Vec<&'static str>> {
    let abilities = Abilities::of_agent()?;
    let ways = WAYS.iter().filter(|way| abilities.can(way));
    Ok(ways.map(|way| way.name).collect())
}

/// Measures, and makes the tables. `program` is what becomes the worker when its first argument is `worker`.
///
/// # Errors
/// Not root, a program is missing, or a way carries nothing.
pub fn tables(program: &Path, scale: &Scale, parts: Parts) -> Result<Vec<Table>> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench path makes namespaces: it needs root"
    );
    let abilities = Abilities::of_agent()?;
    let ways: Vec<&Way> = WAYS.iter().filter(|way| abilities.can(way)).collect();
    let mut all = Vec::new();
    for size in &scale.sizes {
        let figures = measure(program, &ways, *size, abilities, (scale, parts))
            .with_context(|| format!("with {size} services"))?;
        all.push(figures);
    }
    let mut tables = Vec::new();
    if parts.rates {
        let of = |load: (usize, &Load)| rates(load, scale, &ways, &all);
        tables.extend(Load::ALL.iter().enumerate().map(of));
    }
    if parts.firsts {
        tables.extend([(50, "median"), (99, "99 of 100")].map(|it| firsts(it, scale, &ways, &all)));
    }
    tables.push(loading(scale, &ways, &all));
    Ok(tables)
}

/// Sets every way up with so many services, and measures them in turn. None is a way that is not for so many.
fn measure(
    program: &Path,
    ways: &[&Way],
    size: u32,
    abilities: Abilities,
    (scale, parts): (&Scale, Parts),
) -> Result<Vec<Option<Figures>>> {
    let mut stages = Vec::new();
    for way in ways {
        let stage = if size <= way.most {
            let stage = Stage::new(program, way, Services(size), abilities);
            Some(stage.with_context(|| way.name)?)
        } else {
            None
        };
        stages.push(stage);
    }
    let (direct, others) = stages.split_first_mut().context("no way")?;
    let direct = direct.as_mut().context("no direct way")?;
    let mut figures: Vec<Option<Figures>> = vec![Some(Figures::default())];
    for (way, stage) in ways.iter().skip(1).zip(others.iter_mut()) {
        let Some(stage) = stage else {
            figures.push(None);
            continue;
        };
        let checked = stage.worker.check();
        checked.with_context(|| format!("{} carries nothing\n{}", way.name, stage.log()))?;
        figures.push(Some(Figures {
            loading: stage.loading.as_secs_f64(),
            ..Figures::default()
        }));
    }
    let (base, rest) = figures.split_first_mut().context("no figures")?;
    let base = base.as_mut().context("no figures")?;
    for round in 0..=scale.rounds {
        for (stage, figures) in others.iter_mut().zip(rest.iter_mut()) {
            if let (Some(stage), Some(figures)) = (stage, figures) {
                let mut turn = Turn {
                    direct: (direct, &mut *base),
                    other: (stage, figures),
                    // The first round warms caches and routes, and does not count.
                    counts: round > 0,
                };
                turn.take(scale, parts)?;
            }
        }
    }
    Ok(figures)
}

/// The direct way, and right after it another.
struct Turn<'a> {
    direct: (&'a mut Stage, &'a mut Figures),
    other: (&'a mut Stage, &'a mut Figures),
    counts: bool,
}

impl Turn<'_> {
    fn take(&mut self, scale: &Scale, parts: Parts) -> Result<()> {
        let Self {
            direct: (direct, base),
            other: (other, figures),
            counts,
        } = self;
        if parts.rates {
            for (place, load) in Load::ALL.into_iter().enumerate() {
                let plain = direct.worker.rate(load, scale.slice)?;
                let rate = other.worker.rate(load, scale.slice)?;
                if *counts {
                    keep(&mut base.rates, place, plain);
                    keep(&mut base.ratios, place, 1.0);
                    keep(&mut figures.rates, place, rate);
                    keep(&mut figures.ratios, place, rate / plain);
                }
            }
        }
        if parts.firsts {
            let first = |stage: &mut Stage, figures: &mut Figures| -> Result<()> {
                let times = stage.worker.first(scale.firsts)?;
                if *counts {
                    figures.firsts.extend(times.iter().map(|time| time / 1e3));
                }
                Ok(())
            };
            first(direct, base)?;
            first(other, figures)?;
        }
        Ok(())
    }
}

fn keep(lists: &mut [Vec<f64>; 4], place: usize, value: f64) {
    if let Some(list) = lists.get_mut(place) {
        list.push(value);
    }
}

type All = [Vec<Option<Figures>>];

fn rates((place, load): (usize, &Load), scale: &Scale, ways: &[&Way], all: &All) -> Table {
    let list = |lists: &[Vec<f64>; 4]| lists.get(place).cloned().unwrap_or_default();
    let notes = vec![format!(
        "One processor has both ends. {} rounds, each way right after the direct one. kube-proxy's rules are made by the \
         bench.",
        scale.rounds
    )];
    Table {
        name: format!("path-{}", load.word()),
        title: load.title().to_owned(),
        unit: "x direct".to_owned(),
        absolute: load.unit().to_owned(),
        notes,
        ..table(scale, ways, all, |figures| {
            Some(Cell::of(list(&figures.ratios)).made_of(list(&figures.rates)))
        })
    }
}

fn firsts((part, word): (usize, &str), scale: &Scale, ways: &[&Way], all: &All) -> Table {
    Table {
        name: format!("first-{part}"),
        title: format!("From a SYN to its answer, {word}"),
        unit: "us".to_owned(),
        notes: vec![format!(
            "New connections to 500 of the services in turn, or to all where there are fewer; {} rounds of {}.",
            scale.rounds, scale.firsts
        )],
        ..table(scale, ways, all, |figures| {
            let mut times = figures.firsts.clone();
            times.sort_by(f64::total_cmp);
            Some(Cell::of(vec![at(&times, part, 100)]))
        })
    }
}

fn loading(scale: &Scale, ways: &[&Way], all: &All) -> Table {
    let mut table = Table {
        name: "path-loading".to_owned(),
        title: "Until all services are served, once".to_owned(),
        unit: "s".to_owned(),
        notes: vec![
            way::versions(),
            "Rules: one text, which is made already, into an empty kernel. clusterip: from its start with manifests of all \
             services until it is ready."
                .to_owned(),
        ],
        ..table(scale, ways, all, |figures| {
            (figures.loading > 0.0).then(|| Cell::of(vec![figures.loading]))
        })
    };
    // Nothing is loaded for the direct way.
    table
        .rows
        .retain(|row| row.cells.iter().any(Option::is_some));
    table
}

fn table(
    scale: &Scale,
    ways: &[&Way],
    all: &All,
    cell: impl Fn(&Figures) -> Option<Cell>,
) -> Table {
    let columns = scale.sizes.iter().map(|size| format!("{size} services"));
    let row = |(place, way): (usize, &&Way)| Line {
        name: way.name.to_owned(),
        cells: all
            .iter()
            .map(|of_size| of_size.get(place).and_then(Option::as_ref).and_then(&cell))
            .collect(),
    };
    Table {
        name: String::new(),
        title: String::new(),
        unit: String::new(),
        absolute: String::new(),
        columns: columns.collect(),
        rows: ways.iter().enumerate().map(row).collect(),
        notes: Vec::new(),
    }
}
