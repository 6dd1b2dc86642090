//! A virtual machine, and what it says.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{process::line, summary::Outcome, test::Tally};

/// How long a machine may take from its start to its end; a hanging one is stopped then.
const LIMIT: Duration = Duration::from_mins(25);

/// Lines of the console that are shown when the first program did not start.
const TAIL: usize = 60;

/// What the first program in the machine begins its own lines with (`tests/src/bin/vm-init.rs`).
const VOICE: &str = "vm: ";

/// How far a machine came.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Stage {
    /// Its first program has said nothing.
    #[default]
    Silent,
    /// It runs tests.
    Works,
    /// All of them have ended.
    Done,
}

/// What a machine said about its work.
#[derive(Default, Debug)]
struct Report {
    stage: Stage,
    fault: Option<&'static str>,
    tests: Tally,
    /// Tests that had passed when the present program began.
    before: usize,
}

impl Report {
    fn read(&mut self, line: &str) {
        self.tests.read(line);
        let Some(words) = line.strip_prefix(VOICE) else {
            return;
        };
        self.stage = Stage::Works;
        match words.split(' ').next() {
            Some("begins") => self.before = self.tests.passed(),
            // Its arguments name no test.
            Some("ok") if self.before == self.tests.passed() => {
                self.fault = Some("a program ran no test");
            }
            Some("FAILED") => self.fault = Some("a program failed"),
            Some("done") => self.stage = Stage::Done,
            _ => {}
        }
    }

    fn passed(&self) -> bool {
        self.stage == Stage::Done && self.fault.is_none()
    }

    /// Whether its kernel ended it, and nothing of ours had run: of what stops a machine or keeps it from starting the code is another.
    fn fell_at_boot(&self, code: Option<i32>) -> bool {
        self.stage == Stage::Silent && code == Some(0)
    }

    /// Why not.
    fn why(&self, code: Option<i32>) -> &'static str {
        match (self.stage, code) {
            // What timeout(1) exits with.
            (_, Some(124 | 137)) => "it was stopped after twenty-five minutes",
            (Stage::Silent, _) => "its first program did not start",
            (Stage::Works, _) => "it ended before the tests did",
            (Stage::Done, _) => self.fault.unwrap_or("nothing is wrong"),
        }
    }
}

/// Boots a kernel, shows what the first program and its children say, and waits for the end. The whole console goes into `log`.
///
/// A machine that ends by itself before its first program has begun is booted once more: nothing of ours has run in it, and an emulated processor may fall
/// over what the kernel patches in its own text meanwhile.
///
/// # Errors
/// When the machine cannot be started or its console not be read.
pub(crate) fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> anyhow::Result<Outcome> {
    let mut ended = watch(kernel, initramfs, log)?;
    if ended.0.fell_at_boot(ended.1.code()) {
        println!("\n== the machine fell before its first program; once more");
        ended = watch(kernel, initramfs, log)?;
    }
    let (report, status) = ended;
    if !report.passed() {
        let why = report.why(status.code());
        println!("\n== the machine failed: {why} ({status})");
    }
    Ok(report.tests.outcome(report.passed()))
}

fn watch(kernel: &Path, initramfs: &Path, log: &Path) -> anyhow::Result<(Report, ExitStatus)> {
    let mut command = qemu(kernel, initramfs);
    println!("$ {}", line(&command));
    let mut child = command
        .spawn()
        .with_context(|| format!("start {}", line(&command)))?;
    let console = child.stdout.take().context("the machine has no console")?;
    let mut log = File::create(log).with_context(|| format!("make {}", log.display()))?;
    let mut report = Report::default();
    let mut tail = VecDeque::new();
    for bytes in BufReader::new(console).split(b'\n') {
        let bytes = bytes.context("read the machine's console")?;
        let line = printable(&bytes);
        writeln!(log, "{line}").context("write the log of the console")?;
        report.read(&line);
        if report.stage == Stage::Silent {
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        } else {
            println!("{line}");
        }
    }
    let status = child.wait().context("wait for the machine")?;
    if report.stage == Stage::Silent {
        for line in &tail {
            println!("{line}");
        }
    }
    Ok((report, status))
}

/// Software emulation, also where the machine could do better: the same everywhere, also inside of another virtual machine.
fn qemu(kernel: &Path, initramfs: &Path) -> Command {
    // `timeout` holds the limit also when this program is killed.
    let mut command = Command::new("timeout");
    command
        .args([
            "--foreground",
            "--kill-after=5",
            &LIMIT.as_secs().to_string(),
        ])
        .args([
            "qemu-system-x86_64",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
        ])
        .args(["-smp", "2", "-m", "3072", "-nodefaults", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        // A fault of the kernel ends the machine. Nobody in it is to be kept from reading another's memory.
        .args([
            "-append",
            "console=ttyS0 quiet oops=panic panic=-1 mitigations=off",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A line of the console without what would move a terminal's cursor.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|c| *c == '\t' || !c.is_control())
        .collect()
}

/// # Errors
/// When this machine is of another kind than the emulated one, whose programs it could not make.
pub(crate) fn check_architecture() -> anyhow::Result<()> {
    let found = std::env::consts::ARCH;
    ensure!(
        found == "x86_64",
        "the virtual machines run this machine's own programs on Debian's kernels for x86_64, and this is {found}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.read(line);
        }
        report
    }

    const RAN: &str = "test result: ok. 2 passed; 0 failed; 0 ignored";

    #[test]
    fn a_machine_passes_only_when_it_says_so() {
        let begins = ["vm: runs 6.1", "vm: begins verifier"];
        let passed = |rest: &[&str]| after(&[&begins, rest].concat()).passed();
        assert!(passed(&[RAN, "vm: ok verifier", "vm: done"]));
        assert!(!passed(&[RAN, "vm: FAILED verifier", "vm: done"]));
        assert!(!passed(&[RAN, "vm: ok verifier"]), "it did not end");
        assert!(!passed(&["vm: ok verifier", "vm: done"]), "no test ran");
        let other = ["vm: begins netns", "vm: ok netns", "vm: done"];
        assert!(!passed(&[&[RAN, "vm: ok verifier"][..], &other].concat()));
        assert!(!after(&[]).passed());
    }

    #[test]
    fn why_a_machine_ended_is_said() {
        let why = |lines: &[&str], code| after(lines).why(Some(code));
        assert!(why(&["vm: runs"], 124).contains("stopped after"));
        assert!(why(&["Kernel panic"], 0).contains("did not start"));
        assert!(why(&["vm: runs"], 0).contains("before the tests"));
        assert!(why(&["vm: begins netns", "vm: ok netns", "vm: done"], 0).contains("no test"));
    }

    #[test]
    fn a_machine_is_booted_again_only_if_it_fell_before_anything_of_ours_ran() {
        let fell = |lines: &[&str], code| after(lines).fell_at_boot(Some(code));
        assert!(fell(&["Kernel panic"], 0));
        assert!(!fell(&[], 124), "the time is over");
        assert!(!fell(&[], 1), "there is no such kernel");
        assert!(!fell(&["vm: runs 6.1", "Kernel panic"], 0));
    }

    #[test]
    fn a_console_cannot_move_the_terminals_cursor() {
        assert_eq!(printable(b"\x1b[2Jok\tyes\r"), "[2Jok\tyes");
    }
}
