//! The parts of the test suite, what each proves, and how it is run.

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    num::NonZero,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{
    process::{Privilege, cargo, line, run},
    run::{AGENT, Profile, artifact, binaries},
    setup::{self, Purpose},
    summary::{Outcome, Summary},
};

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum Choice {
    /// The libraries: packets, model, plan, architecture
    Host,
    /// Objects in, map contents out
    Scenarios,
    /// Programs and packets in the kernel (root)
    Kernel,
    /// Connections through network namespaces (root)
    Netns,
    /// All of them
    #[default]
    All,
}

struct Part {
    choice: Choice,
    name: &'static str,
    proves: &'static str,
    /// Arguments of one `cargo test` each.
    runs: &'static [&'static [&'static str]],
    privileged: bool,
    /// Once more with another option of the agent, in its environment, and only the tests of these names.
    again: Option<Again>,
}

#[derive(Clone, Copy)]
struct Again {
    variable: (&'static str, &'static str),
    only: &'static [&'static str],
}

/// What is about packets holds whichever way they go (docs/forwarding.md).
const PAST_THE_STACK: Again = Again {
    variable: ("CLUSTERIP_FORWARDING", "redirect"),
    only: &[
        "bulk::",
        "changes::",
        "choosing::",
        "hairpin::",
        "mtu::",
        "packets::",
        "refusals::",
        "traffic::",
    ],
};

const PARTS: [Part; 5] = [
    Part {
        choice: Choice::Host,
        name: "host",
        proves: "packets, model and plan decide as the rules say; each packet vector gives its frame; the layers hold",
        runs: &[
            &[
                "-p",
                "xtask",
                "-p",
                "clusterip-common",
                "-p",
                "clusterip-agent",
            ],
            &[
                "-p",
                "clusterip-tests",
                "--lib",
                "--bins",
                "--test",
                "host",
                "--test",
                "flows",
                "--test",
                "properties",
                "--test",
                "rules",
                "--test",
                "sockets",
                "--test",
                "architecture",
                "--test",
                "abi",
                "--test",
                "deploy",
                "--test",
                "complexity",
                "--test",
                "dashboards",
                "--test",
                "kubernetes",
            ],
        ],
        privileged: false,
        again: None,
    },
    Part {
        choice: Choice::Scenarios,
        name: "scenarios",
        proves: "objects in, the right map contents out, also while one write in ten fails",
        runs: &[&["-p", "clusterip-tests", "--test", "scenarios"]],
        privileged: false,
        again: None,
    },
    Part {
        choice: Choice::Kernel,
        name: "kernel",
        proves: "the verifier accepts every program, and the kernel turns each vector into the host's very bytes",
        runs: &[&[
            "-p",
            "clusterip-tests",
            "--test",
            "verifier",
            "--test",
            "kernel",
        ]],
        privileged: true,
        again: None,
    },
    Part {
        choice: Choice::Netns,
        name: "netns",
        proves: "real connections through real veths: exact spread, right bytes, updates under traffic, a flood, nothing left behind",
        runs: &[&[
            "-p",
            "clusterip-tests",
            "--test",
            "netns*",
            "--test",
            "flood",
        ]],
        privileged: true,
        again: None,
    },
    Part {
        choice: Choice::Netns,
        name: "netns-redirect",
        proves: "what is about packets once more, with --forwarding redirect",
        runs: &[&["-p", "clusterip-tests", "--test", "netns"]],
        privileged: true,
        again: Some(PAST_THE_STACK),
    },
];

/// How many tests of one program run side by side.
const THREADS: &str = "RUST_TEST_THREADS";
/// Of the namespaces' tests, however few processors there are.
const FEWEST: usize = 4;

/// What looks once more at what other tests show: a machine at home may lack it, one that checks may not.
const LOOKS_AGAIN: [(&str, &str); 1] = [("kubectl", "kubernetes-client")];

