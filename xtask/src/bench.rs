//! Measurements. They are no tests: a number that got worse fails nothing here.

use std::path::Path;

use clap::ValueEnum;

use crate::{
    run::{Profile, program},
    setup::{self, Purpose},
};

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Subject {
    /// Nanoseconds per packet, by test-run, beside a reference program (root)
    #[default]
    Packet,
    /// Nanoseconds of a connect, with and without the programs at sockets (root)
    Socket,
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
/// When set-up or the build fails, or the rights are missing.
pub(crate) fn command(
    workspace: &Path,
    subject: Subject,
    arguments: &[String],
) -> anyhow::Result<()> {
    setup::ensure(workspace, Purpose::Run)?;
    let subject = match subject {
        Subject::Packet => "packet",
        Subject::Socket => "socket",
        Subject::Agent => "agent",
        Subject::Sight => "sight",
        Subject::Dns => {
            setup::programs(&[("dnsperf", "dnsperf")])?;
            "dns"
        }
    };
    let mut all = vec![subject.to_owned()];
    all.extend_from_slice(arguments);
    program(workspace, "bench", Profile::Release, &all)
}
