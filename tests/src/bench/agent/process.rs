//! The real agent as a process: its memory, and the way from a file to the maps.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{HashMap, Map, MapData, MapError};
use clusterip_agent::dataplane::{pins::Pins, raw::Raw};
use clusterip_common::{
    abi::{Service, ServiceKey, maps},
    wire::{Be16, Proto},
};

use super::{
    Scale,
    clock::{Cost, Summary},
    cluster::{Cluster, FIRST_VIP, Form, LARGE, PORT},
    report::Row,
};
use crate::{Agent, Node, agent::BPFFS, manifests::Manifests};

/// Looks at the map so often.
pub(super) const PAUSE: Duration = Duration::from_micros(200);
/// A change that takes longer than this was lost.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// How the manifests lie in their folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    ManyFiles,
    OneFile,
}

/// What an agent is that has read a cluster and programmed it.
pub(super) fn memory(scale: &Scale, rows: &mut Vec<Row>) -> Result<()> {
    let size = scale.many.size();
    for (layout, form, what) in [
        (Layout::ManyFiles, Form::Slices, "slices, a file each"),
        (Layout::OneFile, Form::Slices, "slices, one file"),
        (
            Layout::ManyFiles,
            Form::Pods,
            "pods, a file for each service",
        ),
    ] {
        let manifests = Manifests::new()?;
        write(&scale.many, manifests.path(), layout, form)?;
        let node = Node::anonymous()?;
        let start = Instant::now();
        let agent = started(&node, &scale.many, &manifests)?;
        let ready = Cost {
            wall: start.elapsed(),
            ..Cost::default()
        };
        let id = agent.id().context("the agent runs")?;
        let name = format!("start until ready, {what}, {size}");
        rows.push(Row::figure(
            name,
            "ms",
            super::clock::milliseconds(ready.wall),
        ));
        let resident = status(id, "VmRSS")?;
        let row = Row::figure(format!("resident memory, {what}, {size}"), "MiB", resident);
        rows.push(if form == Form::Slices {
            scale.goal(row, 150.0)
        } else {
            row
        });
        let peak = status(id, "VmHWM")?;
        rows.push(Row::figure(
            format!("peak memory, {what}, {size}"),
            "MiB",
            peak,
        ));
    }
    Ok(())
}

/// From a file that is put in its place to the head of its service in the map.
pub(super) fn latency(scale: &Scale, rows: &mut Vec<Row>) -> Result<()> {
    for cluster in [scale.few, scale.many] {
        let manifests = Manifests::new()?;
        write(&cluster, manifests.path(), Layout::ManyFiles, Form::Slices)?;
        let node = Node::anonymous()?;
        let agent = started(&node, &cluster, &manifests)?;
        let heads = Heads::open(&node)?;
        let mut costs = Vec::new();
        for round in 1..=scale.rounds * 4 {
            let before = heads.first()?;
            let start = Instant::now();
            cluster.rewrite_first(manifests.path(), round)?;
            while heads.first()? == before {
                ensure!(
                    start.elapsed() < PATIENCE,
                    "a changed file has no effect\n{}",
                    agent.log()
                );
                thread::sleep(PAUSE);
            }
            costs.push(start.elapsed());
        }
        let costs: Vec<Cost> = costs
            .into_iter()
            .map(|wall| Cost {
                wall,
                ..Cost::default()
            })
            .collect();
        let name = format!("a file changed until programmed, {}", cluster.size());
        rows.push(Row::time(name, &Summary::of(&costs)));
    }
    Ok(())
}

fn write(cluster: &Cluster, folder: &Path, layout: Layout, form: Form) -> Result<()> {
    match layout {
        Layout::ManyFiles => cluster.write_files(folder, form),
        Layout::OneFile => cluster.write_large(folder, form, LARGE),
    }
}

fn started(node: &Node, cluster: &Cluster, manifests: &Manifests) -> Result<Agent> {
    let [services, backends] = room(cluster);
    let more = ["--max-services", &services, "--max-backends", &backends];
    Agent::start(node, manifests.path(), &more)
}

/// How many services and backends the maps have room for.
pub(super) fn room(cluster: &Cluster) -> [String; 2] {
    let services = cluster.services * 3;
    let endpoints = cluster.services * cluster.endpoints * 3 / 2;
    [services, endpoints].map(|it| it.next_power_of_two().to_string())
}

/// A figure of a process, in MiB.
pub(super) fn status(id: u32, name: &str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let words = found.and_then(|rest| rest.strip_prefix(':'));
    let number = words.and_then(|rest| rest.split_whitespace().next());
    let kibibytes: u32 = number
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("{name} of process {id}"))?;
    Ok(f64::from(kibibytes) / 1024.0)
}

/// The heads of services, as the kernel has them.
pub(super) struct Heads(HashMap<MapData, Raw<ServiceKey>, Raw<Service>>);

impl Heads {
    pub(super) fn open(node: &Node) -> Result<Self> {
        let path = Pins::new(Path::new(BPFFS)).map(&maps::SERVICES);
        let data = node
            .namespace()
            .run(|| MapData::from_pin(&path).map_err(std::io::Error::other))
            .with_context(|| format!("open {}", path.display()))?;
        Ok(Self(HashMap::try_from(Map::from_map_data(data)?)?))
    }

    /// The head of the first service.
    pub(super) fn first(&self) -> Result<Option<Service>> {
        let key = ServiceKey::new(IpAddr::V4(FIRST_VIP).into(), Be16::new(PORT), Proto::TCP);
        match self.0.get(&Raw(key), 0) {
            Ok(Raw(head)) => Ok(Some(head)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error).context("read the head of a service"),
        }
    }
}
