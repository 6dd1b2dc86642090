//! `clusterip get`: what the running agent knows, as tables.

mod affinity;
mod allocations;
mod endpoints;
mod flows;
mod interfaces;
mod ipvs;
mod services;
#[cfg(test)]
mod tests;
mod watch;

use clap::{Args, Subcommand};

use super::reach::{Asking, Reach, Wanted, ask};
use crate::view::{near, services::Services};

/// What to get.
#[derive(Subcommand, Debug)]
pub(super) enum Get {
    /// Services: addresses, ports, endpoints and, wide, what goes through them
    #[command(visible_aliases = ["service", "svc"])]
    Services(ServicesArgs),
    /// Endpoints: state, probes, flows and traffic of each
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(EndpointsArgs),
    /// Flows, as conntrack -L lists them, with names
    #[command(visible_alias = "flow")]
    Flows(FlowsArgs),
    /// Clients that keep their backend (sessionAffinity), and for how long
    Affinity(AffinityArgs),
    /// Devices with hooks
    #[command(visible_alias = "interface")]
    Interfaces(InterfacesArgs),
    /// Addresses and node ports, and whose they are
    #[command(visible_alias = "allocation")]
    Allocations(AllocationsArgs),
}

/// `get services`
#[derive(Args, Debug)]
pub(super) struct ServicesArgs {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    asking: Asking,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// In the form of ipvsadm -Ln
    #[arg(long, conflicts_with_all = ["output", "watch"])]
    ipvs: bool,
}

/// `get endpoints`
#[derive(Args, Debug)]
pub(super) struct EndpointsArgs {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    asking: Asking,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// `get flows`
#[derive(Args, Debug)]
pub(super) struct FlowsArgs {
    /// Flows of this service: NAME or NAMESPACE/NAME
    #[arg(value_name = "NAME", conflicts_with = "service")]
    name: Option<String>,
    /// The same
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Namespace of the service; every one if neither is given
    #[arg(short, long)]
    namespace: Option<String>,
    /// Flows of every namespace: the default
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    all_namespaces: bool,
    /// List so many at the most; 0 is all
    #[arg(long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// Leave out the first so many
    #[arg(long, value_name = "N", default_value_t = 0)]
    offset: usize,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    asking: Asking,
}

/// `get interfaces`
#[derive(Args, Debug)]
pub(super) struct InterfacesArgs {
    /// Name of a device
    name: Option<String>,
    /// Devices are of no namespace
    #[arg(short, long, hide = true)]
    namespace: Option<String>,
    /// Devices are of no namespace
    #[arg(short = 'A', long, hide = true)]
    all_namespaces: bool,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    asking: Asking,
}

/// `get affinity`
#[derive(Args, Debug)]
pub(super) struct AffinityArgs {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    asking: Asking,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// `get allocations`
#[derive(Args, Debug)]
pub(super) struct AllocationsArgs {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    asking: Asking,
    /// Go on: print what changes, until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// Asks and prints.
pub(super) fn get(what: &Get) -> anyhow::Result<()> {
    match what {
        Get::Services(args) => services::get(args),
        Get::Endpoints(args) => endpoints::get(args),
        Get::Flows(args) => flows::get(args),
        Get::Affinity(args) => affinity::get(args),
        Get::Interfaces(args) => interfaces::get(args),
        Get::Allocations(args) => allocations::get(args),
    }
}

/// Said where a table would be empty; a namespace that is not there may be a slip.
fn nothing(reach: &Reach, what: &str, wanted: &Wanted) -> String {
    let Some(namespace) = wanted.selection().namespace else {
        return format!("no {what}\n");
    };
    // No more than a hint: without an answer there is none.
    let all =
        ask::<Services>(reach, "/v1/services").map_or_else(|_| Vec::new(), |all| all.services);
    let names = all.iter().map(|service| service.namespace.as_str());
    let near = near::nearest(&namespace, names).filter(|near| *near != namespace);
    let hint = near.map_or_else(
        || "-A shows those of every one".to_owned(),
        |near| format!("did you mean -n {near}?"),
    );
    format!("no {what} in namespace {namespace}; {hint}\n")
}
