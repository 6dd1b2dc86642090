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

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    output::{self, Format},
    reach::{Asking, Wanted},
};

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
    Interfaces(Asking),
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
}

/// `get allocations`
#[derive(Args, Debug)]
pub(super) struct AllocationsArgs {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    asking: Asking,
}

/// Asks and prints.
pub(super) fn get(what: &Get) -> anyhow::Result<()> {
    match what {
        Get::Services(args) => services::get(args),
        Get::Endpoints(args) => endpoints::get(args),
        Get::Flows(args) => flows::get(args),
        Get::Affinity(args) => affinity::get(args),
        Get::Interfaces(asking) => interfaces::get(asking),
        Get::Allocations(args) => allocations::get(args),
    }
}

/// Prints a document, as a table if people read it.
fn show<T: Serialize>(
    document: &T,
    format: Format,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format.encode(document)? {
        Some(text) => text,
        None => table(document),
    };
    output::print(&text)
}

/// Where a table would be empty.
fn nothing(what: &str, wanted: Option<&Wanted>) -> String {
    let selection = wanted.map(Wanted::selection).unwrap_or_default();
    match selection.namespace {
        Some(namespace) => {
            format!("no {what} in namespace {namespace}; -A shows those of every one\n")
        }
        None => format!("no {what}\n"),
    }
}
