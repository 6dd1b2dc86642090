//! `cargo xtask bench`: figures, in ratios of one run.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use clap::Parser;

/// What to measure.
#[derive(Parser, Debug)]
enum Subject {
    /// Nanoseconds a packet spends in the programs, by test-run, beside a reference
    Packet {
        /// Rounds; the median counts
        #[arg(long, default_value_t = 31)]
        rounds: usize,
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
    /// The process that makes the calls of `socket`
    #[command(hide = true)]
    Caller,
}

fn main() -> anyhow::Result<()> {
    match Subject::parse() {
        Subject::Packet { rounds } => clusterip_tests::bench::packet::run(rounds),
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
        Subject::Caller => {
            clusterip_tests::caller::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
            Ok(())
        }
    }
}
