//! `clusterip run`: the node agent.

use crate::config::Config;

/// Serves until it is told to stop.
#[expect(clippy::unused_async, reason = "not built yet")]
pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    drop(config);
    anyhow::bail!("run is not built yet")
}
