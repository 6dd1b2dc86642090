//! What a machine needs for the build and the tests, and how it gets it.
//!
//! Looking costs a few reads of directories, so every other verb starts here.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{
    process::{Privilege, cargo, is_root, on_path, run},
    toolchain::{self, Compiler},
};

/// The linker's version. 0.13 has `--disable-expand-memcpy-in-order`.
const LINKER: &str = "0.13.0";

/// LLVM the linker is built with. That of the compiler may not be newer: the linker reads its bitcode.
const LLVM: &str = "22";

/// Optional: used by `lint` when it is there.
const DENY: &str = "0.20.2";

/// Debian's compiler with `core` for the eBPF target, and its clippy.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"];

/// Programs that the demo and the tests start, with the package each comes from.
const PROGRAMS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("dig", "dnsutils"),
    ("tmux", "tmux"),
    ("tcpdump", "tcpdump"),
    // Other packet handlers that the agent is tested beside.
    ("nft", "nftables"),
    ("iptables-save", "iptables"),
    ("ipset", "ipset"),
];

/// One thing that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lack {
    /// A compiler with `core` for the eBPF target.
    Compiler,
    /// Clippy of that compiler.
    Clippy,
    /// bpf-linker.
    Linker,
    /// A program of a package.
    Program(&'static str, &'static str),
}

/// What the caller is about to do, hence what has to be there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Purpose {
    /// Compile the agent.
    Build,
    /// Start it, and the tests.
    Run,
    /// Lint both targets.
    Lint,
}

/// `cargo xtask setup`.
///
/// # Errors
/// When something is missing and cannot be installed from here; the message has the commands to type.
pub(crate) fn command(workspace: &Path, all: bool) -> anyhow::Result<()> {
    ensure(workspace, Purpose::Lint)?;
    if all && deny(workspace).is_none() {
        println!("\n== cargo-deny {DENY} into .tools/");
        run(install(workspace).args(["cargo-deny", "--version", DENY]))?;
    }
    let compiler = toolchain::compiler().context("no compiler after set-up")?;
    let linker = toolchain::linker(workspace).context("no linker after set-up")?;
    println!(
        "eBPF compiler  {}",
        compiler.root.join("bin/rustc").display()
    );
    println!("eBPF linker    {}", linker.display());
    println!("Ready. Next: cargo xtask run");
    Ok(())
}

/// Installs what `purpose` lacks; silent when that is nothing.
///
/// # Errors
/// When something is missing and cannot be installed from here; the message has the commands to type.
pub(crate) fn ensure(workspace: &Path, purpose: Purpose) -> anyhow::Result<()> {
    let lacks = lacks(workspace, purpose);
    if lacks.is_empty() {
        return Ok(());
    }
    let packages = packages(&lacks, llvm().is_some());
    println!("Set-up: {} to do, once per machine", lacks.len());
    if !packages.is_empty() {
        println!("\n== packages: {}", packages.join(" "));
        apt(&packages).with_context(|| by_hand(&packages))?;
    }
    if lacks.contains(&Lack::Compiler) {
        println!(
            "\n== the compiler as rustup's toolchain {}",
            toolchain::LINKED
        );
        run(Command::new("rustup").args(["toolchain", "link", toolchain::LINKED, "/usr"]))
            .with_context(|| by_hand(&packages))?;
    }
    if lacks.contains(&Lack::Linker) {
        println!("\n== bpf-linker {LINKER} into .tools/ (about a minute)");
        let llvm = llvm().with_context(|| by_hand(&packages))?;
        run(install(workspace)
            .args(["bpf-linker", "--version", LINKER, "--no-default-features"])
            .args(["--features", &format!("llvm-{LLVM}")])
            .env("LLVM_PREFIX", &llvm)
            .env(format!("LLVM_SYS_{LLVM}1_PREFIX"), &llvm))?;
    }
    let still = self::lacks(workspace, purpose);
    if !still.is_empty() {
        bail!(
            "after set-up there is still no {still:?}\n{}",
            by_hand(&packages)
        );
    }
    println!("\nSet-up is complete.\n");
    Ok(())
}

/// Installs programs that are missing, each with the package it comes from; silent when none is.
///
/// # Errors
/// When one is missing and cannot be installed from here.
pub(crate) fn programs(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing = || wanted.iter().filter(|(program, _)| !on_path(program));
    let packages: Vec<String> = missing().map(|(_, package)| (*package).into()).collect();
    if packages.is_empty() {
        return Ok(());
    }
    println!("\n== packages: {}", packages.join(" "));
    apt(&packages).with_context(|| {
        format!(
            "as root: apt-get update && apt-get install {}",
            packages.join(" ")
        )
    })?;
    let still: Vec<&str> = missing().map(|(program, _)| *program).collect();
    if !still.is_empty() {
        bail!("after set-up there is still no {}", still.join(", "));
    }
    Ok(())
}

/// Refreshes apt's lists.
///
/// # Errors
/// When there is no apt, or no right to use it.
pub(crate) fn refresh_packages() -> anyhow::Result<()> {
    update(apt_get()?)
}

/// Clippy of the eBPF program's compiler, whether it is there or not.
pub(crate) fn clippy(compiler: &Compiler) -> PathBuf {
    compiler.root.join("bin/cargo-clippy")
}

/// cargo-deny, if it is there.
pub(crate) fn deny(workspace: &Path) -> Option<PathBuf> {
    let own = workspace.join(".tools/bin/cargo-deny");
    if own.exists() {
        return Some(own);
    }
    on_path("cargo-deny").then(|| "cargo-deny".into())
}

