//! The command line: one file per subcommand.

mod beside;
mod check;
mod cleanup;
mod dns;
mod doctor;
mod get;
mod manual;
mod monitor;
mod names;
mod origin;
mod output;
pub mod plan;
mod reach;
mod reload;
mod run;
mod served;
mod status;
mod table;
mod top;
mod trace;
mod version;

use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use ipnet::IpNet;

use self::{output::Format, plan::Plan};
use crate::{
    config::{CHECK, Config, ConfigError, Flags, PLAN, RUN},
    logging,
    model::{
        allocate::Allocations,
        exposure::Exposure,
        range::ServiceRange,
        resolver::{Resolver, snapshot_of},
        validate::Rules,
    },
    source::{kube_dns::KubeDns, manifests},
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
    /// Detach and unpin everything; with --kube-proxy, take away what kube-proxy left
    Cleanup(cleanup::CleanupArgs),
    /// Follow one made-up packet through the code and the tables that the kernel uses
    Trace(Box<trace::TraceArgs>),
    /// Tell what the running agent knows, as tables
    #[command(subcommand)]
    Get(get::Get),
    /// Ask the resolver in the running agent
    #[command(subcommand)]
    Dns(dns::Dns),
    /// Tell how the running agent is: source, dataplane, maps, problems; exit 1 if it is not well
    Status {
        #[command(flatten)]
        asking: reach::Asking,
        /// In one line, for probes
        #[arg(long)]
        brief: bool,
    },
    /// Tell what happens to packets and calls, as it happens: flows opened and closed, what was rejected or dropped
    Monitor(monitor::MonitorArgs),
    /// Show services by what goes through them, live
    Top(top::TopArgs),
    /// Look whether this machine can do what the agent wants of it; exit 1 if something needs a look
    Doctor(doctor::DoctorArgs),
    /// Write the completions of a shell: `source <(clusterip completion bash)`
    Completion {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual page, or one for each command into a directory
    Man {
        /// Directory for all pages
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
    /// Tell the versions: of this program, of the pinned layout, of the kernel, of the agent that runs
    Version(reach::Asking),
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
            beside::warn();
            tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("start the runtime")?
                .block_on(run::run(config, flags))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(Shown { flags, output }) => {
            let config = load_quietly(&flags)?;
            let is_good = check::check(&config, output)?;
            Ok(ExitCode::from(if is_good { 0 } else { FINDING }))
        }
        Command::Plan(Shown { flags, output }) => {
            let config = load_quietly(&flags)?;
            show_plan(&config, output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cleanup(args) => {
            cleanup::cleanup(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Trace(args) => {
            if args.is_live() {
                trace::live(&args)?;
            } else {
                let config = load_quietly(&args.flags)?;
                trace::offline(&args, &config)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Get(what) => {
            get::get(&what)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Dns(what) => {
            let is_good = dns::dns(&what)?;
            Ok(ExitCode::from(if is_good { 0 } else { FINDING }))
        }
        Command::Status { asking, brief } => {
            let is_good = status::status(&asking, brief)?;
            Ok(ExitCode::from(if is_good { 0 } else { FINDING }))
        }
        Command::Monitor(args) => {
            monitor::monitor(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Top(args) => {
            top::top(&args)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(args) => {
            let is_good = doctor::doctor(&args)?;
            Ok(ExitCode::from(if is_good { 0 } else { FINDING }))
        }
        Command::Completion { shell } => {
            output::print(&manual::completion(Cli::command(), shell)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { to } => {
            manual::man(Cli::command(), to.as_deref())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Version(asking) => {
            version::version(&asking.reach.socket, asking.output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn load_quietly<const COMMAND: u8>(flags: &Flags<COMMAND>) -> Result<Config, ConfigError> {
    let config = Config::load(flags, variable)?;
    logging::start(config.log_format, true, config.verbose);
    Ok(config)
}

fn show_plan(config: &Config, format: Format) -> anyhow::Result<()> {
    let mut events = manifests::once(&config.manifests, rules(config))?;
    if let Some(mut kube_dns) = kube_dns(config) {
        events = kube_dns.follow(events);
    }
    let plan = Plan::of(&snapshot_of(
        resolver(config, Allocations::default()),
        events,
    ));
    let text = match format.encode(&plan)? {
        Some(text) => text,
        None => plan.table(format == Format::Wide),
    };
    output::print(&text)
}

/// The model as the configuration wants it; `kept` are the allocations of an earlier run.
fn resolver(config: &Config, kept: Allocations) -> Resolver {
    let ranges = |nets: &[IpNet]| nets.iter().copied().map(ServiceRange::new).collect();
    let exposure = Exposure {
        node_port_addresses: config.nodeport_addresses.clone(),
        external_ips: config.allow_external_ips,
        pool: ranges(&config.load_balancer_pool),
        class: config.load_balancer_class.as_deref().map(Into::into),
        ..Exposure::default()
    };
    let services = ranges(&config.service_cidrs);
    let resolver = Resolver::new(&config.node_name, config.algorithm, services, kept)
        .exposed(config.nodeport_range.clone(), exposure)
        .with_pod_cidrs(config.pod_cidrs.clone());
    if config.has_api_server() {
        resolver.of_api_server()
    } else {
        resolver
    }
}

/// The agent's resolver as a service, if it has one that pods reach. An API server has that service itself.
fn kube_dns(config: &Config) -> Option<KubeDns> {
    if config.has_api_server() {
        return None;
    }
    let ranges = config.service_cidrs.iter().copied();
    let ranges: Vec<ServiceRange> = ranges.map(ServiceRange::new).collect();
    KubeDns::new(&config.dns_listen, config.metrics_bind_address, &ranges)
}

fn rules(config: &Config) -> Rules {
    Rules {
        node_ports: config.nodeport_range.clone(),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}
