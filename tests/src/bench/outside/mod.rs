//! From outside by a node port: packets a second that a node takes at its uplink and hands on, on one processor.
//!
//! The client's device sends live frames (as in [`uplink`](super::uplink)), so that they cost next to nothing to make, and what
//! has arrived is dropped where it arrives: what is left is the node's own work. The flow has been answered before. All ways stand at the
//! same time; a round goes through them in turn, each right after the direct one.

mod rules;
mod stage;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::stage::{Stage, TARGETS, Way};
use super::{
    frames::Frames,
    path::clock::Clock,
    table::{Cell, Line, Table},
};

/// For figures.
pub const FULL: Frames = Frames {
    rounds: 21,
    frames: 1 << 16,
};

const WAYS: [(&str, Way); 5] = [
    ("pod address, direct", Way::Direct),
    ("kube-proxy's iptables", Way::Iptables),
    ("kube-proxy's nftables", Way::Nftables),
    ("clusterip, TC", Way::Agent("tc")),
    ("clusterip, XDP", Way::Agent("auto")),
];
/// Trials of the clocks, and frames of one.
const TRIALS: usize = 40;
const TRIAL: u32 = 512;

/// Measures, and makes the table.
///
/// # Errors
/// Not root, a program is missing, or a way carries nothing.
pub fn table(scale: Frames) -> Result<Table> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench outside makes namespaces: it needs root"
    );
    let mut stages = Vec::new();
    for (name, way) in WAYS {
        stages.push(Stage::new(way).with_context(|| name.to_owned())?);
    }
    let mut columns = Vec::new();
    for place in 0..TARGETS.len() {
        columns.push(measure(&mut stages, place, scale)?);
    }
    let rows = WAYS.iter().enumerate().map(|(row, (name, _))| Line {
        name: (*name).to_owned(),
        cells: columns
            .iter()
            .map(|column| column.get(row).copied())
            .collect(),
    });
    Ok(Table {
        name: "outside".to_owned(),
        title: "From outside, by a node port".to_owned(),
        unit: "x direct".to_owned(),
        absolute: "packets/s".to_owned(),
        columns: TARGETS.map(|target| target.name.to_owned()).to_vec(),
        rows: rows.collect(),
        notes: vec![
            format!(
                "Live frames of 64 bytes of an answered flow, made at the client's end of a veth and dropped at the receiver's, \
                 on one processor, {} rounds, each way right after the direct one. The node stands for the client \
                 (externalTrafficPolicy Cluster) but for the direct way.",
                scale.rounds
            ),
            super::path::versions(),
        ],
    })
}

/// By way: ratios to the direct one.
fn measure(stages: &mut [Stage], target: usize, scale: Frames) -> Result<Vec<Cell>> {
    let (direct, others) = stages.split_first_mut().context("no way")?;
    let clock = clock(direct, target)?;
    let rate = |stage: &mut Stage| -> Result<f64> {
        let (wall, thread) = stage.send(target, scale.frames)?;
        let spent = match clock {
            Clock::Wall => wall,
            Clock::Thread => thread,
        };
        Ok(f64::from(scale.frames) / spent.as_secs_f64())
    };
    let mut alone = Vec::new();
    let mut all = vec![(Vec::new(), Vec::new()); others.len()];
    for round in 0..=scale.rounds {
        for ((stage, figures), (name, _)) in others.iter_mut().zip(&mut all).zip(&WAYS[1..]) {
            let plain = rate(direct)?;
            let rate = rate(stage).with_context(|| (*name).to_owned())?;
            // The first round warms the caches.
            if round > 0 {
                alone.push(plain);
                figures.0.push(rate / plain);
                figures.1.push(rate);
            }
        }
    }
    let ones = vec![1.0; alone.len()];
    let rest = all
        .into_iter()
        .map(|(ratios, rates)| Cell::of(ratios).made_of(rates));
    Ok([Cell::of(ones).made_of(alone)]
        .into_iter()
        .chain(rest)
        .collect())
}

/// The one to go by: see [`Clock`].
fn clock(stage: &mut Stage, target: usize) -> Result<Clock> {
    let mut parts = Vec::new();
    for _ in 0..TRIALS {
        let (wall, thread): (Duration, Duration) = stage.send(target, TRIAL)?;
        parts.push(thread.as_secs_f64() / wall.as_secs_f64());
    }
    Ok(Clock::fitting(&parts))
}
