//! The demo: a node with pods on this machine, four services, and what becomes of requests to them, from a pod and from outside.

mod live;
mod outside;
mod screen;
mod series;
mod stage;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::interrupt;

use self::{screen::Screen, stage::Stage};

/// Makes a node and pods as network namespaces from the manifests, starts a server in each and the agent, and
/// shows what becomes of requests to the services.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "demo", version)]
pub struct Options {
    /// Folder of manifests: a pod is made of each Pod object in it
    #[arg(long, value_name = "DIR", default_value = "examples")]
    pub manifests: PathBuf,
    /// Requests to each service port
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: u32,
    /// What the names of the namespaces begin with: `ip netns exec PREFIX-client ...`
    #[arg(long, value_name = "PREFIX", default_value = "clusterip")]
    pub prefix: String,
    /// Send the series of requests, and exit 0 only if every answer came, the spread is even and the counters agree
    #[arg(long)]
    pub once: bool,
}

/// Runs the demo: whether everything was as it should be.
///
/// # Errors
/// Something could not be made or started, or the user wants to stop before the series is complete.
pub fn run(options: &Options) -> Result<bool> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the demo makes network namespaces and loads eBPF programs: run it as root (cargo xtask run does it through sudo)"
    );
    interrupt::listen()?;
    let mut screen = Screen::new();
    screen.title("clusterip demo")?;
    let stage = Stage::build(options, &mut screen)?;
    let good = show(options, &stage, &mut screen);
    screen.step("end", || {
        drop(stage);
        Ok((
            (),
            "agent, servers, pods and node are taken down".to_owned(),
        ))
    })?;
    good
}

fn show(options: &Options, stage: &Stage, screen: &mut Screen) -> Result<bool> {
    let mut frontends = stage.frontends()?;
    series::table(&frontends, stage, screen)?;
    let ways = outside::ways(&frontends, stage)?;
    frontends.retain(|it| ways.iter().all(|way| way.frontend != *it));
    let inside = series::run(&frontends, options.requests, stage, screen)?;
    let good = series::run_outside(&ways, options.requests, stage, screen)? && inside;
    series::conclude(good, screen)?;
    if !options.once {
        live::run(&frontends, &ways, stage, screen)?;
    }
    Ok(good)
}
