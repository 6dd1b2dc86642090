//! The API of `clusterip run`: what it is made of.

use std::{sync::Arc, time::Instant};

use tokio::sync::watch;

use crate::{
    api::{self, socket::Socket},
    attachments::Attachments,
    census::Census,
    config::{Config, Forwarding, SocketLb, Source},
    dataplane::{
        attach::Mode,
        events::Events,
        load::{FROM_POD, Loaded},
        pins::Pins,
    },
    dns::inquiry::Inquirer,
    monitor, probe,
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
    /// The tables that the program fills.
    pub(super) census: Arc<Census>,
    /// How the API server is reached, if that is the source.
    pub(super) connection: Option<watch::Receiver<Connection>>,
}

impl Served {
    /// What does not change while the agent runs.
    fn facts(&self, config: &Config) -> AgentFacts {
        AgentFacts {
            node: config.node_name.clone(),
            pid: std::process::id(),
            mode: Mode::detect().to_string(),
            socket_lb: match config.socket_lb {
                SocketLb::Host if self.sockets => "host",
                SocketLb::All if self.sockets => "all",
                SocketLb::Host | SocketLb::All | SocketLb::Off => "off",
            }
            .to_owned(),
            forwarding: match config.forwarding {
                Forwarding::Stack => "stack",
                Forwarding::Redirect => "redirect",
            }
            .to_owned(),
            direct_return: config.direct_return.name().to_owned(),
            bpffs: config.bpffs.display().to_string(),
            ..super::version::facts()
        }
    }

    /// Listens on the socket, if there is to be one; the future serves.
    pub(super) async fn listen(
        self,
        config: &Config,
        pins: &Pins,
        loaded: &mut Loaded,
    ) -> anyhow::Result<impl Future<Output = ()> + use<>> {
        let facts = self.facts(config);
        let settings = super::run::settings(config);
        let Self {
            published,
            attached,
            probes,
            capacity,
            sockets: _,
            names,
            census,
            connection,
        } = self;
        let events = Events::new(loaded)?;
        let (door, listeners) = monitor::door();
        let around = monitor::Surroundings {
            published: published.clone(),
            attached: attached.clone(),
        };
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
            monitor: door,
            tracing: api::Tracing {
                pins: pins.clone(),
                settings,
                tag: loaded.info(FROM_POD).map(|info| info.tag()).ok(),
            },
            kernel: api::KernelTables::open(pins, census)?,
            capacity,
            settings,
            facts,
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
                () = monitor::run(events, listeners, around) => {}
            }
        })
    }
}