/// `cargo xtask test`: runs the parts, also after one has failed, and sums up.
///
/// # Errors
/// When a test fails, when a part cannot run and `strict` is set, or when set-up fails.
pub(crate) fn command(
    workspace: &Path,
    choice: Choice,
    filter: &[String],
    strict: bool,
) -> anyhow::Result<()> {
    setup::ensure(workspace, Purpose::Run)?;
    if strict {
        setup::programs(&LOOKS_AGAIN)?;
    }
    let mut summary = Summary::new("test");
    for part in PARTS {
        // Who names tests says with the variable which way packets go.
        let is_wanted = part.again.is_none() || filter.is_empty();
        if is_wanted && (choice == Choice::All || choice == part.choice) {
            summary.step(part.name, part.proves, || play(workspace, &part, filter))?;
        }
    }
    summary.finish(strict)
}

fn play(workspace: &Path, part: &Part, filter: &[String]) -> anyhow::Result<Outcome> {
    let privilege = if part.privileged {
        match Privilege::obtain() {
            Ok(privilege) => privilege,
            Err(why) => return Ok(Outcome::Skipped(why.into())),
        }
    } else {
        Privilege::Own
    };
    let mut sum = Tally::default();
    let mut passed = true;
    // These tests start the agent, which cargo does not build for another package's tests.
    if part.choice == Choice::Netns && binaries(workspace, Profile::Dev).is_err() {
        return Ok(Outcome::Failed);
    }
    for arguments in part.runs {
        let command = || {
            let mut test = cargo(workspace);
            test.args(["test", "--locked", "--no-fail-fast"])
                .args(privilege.runner())
                .args(*arguments);
            test
        };
        // Built first and by itself: cargo shows its progress only on a terminal, and the tests' output is read here.
        if run(command().arg("--no-run")).is_err() {
            passed = false;
            continue;
        }
        let mut test = command();
        test.env(AGENT, artifact("clusterip", Profile::Dev)?);
        if part.choice == Choice::Netns && env::var_os(THREADS).is_none() {
            // They wait for agents, timers and the kernel's grace periods: two of them leave two processors idle now and then.
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            test.env(THREADS, processors.max(FEWEST).to_string());
        }
        if let Some(Again {
            variable: (name, value),
            only,
        }) = part.again
        {
            test.env(name, value).arg("--").args(only);
        } else if !filter.is_empty() {
            test.arg("--").args(filter);
        }
        passed &= tally(&mut test, &mut sum)?;
    }
    Ok(sum.outcome(passed))
}

/// Tests in the output of test programs.
#[derive(Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    passed: usize,
    skipped: usize,
}

impl Tally {
    /// Takes in one line of a test program's output.
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("SKIP") {
            self.skipped += 1;
        }
        let passed = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|count| count.parse::<usize>().ok());
        self.passed += passed.unwrap_or(0);
    }

    /// How many passed.
    pub(crate) const fn passed(&self) -> usize {
        self.passed
    }

    /// What it comes to, once every program has ended and `passed` says whether all of them were content.
    pub(crate) fn outcome(&self, passed: bool) -> Outcome {
        match (passed, self.skipped) {
            (false, _) => Outcome::Failed,
            (true, 0) => Outcome::Passed(self.passed),
            (true, skipped) => {
                Outcome::Skipped(format!("{skipped} SKIP lines above; {} ran", self.passed))
            }
        }
    }
}

/// Runs the tests in view of the user, and counts. Returns whether all passed.
fn tally(test: &mut Command, sum: &mut Tally) -> anyhow::Result<bool> {
    println!("$ {}", line(test));
    let (reader, writer) = io::pipe().context("make a pipe")?;
    // One pipe for both streams: their lines stay in order, and a SKIP may come on either.
    test.stdout(writer.try_clone().context("share the pipe")?)
        .stderr(writer);
    let mut child = test
        .spawn()
        .with_context(|| format!("start {}", line(test)))?;
    // The command holds the pipe's other end; while it does, there is no end of file.
    test.stdout(Stdio::null()).stderr(Stdio::null());
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes.context("read the tests' output")?;
        let line = String::from_utf8_lossy(&bytes);
        println!("{line}");
        sum.read(&line);
    }
    let status = child.wait().context("wait for the tests")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_skips_are_counted_over_several_programs() {
        let mut sum = Tally::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "SKIP kernel 5.10 is older than 6.6: TCX",
            "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test some::test_result ... ok",
        ] {
            sum.read(line);
        }
        assert_eq!(
            sum,
            Tally {
                passed: 15,
                skipped: 1
            }
        );
    }
}
