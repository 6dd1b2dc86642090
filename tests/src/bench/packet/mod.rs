//! Nanoseconds a packet spends in the programs, by test-run.
//!
//! Test-run passes one buffer through a program again and again. A translated packet would not be the same the second
//! time: here the backend has the service's own address, and the port of another service, whose backend has the first
//! one's. So every pass does the whole work, and every second one leaves the packet as it was.

mod events;
mod tables;

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun, TestRunOptions, programs::SchedClassifier};
use bytes::Bytes;
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        bpf::Bpf,
        events::Events,
        load::{FROM_POD, LoadOptions, Loaded, REFERENCE, TO_POD, load},
    },
    plan::{Tables, diff},
};
use clusterip_common::abi::{Algorithm, Settings, maps};

use self::events::LISTENED;
pub use self::tables::tables;
use crate::{
    packet::{Packet, ping, tcp, too_big, udp},
    world::{World, service, settings},
};

/// Passes of one measurement of a packet that is the same each time.
const REPEAT: u32 = 200_000;
/// Single passes of one measurement of a packet that must be new each time.
const FRESH: u16 = 2_000;
/// Ports of new flows begin here.
const FIRST_PORT: u16 = 20_000;

/// One row of the table.
struct Row {
    name: &'static str,
    nanoseconds: f64,
    spread: (f64, f64),
    /// Against the reference of the same family, measured in turn with it.
    ratio: Option<f64>,
    goal: Option<f64>,
}

/// Addresses of one family.
struct Family {
    name: &'static str,
    client: &'static str,
    vip: &'static str,
    elsewhere: &'static str,
    router: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        client: "10.244.0.5",
        vip: "10.96.0.10",
        elsewhere: "10.244.1.7",
        router: "10.0.0.1",
    },
    Family {
        name: "IPv6",
        client: "fd00:10:244::5",
        vip: "fd00:10:96::a",
        elsewhere: "fd00:10:244:1::7",
        router: "fd00::1",
    },
];

/// Ports of the service address: of the two whose flows are known, each the other's backend; where the backend has the same port, where there is
/// none, and those of [`CHOICES`].
const KNOWN: [u16; 2] = [52, 53];
const KEPT: u16 = 55;
const EMPTY: u16 = 54;

/// How a new flow chooses, and the port where it does.
const CHOICES: [(&str, u16, Algorithm, u32); 6] = [
    ("new flow", 60, Algorithm::ROUND_ROBIN, 0),
    ("new flow, weighted", 61, Algorithm::ROUND_ROBIN, 0),
    ("new flow, affinity", 62, Algorithm::ROUND_ROBIN, 10_800),
    ("new flow, random", 63, Algorithm::RANDOM, 0),
    ("new flow, Maglev", 64, Algorithm::MAGLEV, 0),
    (
        "new flow, least connections",
        65,
        Algorithm::LEAST_CONNECTIONS,
        0,
    ),
];

fn at(address: &str, port: u16) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

impl Family {
    fn client(&self, port: u16) -> String {
        at(self.client, port)
    }

    fn vip(&self, port: u16) -> String {
        at(self.vip, port)
    }

    /// The services.
    fn world(&self) -> World {
        let [known, other] = KNOWN.map(|port| self.vip(port));
        let kept = self.vip(KEPT);
        let mut world = service(&format!("{known}/udp"), &[&other])
            .and(&format!("{other}/udp"), &[&known])
            .and(&format!("{kept}/udp"), &[&kept])
            .and(&format!("{}/udp", self.vip(EMPTY)), &[])
            .and(&format!("{}/tcp", self.vip(EMPTY)), &[]);
        for (name, port, ..) in CHOICES {
            let pods = [8080, 8081].map(|port| at(self.elsewhere, port));
            let [a, b] = pods.each_ref().map(String::as_str);
            // Weights repeat slots.
            let weighted = [a, a, b, a];
            let backends = if name.ends_with("weighted") {
                &weighted[..]
            } else {
                &[a, b]
            };
            world = world.and(&format!("{}/udp", self.vip(port)), backends);
        }
        for (key, head) in &mut world.tables.services {
            let choice = CHOICES.iter().find(|(_, port, ..)| key.port.get() == *port);
            if let Some((_, _, algorithm, affinity)) = choice {
                head.algorithm = *algorithm;
                head.affinity = *affinity;
            }
        }
        world
    }
}

