//! Everything that can be found without running the code.

use std::{path::Path, process::Command};

use anyhow::Context as _;

use crate::{
    process::{cargo, line},
    setup::{self, Purpose},
    summary::{Outcome, Summary},
    toolchain,
};

/// `cargo xtask lint`: runs all lints, also after one has failed, and sums up.
///
/// # Errors
/// When a lint finds something, or set-up fails.
pub(crate) fn command(workspace: &Path, strict: bool) -> anyhow::Result<()> {
    setup::ensure(workspace, Purpose::Lint)?;
    let mut summary = Summary::new("lint");
    summary.step("format", "one layout everywhere", || {
        check(cargo(workspace).args(["fmt", "--all", "--check"]))
    })?;
    summary.step("clippy", "the lints of Cargo.toml, for the host", || {
        check(cargo(workspace).args([
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--keep-going",
            "--",
            "-Dwarnings",
        ]))
    })?;
    summary.step(
        "clippy-bpf",
        "the same lints, as the kernel gets the code",
        || check(&mut clippy_for_bpf(workspace)?),
    )?;
    summary.step(
        "deny",
        "licences, sources and duplicates of dependencies",
        || {
            let Some(deny) = setup::deny(workspace) else {
                return Ok(Outcome::Absent(
                    "cargo-deny is not installed: cargo xtask setup --all".into(),
                ));
            };
            // Advisories need a network; the workflow on the forge checks them.
            check(Command::new(deny).current_dir(workspace).args([
                "--workspace",
                "check",
                "bans",
                "licenses",
                "sources",
            ]))
        },
    )?;
    // Building cargo-deny takes longer than all the rest, so its absence is said aloud but fails nobody.
    summary.finish(strict)
}

fn clippy_for_bpf(workspace: &Path) -> anyhow::Result<Command> {
    let compiler = toolchain::compiler().context("no compiler after set-up")?;
    let linker = toolchain::linker(workspace).context("no linker after set-up")?;
    let mut clippy = compiler.command(&setup::clippy(&compiler), "clippy", &linker);
    let own_cargo = cargo(workspace).get_program().to_owned();
    let own_cargo = compiler.cargo().map_or(own_cargo, Into::into);
    clippy
        .current_dir(workspace)
        // cargo-clippy asks the environment which cargo to start.
        .env("CARGO", own_cargo)
        .args([
            "--keep-going",
            "-p",
            "clusterip-ebpf",
            "-p",
            "clusterip-common",
        ])
        // Another compiler in the host's folder would make each forget what the other had found out.
        .args(["--target-dir", "target/ebpf", "--", "-Dwarnings"]);
    Ok(clippy)
}

fn check(command: &mut Command) -> anyhow::Result<Outcome> {
    println!("$ {}", line(command));
    let status = command
        .status()
        .with_context(|| format!("start {}", line(command)))?;
    Ok(if status.success() {
        Outcome::Passed(0)
    } else {
        Outcome::Failed
    })
}
