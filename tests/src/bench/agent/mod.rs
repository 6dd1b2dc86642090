//! Speed and memory of the agent.
//!
//! Time is told as a clock on the wall shows it, and as the processor had it; what shall not depend on the number of services is
//! a ratio of two measurements made in turn.

mod clock;
pub mod cluster;
mod kubernetes;
mod process;
mod programming;
mod report;
pub mod sight;

use std::path::Path;

use anyhow::{Result, ensure};

use self::{cluster::Cluster, report::Row};

/// Where the figures are written, below the folder that this is started in.
const FIGURES: &str = "target/bench/agent.json";

type Part = fn(&Scale, &mut Vec<Row>) -> Result<()>;

/// What is measured.
const PARTS: [(&str, Part); 5] = [
    ("first", programming::first),
    ("changing", programming::changing),
    ("memory", process::memory),
    ("latency", process::latency),
    ("api-server", kubernetes::api_server),
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// The goals are for the full size.
    is_quick: bool,
    rounds: usize,
    /// For memory and the first programming.
    many: Cluster,
    /// For changes.
    few: Cluster,
    /// For changes and whole comparisons.
    most: Cluster,
}

impl Scale {
    const fn full(rounds: usize) -> Self {
        Self {
            is_quick: false,
            rounds,
            many: cluster(10_000, 10),
            few: cluster(100, 5),
            most: cluster(50_000, 5),
        }
    }

    const fn quick() -> Self {
        Self {
            is_quick: true,
            rounds: 1,
            many: cluster(1_000, 10),
            few: cluster(100, 5),
            most: cluster(5_000, 5),
        }
    }

    const fn goal(&self, row: Row, goal: f64) -> Row {
        if self.is_quick { row } else { row.goal(goal) }
    }
}

const fn cluster(services: usize, endpoints: usize) -> Cluster {
    Cluster {
        services,
        endpoints,
    }
}

/// Prints the table, and keeps it as JSON.
///
/// `only` is what the names of the parts have that are measured; nothing is all of them.
///
/// # Errors
/// Not root, or the kernel refuses.
#[expect(clippy::print_stdout, reason = "the table is the purpose")]
pub fn run(rounds: usize, is_quick: bool, only: &str) -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench agent fills BPF maps: it needs root"
    );
    let scale = if is_quick {
        Scale::quick()
    } else {
        Scale::full(rounds.max(1))
    };
    println!("{}", report::head());
    let mut rows = Vec::new();
    for (_, part) in PARTS.into_iter().filter(|(name, _)| name.contains(only)) {
        let printed = rows.len();
        part(&scale, &mut rows)?;
        for row in rows.iter().skip(printed) {
            println!("{row}");
        }
    }
    report::save(Path::new(FIGURES), is_quick, &rows)
}
