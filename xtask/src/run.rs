//! Building, and the demo.

use std::{env, os::unix::process::CommandExt as _, path::Path};

use anyhow::{Context as _, bail};

use crate::{
    process::{Privilege, cargo, run},
    setup::{self, Purpose},
};

/// `cargo xtask build`.
///
/// # Errors
/// When set-up or the build fails.
pub(crate) fn build(workspace: &Path, arguments: &[String]) -> anyhow::Result<()> {
    setup::ensure(workspace, Purpose::Build)?;
    run(cargo(workspace)
        .args(["build", "--locked", "--package", "clusterip-agent"])
        .args(arguments))
}

/// `cargo xtask run`: becomes the demo, so that signals and the exit status are its own.
///
/// # Errors
/// When set-up or the build fails, or the rights are missing.
pub(crate) fn demo(workspace: &Path, arguments: &[String]) -> anyhow::Result<()> {
    setup::ensure(workspace, Purpose::Run)?;
    program(workspace, "demo", &[], arguments)
}

/// Builds the agent and a program of the tests, and becomes the latter, with the kernel's rights.
///
/// # Errors
/// When the build fails, the rights are missing, or the program cannot be started.
pub(crate) fn program(
    workspace: &Path,
    name: &str,
    profile: &[&str],
    arguments: &[String],
) -> anyhow::Result<()> {
    run(cargo(workspace)
        .args([
            "build",
            "--locked",
            "-p",
            "clusterip-agent",
            "-p",
            "clusterip-tests",
            "--bins",
        ])
        .args(profile))?;
    let privilege = match Privilege::obtain() {
        Ok(privilege) => privilege,
        Err(why) => bail!("loading programs and making network namespaces needs root: {why}"),
    };
    let this = env::current_exe().context("find this program")?;
    let folder = if profile.is_empty() {
        "debug"
    } else {
        "release"
    };
    let program = this
        .parent()
        .and_then(Path::parent)
        .context("this program is not in cargo's target directory")?
        .join(folder)
        .join(name);
    let error = privilege
        .command(&program)
        .args(arguments)
        .current_dir(workspace)
        .exec();
    Err(error).with_context(|| format!("start {}", program.display()))
}
