//! The API server of the tests, by hand: for `kubectl`, `curl` and an agent beside it. Its objects are gone when it ends.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use clap::Parser;
use clusterip_tests::{ApiServer, apiserver::objects};

/// An API server with Services, EndpointSlices, Nodes, Namespaces and Events, in memory.
#[derive(Parser, Debug)]
struct Arguments {
    /// Where it listens; it believes whoever asks
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// File to write that leads to it
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Name of a node that is there from the start
    #[arg(long)]
    node: Option<String>,
}

#[expect(clippy::print_stdout, reason = "where it is, is all that it says")]
fn main() -> anyhow::Result<()> {
    let Arguments {
        listen,
        kubeconfig,
        node,
    } = Arguments::parse();
    let server = ApiServer::start_on(listen)?;
    if let Some(node) = node {
        server.put(objects::node(&node, "zone-a"))?;
    }
    if let Some(path) = kubeconfig {
        let file = server.kubeconfig()?;
        std::fs::copy(file.path(), &path).with_context(|| format!("write {}", path.display()))?;
    }
    println!("{}", server.url());
    loop {
        std::thread::park();
    }
}
