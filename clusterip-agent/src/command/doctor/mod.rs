//! `clusterip doctor`: whether this machine can do what the agent wants of it. Needs no agent.

mod cni;
mod devices;
mod machine;
mod netdev;
mod others;
mod programs;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, path::PathBuf};

use clap::Args;
use serde::Serialize;

use self::machine::Machine;
use super::{
    output::{self, Format},
    reach::Pinned,
};
use crate::config::POD_INTERFACES;

/// What is looked at.
#[derive(Args, Clone, Debug)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pinned: Pinned,
    /// Host sides of the pods' devices: names with * and ?
    #[arg(
        long,
        value_name = "GLOB[,GLOB]",
        env = "CLUSTERIP_POD_INTERFACES",
        value_delimiter = ',',
        default_value = POD_INTERFACES
    )]
    pod_interfaces: Vec<String>,
    /// Devices that lead to the outside, to be looked at too: names with * and ?
    #[arg(
        long,
        value_name = "GLOB[,GLOB]",
        env = "CLUSTERIP_UPLINKS",
        value_delimiter = ','
    )]
    uplinks: Vec<String>,
    /// Addresses for load balancers that the agent is to announce, as `clusterip run` has them
    #[arg(
        long,
        value_name = "CIDR[,CIDR]",
        env = "CLUSTERIP_LOAD_BALANCER_POOL",
        value_delimiter = ','
    )]
    load_balancer_pool: Vec<String>,
    /// The cgroup whose processes' sockets are translated (the root of all if left out)
    #[arg(long, value_name = "DIR", env = "CLUSTERIP_CGROUP")]
    cgroup: Option<PathBuf>,
    /// How to tell it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// What.
    check: &'static str,
    /// Whether it is as it should be.
    good: bool,
    /// What was found.
    found: String,
    /// What to do; empty if it is good.
    hint: String,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            good: true,
            found: found.into(),
            hint: String::new(),
        }
    }

    fn bad(check: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            check,
            good: false,
            found: found.into(),
            hint: hint.into(),
        }
    }
}

/// `doctor -o json`
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    healthy: bool,
    findings: &'a [Finding],
}

/// Looks at everything and prints it; true if all is as it should be.
pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<bool> {
    let machine = Machine::this()?;
    let announces = args.load_balancer_pool.iter().any(|pool| !pool.is_empty());
    let mut findings = machine::findings(&machine, &args.pinned.bpffs, announces);
    findings.extend(devices::findings(&machine, &args.pod_interfaces));
    let all = [args.pod_interfaces.as_slice(), &args.uplinks].concat();
    let devices = machine.devices(&all);
    let cgroup = args.cgroup.as_deref();
    findings.extend(programs::findings(&machine, &devices, cgroup));
    findings.extend(others::findings(&machine));
    let healthy = findings.iter().all(|finding| finding.good);
    let report = Report {
        version: crate::view::VERSION,
        healthy,
        findings: &findings,
    };
    let text = match args.output.encode(&report)? {
        Some(text) => text,
        None => lines(&findings, output::is_coloured())?,
    };
    output::print(&text)?;
    Ok(healthy)
}

fn lines(findings: &[Finding], coloured: bool) -> Result<String, std::fmt::Error> {
    let (green, red, plain) = if coloured {
        ("\x1b[32m", "\x1b[31m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let width = findings.iter().map(|it| it.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let Finding {
            check,
            good,
            found,
            hint,
        } = finding;
        let mark = if *good {
            format!("{green}✓{plain}")
        } else {
            format!("{red}✗{plain}")
        };
        writeln!(text, "{mark} {check:width$}  {found}")?;
        if !hint.is_empty() {
            writeln!(text, "  {:width$}  → {hint}", "")?;
        }
    }
    match findings.iter().filter(|finding| !finding.good).count() {
        0 => writeln!(text, "all is as it should be")?,
        1 => writeln!(text, "1 thing needs a look")?,
        n => writeln!(text, "{n} things need a look")?,
    }
    Ok(text)
}
