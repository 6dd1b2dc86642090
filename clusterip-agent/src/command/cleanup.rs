//! `clusterip cleanup`: nothing is left behind, by this program or by the one before it.

use std::{
    env,
    fmt::Write as _,
    fs,
    os::unix::fs::chroot,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{output, reach::Pinned};
use crate::{
    dataplane::{attach::detach_filters, pins::Pins},
    kube_proxy::{self, Installed, Leftovers, Step},
};

/// Where the kernel lists the devices of this network namespace.
const DEVICES: &str = "/proc/net/dev";

/// What is to go.
#[derive(Args, Clone, Debug)]
pub(super) struct CleanupArgs {
    #[command(flatten)]
    pinned: Pinned,
    /// Take away what kube-proxy left, instead of what this program left: its rules, tables, sets and device, and nothing else
    #[arg(long)]
    kube_proxy: bool,
    /// Only tell what would go
    #[arg(long, requires = "kube_proxy")]
    dry_run: bool,
    /// The node's own file system, if it is mounted here: /host in `kubectl debug node/NAME`. Its bpffs and its programs are used
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
}

/// Takes away what the arguments say.
pub(super) fn cleanup(args: &CleanupArgs) -> anyhow::Result<()> {
    let CleanupArgs {
        pinned: Pinned { bpffs },
        kube_proxy,
        dry_run,
        root,
    } = args;
    if let Some(root) = root {
        chroot(root).with_context(|| format!("make {} the root", root.display()))?;
        env::set_current_dir("/").context("go to the root")?;
    }
    if *kube_proxy {
        return of_kube_proxy(*dry_run);
    }
    own(bpffs)
}

/// Detaches and unpins everything: links by their pins, filters of a clsact qdisc by their names.
fn own(bpffs: &Path) -> anyhow::Result<()> {
    let pins = Pins::new(bpffs).remove_all().context("clean up")?;
    let list = fs::read_to_string(DEVICES).with_context(|| format!("list devices: {DEVICES}"))?;
    let names = list
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let filters = names.filter(|name| detach_filters(name)).count();
    output::print(&format!(
        "unpinned {pins} maps and links below {}, removed filters from {filters} devices\n",
        bpffs.display()
    ))?;
    Ok(())
}

/// Takes away what kube-proxy left in this network namespace.
fn of_kube_proxy(dry_run: bool) -> anyhow::Result<()> {
    let running = kube_proxy::running();
    let found = kube_proxy::find(&Installed);
    let steps = kube_proxy::steps(&found);
    output::print(&told(&found, &steps, dry_run)?)?;
    if dry_run || found.is_empty() {
        return Ok(());
    }
    ensure!(
        found.listed.is_empty(),
        "the programs that take rules away are not here: --root names the file system of the node, which has them"
    );
    ensure!(
        running.is_empty(),
        "kube-proxy runs here (process {running:?}) and would write all of it again: stop it first"
    );
    let errors = kube_proxy::remove(&Installed, &steps);
    let errors: Vec<String> = errors
        .into_iter()
        .map(|error| format!("{:#}", anyhow::Error::from(error)))
        .collect();
    ensure!(
        errors.is_empty(),
        "not all of it went: {}",
        errors.join("; ")
    );
    let left = kube_proxy::find(&Installed);
    ensure!(left.is_empty(), "after that there is still {left}");
    output::print("removed\n")
}

fn told(found: &Leftovers, steps: &[Step], dry_run: bool) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "kube-proxy left {found}")?;
    for set in &found.rule_sets {
        for (table, chain, rule) in set.kept() {
            writeln!(
                text,
                "stays: chain {chain} of {} (table {table}), since a rule of somebody else leads there: {rule}",
                set.program
            )?;
        }
    }
    for unseen in &found.unseen {
        writeln!(text, "not seen: {unseen}")?;
    }
    if dry_run {
        for step in steps {
            writeln!(text, "would run: {}", step.line())?;
            for line in step.input.lines() {
                writeln!(text, "    {line}")?;
            }
        }
    }
    Ok(text)
}
