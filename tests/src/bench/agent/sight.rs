//! What it costs to look: commands and scrapes beside many services and full flow tables, with the real agent.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData};
use clusterip_agent::dataplane::{pins::Pins, raw::Raw};
use clusterip_common::{
    abi::{
        Backend, BackendId, BackendState, Direction, Flow, FlowKey, FlowState,
        maps::{self, Shape},
    },
    wire::{Addr, Be16, Proto},
};
use nix::time::{ClockId, clock_gettime};

use super::{
    clock::{Cost, Summary, milliseconds},
    cluster::{Cluster, FIRST_VIP, Form, LARGE, PORT},
    process::Heads,
    report::{self, Row},
};
use crate::{Agent, Node, agent::BPFFS, client::Connection, manifests::Manifests, sys};

/// Where the figures are written, below the folder that this is started in.
const FIGURES: &str = "target/bench/sight.json";
/// Where the agent's metrics are.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10249);
/// Clients of the flows that are made up.
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 0);
/// Between two looks at the map.
const PAUSE: Duration = Duration::from_micros(200);

/// How much there is to look at.
struct Scale {
    cluster: Cluster,
    flows: u32,
    rounds: usize,
}

/// Prints the table, and keeps it as JSON.
///
/// # Errors
/// Not root, or the kernel refuses.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(rounds: usize, is_quick: bool) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench sight fills BPF maps: it needs root"
    );
    let part = if is_quick { 10 } else { 1 };
    let scale = Scale {
        cluster: Cluster {
            services: 10_000 / part,
            endpoints: 3,
        },
        flows: 200_000 / u32::try_from(part)?,
        rounds: if is_quick { 1 } else { rounds.max(1) },
    };
    let mut rows = Vec::new();
    println!("{}", report::head());
    for per_backend in ["on", "off"] {
        let printed = rows.len();
        measure(&scale, per_backend, &mut rows)?;
        for row in rows.iter().skip(printed) {
            println!("{row}");
        }
    }
    report::save(Path::new(FIGURES), is_quick, &rows)
}

fn measure(scale: &Scale, per_backend: &str, rows: &mut Vec<Row>) -> Result<()> {
    let Scale {
        cluster,
        flows,
        rounds,
    } = scale;
    let manifests = Manifests::new()?;
    cluster.write_large(manifests.path(), Form::Slices, LARGE)?;
    let node = Node::anonymous()?;
    let entries = (2 * flows).next_power_of_two().to_string();
    let more = ["--max-services", "65536", "--max-flows", &entries];
    let told = ["--metrics-per-backend", per_backend];
    let agent = Agent::start(&node, manifests.path(), &[more.as_slice(), &told].concat())?;
    fill(&node, *flows)?;
    let size = format!("{}, {flows} flows", cluster.size());
    let looks = Looks {
        node: &node,
        agent: &agent,
        rounds: *rounds,
    };
    if per_backend == "on" {
        let first = "team-0/service-00000";
        for (arguments, goal) in [
            (["get", "services", "-A"].as_slice(), Some(100.0)),
            (&["get", "services", first], None),
            (&["get", "flows", "--service", first], Some(200.0)),
            (&["get", "endpoints", first], None),
            (&["status"], None),
        ] {
            let row = looks.command(arguments, &size)?;
            rows.push(match goal {
                Some(goal) => row.goal(goal),
                None => row,
            });
        }
    }
    let name = format!("scrape, each backend {per_backend}");
    looks.scrape(&name, rows)?;
    if per_backend == "on" {
        programming(&looks, cluster, rows)?;
    }
    Ok(())
}

/// Whoever looks.
struct Looks<'a> {
    node: &'a Node,
    agent: &'a Agent,
    rounds: usize,
}

impl Looks<'_> {
    /// A command, from its start to its end; the processor's time is its own and the agent's.
    fn command(&self, arguments: &[&str], size: &str) -> Result<Row> {
        let costs = self.costs(|| {
            let said = self.agent.ask(arguments)?;
            ensure!(said.code == Some(0), "{arguments:?}: {}", said.error);
            Ok(())
        })?;
        let name = format!("clusterip {}, {size}", arguments.join(" "));
        Ok(Row::time(name, &Summary::of(&costs)))
    }

    fn scrape(&self, name: &str, rows: &mut Vec<Row>) -> Result<()> {
        let mut size = 0;
        // The first one counts the tables, and makes the memory that the others find.
        let first = Looks { rounds: 1, ..*self }.costs(|| self.ask_metrics().map(drop))?;
        let counting = format!("{name}, with a count of the flows");
        rows.push(Row::time(counting, &Summary::of(&first)));
        let costs = self.costs(|| {
            size = self.ask_metrics()?;
            Ok(())
        })?;
        let summary = Summary::of(&costs);
        rows.push(Row::time(name, &summary));
        let agent = milliseconds(summary.cpu);
        rows.push(Row::figure(format!("{name}, agent's time"), "ms", agent).goal(100.0));
        let mebibytes = f64::from(u32::try_from(size >> 10)?) / 1024.0;
        rows.push(Row::figure(format!("{name}, text"), "MiB", mebibytes));
        Ok(())
    }

    fn ask_metrics(&self) -> Result<usize> {
        let ask = || Connection::open(METRICS)?.http("/metrics");
        let response = self.node.namespace().run(ask)?;
        ensure!(response.status == 200, "status {}", response.status);
        Ok(response.body.len())
    }

    fn costs(&self, mut look: impl FnMut() -> Result<()>) -> Result<Vec<Cost>> {
        let id = self.agent.id().context("the agent runs")?;
        let once = |_| {
            let (start, before) = (Instant::now(), processor(id)?);
            let commands = sys::children_time()?;
            look()?;
            let agent = processor(id)?.saturating_sub(before);
            let own = sys::children_time()?.saturating_sub(commands);
            Ok(Cost {
                wall: start.elapsed(),
                cpu: agent + own,
                writes: 0,
            })
        };
        (0..self.rounds).map(once).collect()
    }
}

