//! Nanoseconds of a `connect`, with and without the programs at sockets. The kernel has no test-run for them: real
//! calls of a process in a cgroup of its own, on a UDP socket, which sends nothing.

use std::{env, io, net::SocketAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        bpf::Bpf,
        cgroup,
        load::{LoadOptions, load},
        netns,
        pins::Pins,
    },
    plan::{Tables, diff},
};

use super::table::{Cell, Line, Table};
use crate::{
    Caller, Cgroup, Node,
    agent::BPFFS,
    world::{service, settings},
};

/// Calls of one measurement.
const CALLS: u32 = 20_000;

/// Addresses of one family: a service, and the backend that a direct call names too.
struct Family {
    name: &'static str,
    vip: &'static str,
    backend: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        name: "IPv4",
        vip: "10.96.0.10:53",
        backend: "127.0.0.1:5353",
    },
    Family {
        name: "IPv6",
        vip: "[fd00:10:96::a]:53",
        backend: "[::1]:5353",
    },
];

/// What is called.
const CALLED: [&str; 3] = [
    "connect, no program",
    "connect, not ours",
    "connect to a service",
];

/// Prints the table.
///
/// # Errors
/// Not root, or the kernel refuses.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(rounds: usize) -> Result<()> {
    for (Family { name, .. }, [plain, other, service]) in FAMILIES.iter().zip(measure(rounds)?) {
        println!("{name:<28} {:>8} {:>8}", "ns", "more");
        for (what, time) in CALLED.iter().zip([plain, other, service]) {
            println!("{what:<28} {time:>8} {:>8}", time.saturating_sub(plain));
        }
        println!();
    }
    Ok(())
}

/// The same as a table.
///
/// # Errors
/// As [`run`].
pub fn tables(rounds: usize) -> Result<Vec<Table>> {
    let families = measure(rounds)?;
    let rows = CALLED.iter().enumerate().map(|(place, name)| {
        let cell = |times: &[u64; 3]| {
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a call")]
            let time = *times.get(place)? as f64;
            Some(Cell::of(vec![time]))
        };
        Line {
            name: (*name).to_owned(),
            cells: families.iter().map(cell).collect(),
        }
    });
    Ok(vec![Table {
        name: "socket".to_owned(),
        title: "A connect of a UDP socket, the quickest round".to_owned(),
        unit: "ns".to_owned(),
        absolute: String::new(),
        columns: FAMILIES.map(|family| family.name.to_owned()).to_vec(),
        rows: rows.collect(),
        notes: Vec::new(),
    }])
}

/// Nanoseconds of each of [`CALLED`], by family.
fn measure(rounds: usize) -> Result<Vec<[u64; 3]>> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench socket attaches BPF programs: it needs root"
    );
    let node = Node::anonymous()?;
    let (with, without) = (Cgroup::new()?, Cgroup::new()?);
    node.namespace()
        .run(|| attach(&with).map_err(io::Error::other))?;
    let program = env::current_exe().context("find this executable")?;
    let start = |cgroup| {
        let mut command = node.namespace().command(&program);
        command.arg("caller");
        Caller::run(command, cgroup)
    };
    let (mut with, mut without) = (start(&with)?, start(&without)?);
    let mut families = Vec::new();
    for Family { vip, backend, .. } in FAMILIES {
        let (vip, backend): (SocketAddr, SocketAddr) = (vip.parse()?, backend.parse()?);
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..rounds.max(1) {
            let [plain, other, service] = &mut times;
            plain.push(without.time(CALLS, backend)?);
            other.push(with.time(CALLS, backend)?);
            service.push(with.time(CALLS, vip)?);
        }
        families.push(times.map(|times| quickest(&times)));
    }
    Ok(families)
}

/// Other work on the machine only adds: the quickest round is the nearest.
fn quickest(times: &[u64]) -> u64 {
    times.iter().copied().min().unwrap_or_default()
}

/// Attaches the programs; their pins hold them until the node goes.
fn attach(cgroup: &Cgroup) -> Result<()> {
    let pins = Pins::new(Path::new(BPFFS));
    let mut settings = settings();
    settings.socket_netns = netns::cookie()?;
    let mut loaded = load(&LoadOptions {
        pins: Some(pins.clone()),
        settings,
        ..LoadOptions::default()
    })?;
    let mut maps = Bpf::new(&mut loaded)?;
    let [v4, v6] = FAMILIES.map(|family| (format!("{}/udp", family.vip), [family.backend]));
    let world = service(&v4.0, &v4.1).and(&v6.0, &v6.1);
    maps.apply(&diff(&Tables::default(), &world.tables))?;
    cgroup::attach(&mut loaded, &pins, cgroup.path())?;
    Ok(())
}
