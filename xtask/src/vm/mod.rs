//! `cargo xtask vm`: the kernels that people run, in virtual machines.
//!
//! A machine gets Debian's kernel and a root file system in memory: the agent, the tests that depend on the kernel, and a first
//! program (`tests/src/bin/vm-init.rs`) that runs them and says on the console how each ended.

mod initramfs;
mod kernel;
mod machine;
mod modules;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use self::{initramfs::Initramfs, kernel::Kernel, modules::Modules};
use crate::{
    process::{cargo, line},
    run::{Profile, artifact, binaries},
    setup::{self, Purpose},
    summary::{Outcome, Summary},
};

/// The kernels of Debian 12: its own, which has no TCX, and that of its backports, which has.
pub(crate) const SERIES: [&str; 2] = ["6.1", "6.12"];

/// Programs this needs, with the package each comes from.
const PROGRAMS: [(&str, &str); 4] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("dpkg-deb", "dpkg"),
    ("xz", "xz-utils"),
    ("timeout", "coreutils"),
];

/// Programs that the tests start, besides the agent.
const TOOLS: [&str; 2] = ["ip", "tc"];

/// What the tests need of the kernel beyond its core.
const MODULES: [&str; 9] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "af_packet",
    "dummy",
    "8021q",
    "tun",
    "sctp",
];

/// SCTP asks for it by an alias that nobody resolves here. Part of the core from kernel 6.16 on.
const CRC32C: &str = "crc32c_generic";

/// A test program and what it is started with. The order is that of running: what is smallest first.
struct Run {
    target: &'static str,
    arguments: &'static str,
}

/// The namespaces' tests but for what is much work and the same on every kernel.
const RUNS: [Run; 3] = [
    Run {
        target: "verifier",
        arguments: "--nocapture",
    },
    Run {
        target: "kernel",
        arguments: "",
    },
    Run {
        target: "netns",
        arguments: "dataplane:: lifecycle:: traffic:: --skip a_thousand",
    },
];

const PROVES: &str =
    "every program loads, each packet vector gives its frame, and connections go through";

/// `cargo xtask vm`: boots each kernel in turn, also after one has failed, and sums up.
///
/// # Errors
/// When a test fails, a kernel cannot be had, or set-up fails.
pub(crate) fn command(workspace: &Path, series: &[String], strict: bool) -> anyhow::Result<()> {
    machine::check_architecture()?;
    series
        .iter()
        .try_for_each(|series| kernel::check_series(series))?;
    setup::ensure(workspace, Purpose::Run)?;
    setup::programs(&PROGRAMS)?;
    let mut kernels = Vec::new();
    for series in series {
        kernels.push(kernel::obtain(workspace, series)?);
    }
    binaries(workspace, Profile::Dev)?;
    let tests = tests(workspace)?;
    let mut summary = Summary::new("vm");
    for kernel in kernels {
        summary.step(&kernel.release, PROVES, || play(workspace, &kernel, &tests))?;
    }
    summary.finish(strict)
}

fn play(
    workspace: &Path,
    kernel: &Kernel,
    tests: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<Outcome> {
    let folder = workspace.join("target/vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = |extension: &str| folder.join(format!("{}.{extension}", kernel.release));
    let archive = file("cpio");
    pack(&archive, kernel, tests).with_context(|| format!("make {}", archive.display()))?;
    let outcome = machine::boot(&kernel.image, &archive, &file("log"));
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    outcome
}

fn pack(archive: &Path, kernel: &Kernel, tests: &BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    let mut root = Initramfs::create(archive)?;
    for folder in ["/dev", "/proc", "/run", "/sys", "/tmp"] {
        root.folder(folder)?;
    }
    root.program("/init", &artifact("vm-init", Profile::Dev)?)?;
    root.program("/vm/clusterip", &artifact("clusterip", Profile::Dev)?)?;
    for tool in TOOLS {
        let path = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
            .into_iter()
            .map(|folder| Path::new(folder).join(tool))
            .find(|path| path.exists())
            .with_context(|| format!("this machine has no {tool}"))?;
        root.program(&format!("/usr/sbin/{tool}"), &path)?;
    }
    let mut runs = String::new();
    for Run { target, arguments } in &RUNS {
        let test = tests
            .get(*target)
            .with_context(|| format!("cargo built no test {target}"))?;
        root.program(&format!("/vm/{target}"), test)?;
        writeln!(runs, "{target} {arguments}")?;
    }
    root.file("/vm/runs", runs.as_bytes())?;
    let mut names = String::new();
    let modules = Modules::of(&kernel.modules)?;
    let crc32c = modules.has(CRC32C).then_some(CRC32C);
    let wanted: Vec<&str> = crc32c.into_iter().chain(MODULES).collect();
    for module in modules.in_order(&wanted)? {
        root.file(&format!("/vm/modules/{}", module.name), &module.bytes)?;
        writeln!(names, "{}", module.name)?;
    }
    root.file("/vm/modules/list", names.as_bytes())?;
    root.finish()?;
    Ok(())
}

/// Builds the tests and says where they are, by the names of their targets.
fn tests(workspace: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut test = cargo(workspace);
    test.args(["test", "--locked", "--no-run", "-p", "clusterip-tests"]);
    for Run { target, .. } in &RUNS {
        test.args(["--test", target]);
    }
    test.arg("--message-format=json-render-diagnostics");
    println!("$ {}", line(&test));
    test.stderr(std::process::Stdio::inherit());
    let output = test
        .output()
        .with_context(|| format!("start {}", line(&test)))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        line(&test),
        output.status
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(messages.lines().filter_map(executable).collect())
}

/// The target and the file of a program that cargo's message speaks of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let (_, rest) = message.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    let file = path.rsplit('/').next()?;
    let (target, _hash) = file.rsplit_once('-')?;
    Some((target.to_owned(), path.into()))
}

#[cfg(test)]
mod tests_of_messages {
    use super::*;

    #[test]
    fn test_programs_are_found_in_cargos_messages() {
        let found = executable(
            r#"{"reason":"compiler-artifact","executable":"/w/target/debug/deps/netns-0a1b","fresh":true}"#,
        );
        assert_eq!(
            found,
            Some(("netns".into(), "/w/target/debug/deps/netns-0a1b".into()))
        );
        assert_eq!(
            executable(r#"{"reason":"compiler-artifact","executable":null,"fresh":true}"#),
            None
        );
        assert_eq!(executable(r#"{"executable":"/w/target/debug/demo"}"#), None);
    }
}