struct Bench<'a> {
    loaded: Loaded,
    rounds: usize,
    /// What the names of rows are to hold that are measured.
    only: &'a str,
}

/// Prints the table: of the rows whose names hold `only`.
///
/// # Errors
/// Not root, or the kernel refuses.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(rounds: usize, only: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench packet runs BPF programs: it needs root"
    );
    println!("{}", memory()?);
    for family in &FAMILIES {
        let (rows, told) = measure(family, rounds.max(1), only)?;
        println!("{}{told}\n", table(family, &rows));
    }
    Ok(())
}

fn loaded() -> Result<Loaded> {
    let loaded = load(&LoadOptions {
        settings: Settings {
            // Each of them is measured.
            error_interval: 0,
            ..settings()
        },
        ..LoadOptions::default()
    })?;
    Ok(loaded)
}

/// What the maps take of the kernel's memory, by size.
fn memory() -> Result<String> {
    let loaded = loaded()?;
    let mut maps: Vec<(&str, u64)> = loaded.footprint().into_iter().collect();
    maps.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let mut text = format!("{:<24} {:>10} {:>10}\n", "map", "entries", "KiB");
    for (name, bytes) in &maps {
        let entries = maps::ALL.iter().find(|shape| shape.name == *name);
        let entries = entries.map_or(0, |shape| shape.entries);
        let _ = writeln!(text, "{name:<24} {entries:>10} {:>10}", bytes / 1024);
    }
    let sum: u64 = maps.iter().map(|(_, bytes)| bytes).sum();
    let _ = writeln!(text, "{:<24} {:>10} {:>10}", "all", "", sum / 1024);
    Ok(text)
}

fn measure(family: &Family, rounds: usize, only: &str) -> Result<(Vec<Row>, String)> {
    let mut loaded = loaded()?;
    let mut maps = Bpf::new(&mut loaded)?;
    maps.apply(&diff(&Tables::default(), &family.world().tables))?;
    loaded
        .program(REFERENCE)?
        .load()
        .context("load the reference")?;
    let mut events = Events::new(&mut loaded)?;
    let mut bench = Bench {
        loaded,
        rounds,
        only,
    };

    let client = family.client(31_337);
    let request_to = |port| udp(&client, &family.vip(port)).payload([0; 22]);
    let reply_from = |port| udp(&family.vip(port), &client).payload([0; 22]);
    let [known, paired] = KNOWN;
    let (request, reply, vip) = (request_to(known), reply_from(known), family.vip(known));
    let kept = request_to(KEPT);
    let other = udp(&client, &at(family.elsewhere, known)).payload([0; 22]);
    let whole = || udp(&client, &vip).payload([0; 56]);
    let (first, later) = (whole().piece(0, 40, true), whole().piece(40, 64, false));
    let error = too_big(family.router, &request, 8);
    let past = udp(&client, &at(family.elsewhere, 8080)).payload([0; 22]);
    let empty = family.vip(EMPTY);
    // Opens the flows that the others find: both sides speak.
    for (port, backend) in [(known, paired), (paired, known), (KEPT, KEPT)] {
        bench.once(FROM_POD, &request_to(port).bytes())?;
        bench.once(TO_POD, &reply_from(backend).bytes())?;
    }
    bench.once(FROM_POD, &first.bytes())?;
    let mut rows = vec![bench.reference(&request)?];
    for (name, program, packet, goal) in [
        ("established, request", FROM_POD, &request, Some(1.3)),
        ("established, reply", TO_POD, &reply, Some(1.3)),
        ("established, same port", FROM_POD, &kept, Some(1.3)),
        ("not ours, from a pod", FROM_POD, &other, Some(0.5)),
        ("not ours, to a pod", TO_POD, &other, Some(0.5)),
        ("to a backend itself", FROM_POD, &past, None),
        ("first piece", FROM_POD, &first, None),
        ("later piece", FROM_POD, &later, None),
        ("ICMP error", TO_POD, &error, None),
    ] {
        if bench.is_wanted(name) {
            rows.push(bench.row(name, program, packet, &request, goal)?);
        }
    }
    let (listened, told) = if LISTENED.iter().any(|name| bench.is_wanted(name)) {
        bench.listened(family, &mut events, &request)?
    } else {
        (Vec::new(), String::new())
    };
    rows.extend(listened);
    // What comes out is not what goes in: one pass each, with a clock read in it.
    rows.extend(bench.single("reference, alone", REFERENCE, |_| request.clone())?);
    for (name, port, ..) in CHOICES {
        let vip = family.vip(port);
        rows.extend(bench.single(name, FROM_POD, |source| {
            udp(&family.client(source), &vip).payload([0; 22])
        })?);
    }
    rows.extend(bench.single("refused, RST", FROM_POD, |source| {
        tcp(&family.client(source), &empty).syn()
    })?);
    rows.extend(bench.single("refused, unreachable", FROM_POD, |source| {
        udp(&family.client(source), &empty).payload([0; 22])
    })?);
    rows.extend(bench.single("ping", FROM_POD, |_| ping(family.client, family.vip, true))?);
    Ok((rows, told))
}

