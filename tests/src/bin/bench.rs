//! `cargo xtask bench`: figures, in ratios of one run.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use std::{env, path::Path};

use anyhow::Context as _;
use clap::{Args, Parser};
use clusterip_tests::bench::{
    all,
    document::{Document, FOLDER},
    frames::Frames,
    outside,
    path::{self, Parts, Scale},
    table::Table,
    uplink,
};

/// What to measure.
#[derive(Parser, Debug)]
enum Subject {
    /// All that follows, in one run; text, JSON and plots below target/bench
    All {
        /// Little and short: whether all of it runs
        #[arg(long)]
        quick: bool,
        /// Put the tables and plots into docs/performance.md, too
        #[arg(long)]
        docs: bool,
    },
    /// Put the tables and plots of the last runs into docs/performance.md
    Docs,
    /// Nanoseconds a packet spends in the programs, by test-run, beside a reference
    Packet {
        /// Rounds; the median counts
        #[arg(long, default_value_t = 31)]
        rounds: usize,
        /// Only the rows that have this in their names
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Nanoseconds of a connect with the programs at sockets, beside one without
    Socket {
        /// Rounds; the quickest counts
        #[arg(long, default_value_t = 51)]
        rounds: usize,
    },
    /// Speed and memory of the agent
    Agent {
        /// Rounds; the median counts
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// A tenth of the size, one round, no goals
        #[arg(long)]
        quick: bool,
        /// One part: first, changing, memory, latency or api-server
        #[arg(long, default_value = "")]
        only: String,
    },
    /// What commands and scrapes take, with 10,000 services and 200,000 flows
    Sight {
        /// Rounds; the median counts
        #[arg(long, default_value_t = 9)]
        rounds: usize,
        /// A tenth of the size, one round
        #[arg(long)]
        quick: bool,
    },
    /// Questions a second that the resolver answers, and how long one takes, at 10 and at 10,000 services
    Dns {
        /// Seconds of each measurement
        #[arg(long, default_value_t = 5)]
        seconds: u32,
    },
    /// What a packet and a connection cost from pod to pod, beside kube-proxy's rules, with up to 50,000 services
    Path {
        #[command(flatten)]
        scale: ScaleArguments,
    },
    /// How long the first answer of a connection takes, by number of services
    First {
        #[command(flatten)]
        scale: ScaleArguments,
    },
    /// What comes in by an uplink, at its driver, beside a turn alone
    Uplink {
        /// Few frames: whether it runs
        #[arg(long)]
        quick: bool,
    },
    /// What comes from outside by a node port, by TC and XDP, beside kube-proxy's rules
    Outside {
        /// Few frames: whether it runs
        #[arg(long)]
        quick: bool,
    },
    /// The process that sends and receives for `path`
    #[command(hide = true)]
    Worker {
        #[command(flatten)]
        arguments: path::WorkerArguments,
    },
    /// The process that makes the calls of `socket`
    #[command(hide = true)]
    Caller,
}

/// How much of `path` and `first` is measured.
#[derive(Args, Clone, Debug)]
struct ScaleArguments {
    /// Rounds; the median counts
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Few services and short measurements: whether all of it runs
    #[arg(long)]
    quick: bool,
    /// Numbers of services, in the place of the usual ones
    #[arg(long, value_delimiter = ',')]
    services: Vec<u32>,
}

impl ScaleArguments {
    fn scale(self) -> Scale {
        let mut scale = if self.quick {
            Scale::quick()
        } else {
            Scale::full(self.rounds)
        };
        if !self.services.is_empty() {
            scale.sizes = self.services;
        }
        scale
    }

    fn run(self, name: &str, parts: Parts) -> anyhow::Result<()> {
        let is_quick = self.quick;
        let program = env::current_exe().context("find this program")?;
        show(
            name,
            is_quick,
            &path::tables(&program, &self.scale(), parts)?,
        )
    }
}

#[expect(clippy::print_stdout, reason = "the tables are the purpose")]
fn show(name: &str, is_quick: bool, tables: &[Table]) -> anyhow::Result<()> {
    let document = Document {
        name,
        is_quick,
        tables,
    };
    println!("{}", document.text());
    document.save(Path::new(FOLDER))
}

fn main() -> anyhow::Result<()> {
    match Subject::parse() {
        Subject::All { quick, docs } => {
            let program = env::current_exe().context("find this program")?;
            all::run(&program, quick)?;
            if docs { all::write_document() } else { Ok(()) }
        }
        Subject::Docs => all::write_document(),
        Subject::Uplink { quick } => {
            let scale = if quick { Frames::QUICK } else { uplink::FULL };
            show("uplink", quick, &[uplink::table(scale)?])
        }
        Subject::Outside { quick } => {
            let scale = if quick { Frames::QUICK } else { outside::FULL };
            show("outside", quick, &[outside::table(scale)?])
        }
        Subject::Packet { rounds, only } => clusterip_tests::bench::packet::run(rounds, &only),
        Subject::Socket { rounds } => clusterip_tests::bench::socket::run(rounds),
        Subject::Agent {
            rounds,
            quick,
            only,
        } => clusterip_tests::bench::agent::run(rounds, quick, &only),
        Subject::Sight { rounds, quick } => {
            clusterip_tests::bench::agent::sight::run(rounds, quick)
        }
        Subject::Dns { seconds } => clusterip_tests::bench::dns::run(seconds),
        Subject::Path { scale } => {
            let parts = Parts {
                rates: true,
                firsts: true,
            };
            scale.run("path", parts)
        }
        Subject::First { scale } => {
            let parts = Parts {
                rates: false,
                firsts: true,
            };
            scale.run("first", parts)
        }
        Subject::Worker { arguments } => path::serve(&arguments),
        Subject::Caller => {
            clusterip_tests::caller::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(())
        }
    }
}
