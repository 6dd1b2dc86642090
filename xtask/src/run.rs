//! Building, and the demo.

use std::{
    env,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
};

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
    program(workspace, "demo", Profile::Dev, arguments)
}

/// Builds the agent and a program of the tests, and becomes the latter, with the kernel's rights.
///
/// # Errors
/// When the build fails, the rights are missing, or the program cannot be started.
pub(crate) fn program(
    workspace: &Path,
    name: &str,
    profile: Profile,
    arguments: &[String],
) -> anyhow::Result<()> {
    // Asked first: nobody wants to type a password after minutes of building.
    let privilege = match Privilege::obtain() {
        Ok(privilege) => privilege,
        Err(why) => bail!("programs in the kernel and network namespaces need root: {why}"),
    };
    binaries(workspace, profile)?;
    let program = artifact(name, profile)?;
    let error = privilege
        .command(&program)
        .args(arguments)
        .env(AGENT, artifact("clusterip", profile)?)
        .current_dir(workspace)
        .exec();
    Err(error).with_context(|| format!("start {}", program.display()))
}

/// Tells the tests and the demo which agent to start. Without it they would ask cargo, as root under sudo.
pub(crate) const AGENT: &str = "CLUSTERIP_BIN";

/// Which of cargo's profiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds the agent and the programs of the tests.
///
/// # Errors
/// When the build fails.
pub(crate) fn binaries(workspace: &Path, profile: Profile) -> anyhow::Result<()> {
    let mut build = cargo(workspace);
    build.args(["build", "--locked", "--bins"]);
    build.args(["-p", "clusterip-agent", "-p", "clusterip-tests"]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    run(&mut build)
}

/// Where cargo puts a program: beside this one, whose profile is dev.
///
/// # Errors
/// When this program was not built by cargo.
pub(crate) fn artifact(name: &str, profile: Profile) -> anyhow::Result<PathBuf> {
    let this = env::current_exe().context("find this program")?;
    let target = this
        .parent()
        .and_then(Path::parent)
        .context("this program is not in cargo's target directory")?;
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    };
    Ok(target.join(folder).join(name))
}
