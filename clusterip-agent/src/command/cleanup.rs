//! `clusterip cleanup`: nothing is left behind.

use std::{fs, path::Path};

use anyhow::Context as _;

use super::output;
use crate::dataplane::{attach::detach_filters, pins::Pins};

/// Where the kernel lists the devices of this network namespace.
const DEVICES: &str = "/proc/net/dev";

/// Detaches and unpins everything: links by their pins, filters of a clsact qdisc by their names.
pub(super) fn cleanup(bpffs: &Path) -> anyhow::Result<()> {
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
