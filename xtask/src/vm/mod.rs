//! `cargo xtask vm`: the kernels that people run, in virtual machines.
//!
//! A machine gets Debian's kernel and a root file system in memory: the agent, the tests that depend on the kernel, and a first
//! program (`tests/src/bin/vm-init.rs`) that runs them and says on the console how each ended.

mod initramfs;
mod kernel;
mod machine;
mod modules;
mod payload;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

pub(crate) use self::payload::Selection;
use self::{initramfs::Initramfs, kernel::Kernel, modules::Modules, payload::Payload};
use crate::{
    run::{Profile, artifact},
    setup::{self, Purpose},
    summary::{Outcome, Summary},
};

/// The kernels of Debian 12: its own, which has no TCX, and the newer one that it offers, which has.
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

/// Others that they start where this machine has them: without, they say what they did not try.
const MORE_TOOLS: [&str; 1] = ["ipvsadm"];

/// What the tests need of the kernel beyond its core.
const MODULES: [&str; 11] = [
    "veth",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
    "af_packet",
    "dummy",
    "8021q",
    "tun",
    "sctp",
    "ip_vs",
    "ip_vs_rr",
];

/// SCTP asks for it by an alias that nobody resolves there. Newer kernels have it in their core.
const CRC32C: &str = "crc32c_generic";

/// `cargo xtask vm`: boots each kernel in turn, also after one has failed, and sums up.
///
/// # Errors
/// When a test fails, a kernel cannot be had, or set-up fails.
pub(crate) fn command(
    workspace: &Path,
    series: &[String],
    selection: &Selection,
    strict: bool,
) -> anyhow::Result<()> {
    machine::check_architecture()?;
    for series in series {
        kernel::check_series(series)?;
    }
    setup::ensure(workspace, Purpose::Run)?;
    setup::programs(&PROGRAMS)?;
    let mut kernels = Vec::new();
    for series in series {
        kernels.push(kernel::obtain(workspace, series)?);
    }
    let payload = Payload::build(workspace, selection)?;
    let mut summary = Summary::new("vm");
    for kernel in kernels {
        summary.step(&kernel.release, selection.proves(), || {
            play(workspace, &kernel, &payload)
        })?;
    }
    summary.finish(strict)
}

fn play(workspace: &Path, kernel: &Kernel, payload: &Payload) -> anyhow::Result<Outcome> {
    let folder = workspace.join("target/vm");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let file = |extension: &str| folder.join(format!("{}.{extension}", kernel.release));
    let archive = file("cpio");
    pack(&archive, kernel, payload).with_context(|| format!("make {}", archive.display()))?;
    let outcome = machine::boot(&kernel.image, &archive, &file("log"));
    // Some hundred megabytes that the next run makes anew.
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    outcome
}

fn pack(archive: &Path, kernel: &Kernel, payload: &Payload) -> anyhow::Result<()> {
    let mut root = Initramfs::create(archive)?;
    for folder in ["/dev", "/proc", "/run", "/sys", "/tmp"] {
        root.folder(folder)?;
    }
    root.program("/init", &artifact("vm-init", Profile::Dev)?)?;
    for name in ["clusterip", "caller"] {
        root.program(&format!("/vm/{name}"), &artifact(name, Profile::Dev)?)?;
    }
    for name in TOOLS {
        root.program(&format!("/usr/sbin/{name}"), &tool(name)?)?;
    }
    for name in MORE_TOOLS {
        if let Ok(file) = tool(name) {
            root.program(&format!("/usr/sbin/{name}"), &file)?;
        }
    }
    for (name, file) in payload.programs()? {
        root.program(&format!("/vm/{name}"), file)?;
    }
    root.file("/vm/runs", payload.lines().as_bytes())?;
    let modules = Modules::of(&kernel.modules)?;
    let crc32c = modules.has(CRC32C).then_some(CRC32C);
    let wanted: Vec<&str> = crc32c.into_iter().chain(MODULES).collect();
    let mut names = String::new();
    for module in modules.in_order(&wanted)? {
        root.file(&format!("/vm/modules/{}", module.name), &module.bytes)?;
        writeln!(names, "{}", module.name)?;
    }
    root.file("/vm/modules/list", names.as_bytes())?;
    root.finish()?;
    Ok(())
}

/// Where this machine has a program that a user's path may lack.
fn tool(name: &str) -> anyhow::Result<PathBuf> {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .into_iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .with_context(|| format!("this machine has no {name} (Debian package iproute2)"))
}