fn lacks(workspace: &Path, purpose: Purpose) -> Vec<Lack> {
    let mut lacks = Vec::new();
    match toolchain::compiler() {
        None => lacks.push(Lack::Compiler),
        Some(compiler) if purpose >= Purpose::Lint && !clippy(&compiler).exists() => {
            lacks.push(Lack::Clippy);
        }
        Some(_) => {}
    }
    if toolchain::linker(workspace).is_none() || outdated(workspace) {
        lacks.push(Lack::Linker);
    }
    if purpose >= Purpose::Run {
        for (program, package) in PROGRAMS {
            if !on_path(program) {
                lacks.push(Lack::Program(program, package));
            }
        }
    }
    lacks
}

/// Whether the project's own linker is of another version than it should be. A linker put there by hand has no record.
fn outdated(workspace: &Path) -> bool {
    fs::read_to_string(workspace.join(".tools/.crates.toml")).is_ok_and(|record| {
        record.contains("\"bpf-linker ") && !record.contains(&format!("\"bpf-linker {LINKER} "))
    })
}

fn packages(lacks: &[Lack], has_llvm: bool) -> Vec<String> {
    let mut packages = Vec::new();
    for lack in lacks {
        match *lack {
            // The link may be all that is missing.
            Lack::Compiler if linkable() => {}
            Lack::Compiler => packages.extend(COMPILER_PACKAGES.map(String::from)),
            Lack::Clippy => packages.push("rust-web-clippy".into()),
            Lack::Linker if has_llvm => {}
            Lack::Linker => packages.push(format!("llvm-{LLVM}-dev")),
            Lack::Program(_, package) => packages.push(package.into()),
        }
    }
    packages
}

/// Whether the distribution's compiler and its `core` for the eBPF target are installed.
fn linkable() -> bool {
    let core = Path::new("/usr/lib/rustlib").join(toolchain::TARGET);
    core.join("lib").exists() && Path::new("/usr/bin/rustc").exists()
}

/// Where the LLVM for the linker is.
fn llvm() -> Option<PathBuf> {
    [
        env::var_os(format!("LLVM_SYS_{LLVM}1_PREFIX")).map(PathBuf::from),
        Some(format!("/usr/lib/llvm-{LLVM}").into()),
        Some(format!("/usr/lib64/llvm{LLVM}").into()),
    ]
    .into_iter()
    .flatten()
    .find(|prefix| prefix.join("bin/llvm-config").exists())
}

fn install(workspace: &Path) -> Command {
    let mut install = cargo(workspace);
    install
        .args(["install", "--locked", "--force", "--root"])
        .arg(workspace.join(".tools"));
    install
}

/// # Errors
/// When there is no apt, no right to use it, or a package is unknown to it.
fn apt(packages: &[String]) -> anyhow::Result<()> {
    let apt_get = apt_get()?;
    update(&apt_get)?;
    run(apt_get()
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages))
}

/// How apt-get is started, with the rights it needs.
fn apt_get() -> anyhow::Result<impl Fn() -> Command> {
    if !on_path("apt-get") {
        bail!("this machine has no apt-get");
    }
    let root = if is_root() {
        Privilege::Own
    } else {
        println!("(apt-get through sudo)");
        Privilege::Sudo
    };
    Ok(move || {
        let mut apt = root.command("env");
        apt.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"])
            .args(["-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0"]);
        apt
    })
}

/// Refreshes the lists. One unreachable source of several is no reason to stop: the packages may be in the others.
fn update(apt_get: impl Fn() -> Command) -> anyhow::Result<()> {
    // apt waits for dpkg's lock by itself, but not for that of the lists.
    for _ in 0..120 {
        let output = apt_get().arg("update").output().context("start apt-get")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(());
        }
        if !said.contains("Could not get lock") {
            println!("apt-get update: {}", said.trim());
            return Ok(());
        }
        println!("another apt-get is at work; waiting");
        thread::sleep(Duration::from_secs(5));
    }
    bail!("another apt-get held the lists' lock for ten minutes")
}

/// Every package of a machine that has none of them.
fn all_packages() -> String {
    let programs = PROGRAMS.map(|(_, package)| package).join(" ");
    format!("{} llvm-{LLVM}-dev {programs}", COMPILER_PACKAGES.join(" "))
}

/// What to type where this program cannot do it.
fn by_hand(packages: &[String]) -> String {
    format!(
        "Set-up could not be done from here.
On Debian 12, whose bookworm-security has them all, as root:
    apt-get update && apt-get install {packages}
    rustup toolchain link {linked} /usr
With rustup alone, for the compiler:
    rustup component add rust-src --toolchain 1.95.0
LLVM {LLVM} for the linker, from the distribution or from the LLVM project's own packages for it:
    sudo apt-get install llvm-{LLVM}-dev
Then again: cargo xtask setup",
        linked = toolchain::LINKED,
        packages = if packages.is_empty() {
            all_packages()
        } else {
            packages.join(" ")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_installed() {
        assert!(packages(&[], true).is_empty());
        assert_eq!(packages(&[Lack::Linker], false), ["llvm-22-dev"]);
        assert!(packages(&[Lack::Linker], true).is_empty());
        assert_eq!(
            packages(&[Lack::Program("ip", "iproute2"), Lack::Clippy], true),
            ["iproute2", "rust-web-clippy"]
        );
    }

    #[test]
    fn what_to_type_names_the_packages_and_the_next_step() {
        let text = by_hand(&["iproute2".into()]);
        assert!(text.contains("apt-get install iproute2\n"), "{text}");
        assert!(text.ends_with("cargo xtask setup"), "{text}");
    }

    #[test]
    fn the_readme_names_every_package() {
        let all = format!("`{}`", all_packages());
        assert!(include_str!("../../README.md").contains(&all), "{all}");
    }
}
