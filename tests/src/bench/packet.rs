//! Nanoseconds a packet spends in the programs, by test-run.
//!
//! Test-run passes one buffer through a program again and again. A translated packet would not be the same the second
//! time: here the backend has the service's own address and port, so that every pass does the whole work and changes
//! nothing.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use aya::{TestRun, TestRunOptions, programs::SchedClassifier};
use bytes::Bytes;
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        bpf::Bpf,
        load::{FROM_POD, LoadOptions, Loaded, REFERENCE, TO_POD, load},
    },
    plan::{Tables, diff},
};

use crate::{
    packet::{Packet, udp},
    world::{service, settings},
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
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        client: "10.244.0.5",
        vip: "10.96.0.10:53",
        elsewhere: "10.244.1.7:53",
    },
    Family {
        name: "IPv6",
        client: "[fd00:10:244::5]",
        vip: "[fd00:10:96::a]:53",
        elsewhere: "[fd00:10:244:1::7]:53",
    },
];

struct Bench {
    loaded: Loaded,
    rounds: usize,
}

/// Prints the table.
///
/// # Errors
/// Not root, or the kernel refuses.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(rounds: usize) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench packet runs BPF programs: it needs root"
    );
    for family in &FAMILIES {
        println!("{}", table(family, &measure(family, rounds.max(1))?));
    }
    Ok(())
}

fn measure(family: &Family, rounds: usize) -> Result<Vec<Row>> {
    let mut loaded = load(&LoadOptions {
        settings: settings(),
        ..LoadOptions::default()
    })?;
    let mut maps = Bpf::new(&mut loaded)?;
    let world = service(&format!("{}/udp", family.vip), &[family.vip]);
    maps.apply(&diff(&Tables::default(), &world.tables))?;
    loaded
        .program(REFERENCE)?
        .load()
        .context("load the reference")?;
    let mut bench = Bench { loaded, rounds };

    let client = format!("{}:31337", family.client);
    let request = udp(&client, family.vip).payload([0; 22]);
    let reply = udp(family.vip, &client).payload([0; 22]);
    let other = udp(&client, family.elsewhere).payload([0; 22]);
    // Opens the flow that the others find: both sides speak.
    bench.once(FROM_POD, &request.bytes())?;
    bench.once(TO_POD, &reply.bytes())?;
    Ok(vec![
        bench.reference(&request)?,
        bench.row(
            "established, request",
            FROM_POD,
            &request,
            &request,
            Some(1.3),
        )?,
        bench.row("established, reply", TO_POD, &reply, &request, Some(1.3))?,
        bench.row(
            "not ours, from a pod",
            FROM_POD,
            &other,
            &request,
            Some(0.5),
        )?,
        bench.row("not ours, to a pod", TO_POD, &other, &request, Some(0.5))?,
        bench.fresh(family)?,
    ])
}

impl Bench {
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

    /// A new flow cannot be opened twice: single passes, each from another port, and a clock read in each.
    fn fresh(&mut self, family: &Family) -> Result<Row> {
        let mut times = Vec::new();
        let mut port = FIRST_PORT;
        for _ in 0..self.rounds.min(20) {
            let mut round = Vec::new();
            for _ in 0..FRESH {
                let client = format!("{}:{port}", family.client);
                let frame = udp(&client, family.vip).payload([0; 22]).bytes();
                round.push(self.once(FROM_POD, &frame)?);
                port = port.wrapping_add(1);
            }
            times.push(median(&mut round));
        }
        Ok(row("new flow", times, None, None))
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
        "{:<24} {:>8} {:>15} {:>10} {:>6}\n",
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
            "{name:<24} {nanoseconds:>8.0} {spread:>15} {ratio:>10} {goal:>6}"
        );
    }
    text
}