impl Bench<'_> {
    fn is_wanted(&self, name: &str) -> bool {
        name.contains(self.only)
    }

    /// Nanoseconds of one pass.
    fn pass(&mut self, program: &'static str, frame: &Bytes, repeat: u32) -> Result<f64> {
        let program: &mut SchedClassifier = self.loaded.program(program)?;
        let result = program.test_run(TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        })?;
        #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one pass")]
        Ok(result.duration.as_nanos() as f64)
    }

    fn once(&mut self, program: &'static str, frame: &Bytes) -> Result<f64> {
        self.pass(program, frame, 1)
    }

    fn reference(&mut self, request: &Packet) -> Result<Row> {
        let frame = request.bytes();
        let times: Result<Vec<f64>> = (0..self.rounds)
            .map(|_| self.pass(REFERENCE, &frame, REPEAT))
            .collect();
        Ok(row("reference", times?, None, None))
    }

    /// Measured in turn with the reference: A B A B.
    fn row(
        &mut self,
        name: &'static str,
        program: &'static str,
        packet: &Packet,
        reference: &Packet,
        goal: Option<f64>,
    ) -> Result<Row> {
        let (frame, reference) = (packet.bytes(), reference.bytes());
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let base = self.pass(REFERENCE, &reference, REPEAT)?;
            let time = self.pass(program, &frame, REPEAT)?;
            times.push(time);
            ratios.push(time / base);
        }
        Ok(row(name, times, Some(median(&mut ratios)), goal))
    }

    /// Single passes, each of a packet from another port: what cannot be done twice to one frame.
    fn single(
        &mut self,
        name: &'static str,
        program: &'static str,
        packet: impl Fn(u16) -> Packet,
    ) -> Result<Option<Row>> {
        if !self.is_wanted(name) {
            return Ok(None);
        }
        let mut times = Vec::new();
        let mut port = FIRST_PORT;
        for _ in 0..self.rounds.min(20) {
            let mut round = Vec::new();
            for _ in 0..FRESH {
                round.push(self.once(program, &packet(port).bytes())?);
                port = port.wrapping_add(1);
            }
            times.push(median(&mut round));
        }
        Ok(Some(row(name, times, None, None)))
    }
}

fn row(name: &'static str, mut times: Vec<f64>, ratio: Option<f64>, goal: Option<f64>) -> Row {
    let nanoseconds = median(&mut times);
    let edge = |place: Option<&f64>| place.copied().unwrap_or(nanoseconds);
    let spread = (edge(times.first()), edge(times.last()));
    Row {
        name,
        nanoseconds,
        spread,
        ratio,
        goal,
    }
}

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn table(family: &Family, rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28} {:>8} {:>15} {:>10} {:>6}\n",
        family.name, "ns", "min - max", "reference", "goal"
    );
    for Row {
        name,
        nanoseconds,
        spread: (min, max),
        ratio,
        goal,
    } in rows
    {
        let ratio = ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let goal = goal.map_or_else(String::new, |goal| format!("{goal:.1}"));
        let spread = format!("{min:.0} - {max:.0}");
        let _ = writeln!(
            text,
            "{name:<28} {nanoseconds:>8.0} {spread:>15} {ratio:>10} {goal:>6}"
        );
    }
    text
}
