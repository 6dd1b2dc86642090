//! A virtual machine, and what it says.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};

use crate::{process::line, summary::Outcome, test::Tally};

/// How long a machine may take from its start to its end; a hanging one is stopped then.
const LIMIT: Duration = Duration::from_mins(10);

/// Lines of the console that are shown when the first program did not start.
const TAIL: usize = 60;

/// What the first program in the machine begins its own lines with (`tests/src/bin/vm-init.rs`).
const VOICE: &str = "vm: ";

/// What a machine said about its work.
#[derive(Default, Debug)]
struct Report {
    began: bool,
    failed: bool,
    done: bool,
    tests: Tally,
}

impl Report {
    fn read(&mut self, line: &str) {
        self.tests.read(line);
        let Some(words) = line.strip_prefix(VOICE) else {
            return;
        };
        self.began = true;
        self.failed |= words.starts_with("FAILED");
        self.done |= words == "done";
    }

    const fn passed(&self) -> bool {
        self.done && !self.failed
    }
}

/// Boots a kernel, shows what the first program and its children say, and waits for the end. The whole console goes into `log`.
///
/// # Errors
/// When the machine cannot be started or its console not be read.
pub(crate) fn boot(kernel: &Path, initramfs: &Path, log: &Path) -> anyhow::Result<Outcome> {
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
        if report.began {
            println!("{line}");
        } else {
            tail.push_back(line);
            if tail.len() > TAIL {
                tail.pop_front();
            }
        }
    }
    let status = child.wait().context("wait for the machine")?;
    if !report.passed() {
        if !report.began {
            for line in &tail {
                println!("{line}");
            }
        }
        println!(
            "== the machine ended ({status}){}",
            why(&report, status.code())
        );
    }
    Ok(report.tests.outcome(report.passed()))
}

const fn why(report: &Report, code: Option<i32>) -> &'static str {
    match (report, code) {
        (_, Some(124 | 137)) => ": it was stopped after ten minutes",
        (Report { began: false, .. }, _) => ": its first program did not start",
        (Report { done: false, .. }, _) => ": it ended before the tests did",
        _ => "",
    }
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

    #[test]
    fn a_machine_passes_only_when_it_says_so() {
        assert!(after(&["vm: runs 6.1", "vm: ok verifier", "vm: done"]).passed());
        assert!(
            !after(&[
                "vm: runs 6.1",
                "vm: FAILED verifier",
                "vm: ok kernel",
                "vm: done"
            ])
            .passed()
        );
        assert!(!after(&["vm: runs 6.1", "vm: ok verifier"]).passed());
        assert!(!after(&[]).passed());
    }

    #[test]
    fn why_a_machine_ended_is_said() {
        assert!(why(&after(&["vm: runs"]), Some(124)).contains("stopped after"));
        assert!(why(&after(&["Kernel panic"]), Some(0)).contains("did not start"));
        assert!(why(&after(&["vm: runs"]), Some(0)).contains("before the tests"));
    }

    #[test]
    fn a_console_cannot_move_the_terminals_cursor() {
        assert_eq!(printable(b"\x1b[2Jok\tyes\r"), "[2Jok\tyes");
    }
}
