//! The API of `clusterip run`: what it is made of.

use std::time::Instant;

use tokio::sync::watch;

use crate::{
    api::{self, socket::Socket},
    attachments::Attachments,
    config::{Config, SocketLb, Source},
    dataplane::{attach::Mode, pins::Pins},
    dns::inquiry::Inquirer,
    probe,
    reconcile::Published,
    source::kubernetes::Connection,
    view::status::AgentFacts,
};

/// What the API is made of, besides the maps.
pub(super) struct Served {
    /// The model and its ids.
    pub(super) published: watch::Receiver<Published>,
    /// The devices with hooks.
    pub(super) attached: watch::Receiver<Option<Attachments>>,
    /// What the probes found.
    pub(super) probes: watch::Receiver<probe::Standings>,
    /// Capacities of the maps, by name.
    pub(super) capacity: Vec<(&'static str, u32)>,
    /// Whether calls of sockets are translated.
    pub(super) sockets: bool,
    /// Asks the resolver.
    pub(super) names: Inquirer,
    /// How the API server is reached, if that is the source.
    pub(super) connection: Option<watch::Receiver<Connection>>,
}

impl Served {
    /// Listens on the socket, if there is to be one; the future serves.
    pub(super) async fn listen(
        self,
        config: &Config,
        pins: &Pins,
    ) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let Self {
            published,
            attached,
            probes,
            capacity,
            sockets,
            names,
            connection,
        } = self;
        let socket = match &config.socket {
            Some(path) => Some(Socket::bind(path).await?),
            None => None,
        };
        let (writer, ages) = watch::channel(api::Ages::default());
        let follow = api::follow_ages(published.clone(), writer);
        let routes = api::routes(api::Sources {
            published,
            attached,
            probes,
            ages,
            names,
            kernel: api::KernelTables::open(pins)?,
            capacity,
            facts: AgentFacts {
                node: config.node_name.clone(),
                pid: std::process::id(),
                mode: Mode::detect().to_string(),
                socket_lb: match config.socket_lb {
                    SocketLb::Host if sockets => "host",
                    SocketLb::All if sockets => "all",
                    SocketLb::Host | SocketLb::All | SocketLb::Off => "off",
                }
                .to_owned(),
                bpffs: config.bpffs.display().to_string(),
                ..super::version::facts()
            },
            source: match config.source() {
                Source::Manifests(directory) => ("manifests", directory.display().to_string()),
                Source::Kubeconfig(file) => ("kubernetes", file.display().to_string()),
                Source::InCluster => ("kubernetes", "in-cluster".to_owned()),
            },
            connection,
            started: Instant::now(),
        });
        Ok(async move {
            let Some(socket) = socket else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = socket.serve(routes) => {}
                () = follow => {}
            }
        })
    }
}
