//! The command line: one file per subcommand.

mod check;
mod cleanup;
mod output;
pub mod plan;
mod run;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use self::{output::Format, plan::Plan};
use crate::{
    config::{CHECK, Config, ConfigError, Flags, PLAN, RUN},
    logging,
    model::{
        allocate::Allocations,
        event::Event,
        range::ServiceRange,
        resolver::{Resolver, snapshot_of},
        snapshot::Snapshot,
        validate::Rules,
    },
    source::manifests,
};

/// Services for a node, answered by eBPF.
#[derive(Parser, Debug)]
#[command(name = "clusterip", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the node agent
    Run(Flags<RUN>),
    /// Read the manifests and tell every problem; exit 1 if there is one
    Check(Shown<CHECK>),
    /// Resolve the manifests and tell what would be programmed
    Plan(Shown<PLAN>),
    /// Detach and unpin everything
    Cleanup {
        /// Directory for pins, on a mounted bpffs
        #[arg(
            long,
            value_name = "DIR",
            env = "CLUSTERIP_BPFFS",
            default_value = "/sys/fs/bpf/clusterip"
        )]
        bpffs: PathBuf,
    },
    /// Tell the version
    Version,
}

#[derive(Args, Debug)]
struct Shown<const COMMAND: u8> {
    #[command(flatten)]
    flags: Flags<COMMAND>,
    /// How to tell it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Exit codes.
const FINDING: u8 = 1;
const USAGE: u8 = 2;

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell if this fails.
            drop(writeln!(io::stderr(), "error: {error:#}"));
            if error.is::<ConfigError>() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::from(FINDING)
            }
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(flags) => {
            let config = Config::load(&flags, variable)?;
            if let Some(path) = flags.write_config_to() {
                config.write_to(&path)?;
                return Ok(ExitCode::SUCCESS);
            }
            logging::start(config.log_format, false, config.verbose);
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("start the runtime")?
                .block_on(run::run(config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(Shown { flags, output }) => {
            let config = load_quietly(&flags)?;
            let is_good = check::check(&config, output)?;
            Ok(ExitCode::from(if is_good { 0 } else { FINDING }))
        }
        Command::Plan(Shown { flags, output }) => {
            let config = load_quietly(&flags)?;
            plan(&config, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cleanup { bpffs } => {
            cleanup::cleanup(&bpffs)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version => {
            output::print(&format!("clusterip {}\n", env!("CARGO_PKG_VERSION")))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load_quietly<const COMMAND: u8>(flags: &Flags<COMMAND>) -> Result<Config, ConfigError> {
    let config = Config::load(flags, variable)?;
    logging::start(config.log_format, true, config.verbose);
    Ok(config)
}

/// The manifests as the agent would see them on a first start.
fn resolved(config: &Config, events: Vec<Event>) -> Arc<Snapshot> {
    let ranges = config.service_cidrs.iter().copied().map(ServiceRange::new);
    let node = &config.node_name;
    let kept = Allocations::default();
    snapshot_of(
        Resolver::new(node, config.algorithm, ranges.collect(), kept),
        events,
    )
}

/// A plan is told whatever problems it has: they are part of it.
fn plan(config: &Config, format: Format) -> anyhow::Result<()> {
    let events = manifests::once(&config.manifests, Rules::default())?;
    let plan = Plan::of(&resolved(config, events));
    output::print(&match format {
        Format::Table => plan.table(false),
        Format::Wide => plan.table(true),
        Format::Json => plan.json()?,
        Format::Yaml => plan.yaml()?,
    })
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}