/// How long a change takes to be programmed, without and with somebody who scrapes all the time.
fn programming(looks: &Looks<'_>, cluster: &Cluster, rows: &mut Vec<Row>) -> Result<()> {
    let folder = Manifests::new()?;
    cluster.write_files(folder.path(), Form::Slices)?;
    let node = Node::anonymous()?;
    let more = ["--max-services", "65536"];
    let agent = Agent::start(&node, folder.path(), &more)?;
    let heads = Heads::open(&node)?;
    let other = Looks {
        node: &node,
        agent: &agent,
        rounds: looks.rounds,
    };
    let mut round = 0;
    let mut change = || -> Result<Vec<Cost>> {
        let mut costs = Vec::new();
        for _ in 0..looks.rounds {
            round += 1;
            let before = heads.first()?;
            let start = Instant::now();
            cluster.rewrite_first(folder.path(), round)?;
            while heads.first()? == before {
                ensure!(start.elapsed() < Duration::from_secs(20), "no effect");
                thread::sleep(PAUSE);
            }
            costs.push(Cost {
                wall: start.elapsed(),
                ..Cost::default()
            });
        }
        Ok(costs)
    };
    let quiet = change()?;
    rows.push(Row::time(
        "a file changed until programmed",
        &Summary::of(&quiet),
    ));
    let done = AtomicBool::new(false);
    let busy = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // A failure shows in the figures before this one.
                drop(other.ask_metrics());
            }
        });
        let busy = change();
        done.store(true, Ordering::Relaxed);
        busy
    })?;
    rows.push(Row::time(
        "the same while somebody scrapes without a pause",
        &Summary::of(&busy),
    ));
    Ok(())
}

/// What a process has had of the processors, by its threads that live.
fn processor(id: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{id}/task"))?.flatten() {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = text.split(' ').next().and_then(|word| word.parse().ok());
        sum += Duration::from_nanos(first.unwrap_or_default());
    }
    Ok(sum)
}

/// Flows of made-up clients, spread over the backends.
fn fill(node: &Node, flows: u32) -> Result<()> {
    let backends: Array<MapData, Raw<Backend>> = Array::try_from(open(node, &maps::BACKENDS)?)?;
    let mut all = Vec::new();
    for id in 0..backends.len() {
        let Raw(backend) = backends.get(&id, 0)?;
        if backend.state == BackendState::ACTIVE {
            all.push((BackendId(id), backend));
        }
    }
    let mut table: HashMap<MapData, Raw<FlowKey>, Raw<Flow>> =
        HashMap::try_from(open(node, &maps::FLOWS)?)?;
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let last_seen = u64::try_from(now.tv_sec())?.saturating_mul(1_000_000_000);
    for (index, (id, backend)) in (0..flows).zip(all.iter().cycle()) {
        let client = Ipv4Addr::from_bits(FIRST_CLIENT.to_bits() + index / 20_000);
        let (client, port) = (
            Addr::from(IpAddr::V4(client)),
            Be16::new(u16::try_from(20_000 + index % 20_000)?),
        );
        let vip = Addr::from(IpAddr::V4(FIRST_VIP));
        for (direction, source, destination, ports) in [
            (Direction::REQUEST, client, vip, (port, Be16::new(PORT))),
            (
                Direction::REPLY,
                backend.address,
                client,
                (backend.port, port),
            ),
        ] {
            let key = FlowKey {
                source,
                destination,
                source_port: ports.0,
                destination_port: ports.1,
                protocol: Proto::TCP,
                zero: 0,
                zero_tail: 0,
            };
            let flow = Flow {
                last_seen,
                address: backend.address,
                backend: *id,
                generation: backend.generation,
                port: backend.port,
                client_port: port,
                direction,
                state: FlowState::ESTABLISHED,
                node_port: Be16::new(0),
            };
            table.insert(Raw(key), Raw(flow), 0)?;
        }
    }
    Ok(())
}

fn open(node: &Node, shape: &Shape) -> Result<Map> {
    let path = Pins::new(Path::new(BPFFS)).map(shape);
    let data = node
        .namespace()
        .run(|| MapData::from_pin(&path).map_err(io::Error::other))
        .with_context(|| format!("open {}", path.display()))?;
    Ok(Map::from_map_data(data)?)
}
