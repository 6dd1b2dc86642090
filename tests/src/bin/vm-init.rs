//! The first program in a virtual machine of `cargo xtask vm`: mounts what the tests need, loads modules, runs the tests one
//! after the other, says on the console how each ended, and switches the machine off.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(clippy::print_stdout, reason = "the console is what it speaks through")]

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use nix::{
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
    unistd::sethostname,
};

/// What `cargo xtask vm` put into the machine: the programs, `runs` and `modules/`.
const FOLDER: &str = "/vm";

/// Kinds of file systems and where they belong, in the order of mounting.
const MOUNTS: [(&str, &str); 7] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

fn main() {
    // Each line of ours begins with the word that xtask looks for.
    match work() {
        Ok(()) => println!("vm: done"),
        Err(error) => println!("vm: FAILED {error:#}"),
    }
    // It comes back only with an error. Were the first process to end, the kernel would panic, which ends the machine too.
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    println!("vm: FAILED to switch off: {error}");
}

fn work() -> Result<()> {
    for (kind, place) in MOUNTS {
        mount(
            Some(kind),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mount {kind} on {place}"))?;
    }
    sethostname("vm").context("set the name of the machine")?;
    let release = read("/proc/sys/kernel/osrelease")?;
    println!("vm: runs {}", release.trim());
    let modules = Path::new(FOLDER).join("modules");
    for name in read(modules.join("list"))?.lines() {
        load(&modules.join(name)).with_context(|| format!("load the module {name}"))?;
    }
    for line in read(Path::new(FOLDER).join("runs"))?.lines() {
        run(line)?;
    }
    Ok(())
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn load(module: &Path) -> Result<()> {
    let file = File::open(module).with_context(|| format!("open {}", module.display()))?;
    finit_module(&file, c"", ModuleInitFlags::empty())?;
    Ok(())
}

/// Runs one line: the name of a program and its arguments.
fn run(line: &str) -> Result<()> {
    println!("vm: begins {line}");
    let mut words = line.split_whitespace();
    let program = words
        .next()
        .context("an empty line in the list of programs")?;
    let status = Command::new(Path::new(FOLDER).join(program))
        .args(words)
        .env_clear()
        .env("PATH", "/usr/sbin")
        .env("HOME", "/tmp")
        .env("CLUSTERIP_TEST_SLOWNESS", "6")
        // Nothing may be skipped here.
        .env("CI", "true")
        .env("CLUSTERIP_BIN", Path::new(FOLDER).join("clusterip"))
        .env("CLUSTERIP_CALLER", Path::new(FOLDER).join("caller"))
        .status()
        .with_context(|| format!("start {program}"))?;
    if status.success() {
        println!("vm: ok {program}");
    } else {
        println!("vm: FAILED {program}: {status}");
    }
    Ok(())
}
