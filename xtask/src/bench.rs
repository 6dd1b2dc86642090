//! Measurements. They are no tests: a number that got worse fails nothing here.

use std::path::Path;

use anyhow::ensure;
use clap::ValueEnum;

use crate::{
    run::{Profile, program},
    setup::{self, Purpose},
};

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Subject {
    /// All that follows, in one run (root)
    #[default]
    All,
    /// The tables and plots of the last runs into docs/performance.md
    Docs,
    /// Nanoseconds per packet, by test-run, beside a reference program (root)
    Packet,
    /// Nanoseconds of a connect, with and without the programs at sockets (root)
    Socket,
    /// From pod to pod, beside kube-proxy's rules, with up to 50,000 services (root)
    Path,
    /// The first answer of a connection, by number of services (root)
    First,
    /// What comes in by an uplink, at its driver (root)
    Uplink,
    /// What comes from outside by a node port, by TC and XDP, beside kube-proxy's rules (root)
    Outside,
    /// Speed and memory of the agent with up to 50,000 services (root)
    Agent,
    /// What commands and scrapes take, with 10,000 services and 200,000 flows (root)
    Sight,
    /// Questions a second that the resolver answers, by dnsperf (root)
    Dns,
}

/// `cargo xtask bench`.
///
/// # Errors
/// When set-up or the build fails, the rights are missing, or `docs` is asked of one thing.
pub(crate) fn command(
    workspace: &Path,
    subject: Subject,
    docs: bool,
    arguments: &[String],
) -> anyhow::Result<()> {
    ensure!(
        !docs || subject == Subject::All,
        "--docs is of everything; cargo xtask bench docs takes the tables of the last runs"
    );
    setup::ensure(workspace, Purpose::Run)?;
    let subject = match subject {
        Subject::All => {
            setup::programs(&[("dnsperf", "dnsperf")])?;
            "all"
        }
        Subject::Docs => "docs",
        Subject::Packet => "packet",
        Subject::Socket => "socket",
        Subject::Path => "path",
        Subject::First => "first",
        Subject::Uplink => "uplink",
        Subject::Outside => "outside",
        Subject::Agent => "agent",
        Subject::Sight => "sight",
        Subject::Dns => {
            setup::programs(&[("dnsperf", "dnsperf")])?;
            "dns"
        }
    };
    let mut all = vec![subject.to_owned()];
    if docs {
        all.push("--docs".to_owned());
    }
    all.extend_from_slice(arguments);
    program(workspace, "bench", Profile::Release, &all)
}
