//! Where the objects of `clusterip run` come from.

use std::fmt;

use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};

use crate::{
    clock::Clock,
    config::{Config, DirectReturn, Source},
    interfaces,
    model::{event::Event, range::ServiceRange},
    reconcile::Published,
    source::{
        kubernetes::{self, Connection, Provider, Scope, Servers},
        manifests::{Kept, Reload, Watch},
    },
};

/// Where objects come from.
pub(super) enum Origin {
    /// A directory.
    Manifests(Box<Watch>, String),
    /// An API server.
    Kubernetes(Box<kubernetes::Source>, Servers, Option<Provider>),
}

impl Origin {
    /// What the configuration says. A directory is read, an API server is not asked yet: it may be away.
    pub(super) async fn open(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let source = config.source();
        if let Source::Manifests(directory) = source {
            let last_good = Kept::open(&config.state_dir.join("manifests"));
            let watch = Watch::start(directory, super::rules(config), last_good)?;
            return Ok(Self::Manifests(
                Box::new(watch),
                directory.display().to_string(),
            ));
        }
        let servers = Servers::open(source, &config.kube_api_servers).await?;
        let provider = provider(config);
        let scope = Scope::new(&config.node_name, !config.dns_listen.is_empty());
        let scope = if provider.is_some() {
            scope.providing()
        } else {
            scope
        };
        let scope = match config.direct_return {
            DirectReturn::Off => scope,
            DirectReturn::Accept | DirectReturn::On => scope.among_nodes(),
        };
        let source = kubernetes::Source::new(servers.clone(), scope, clock)
            .on_machine(interfaces::own_addresses);
        Ok(Self::Kubernetes(Box::new(source), servers, provider))
    }

    /// How the API server is reached, if there is one.
    pub(super) fn connection(&self) -> Option<watch::Receiver<Connection>> {
        match self {
            Self::Manifests(..) => None,
            Self::Kubernetes(source, ..) => Some(source.connection()),
        }
    }

    /// What makes it be read at once, if it is not told of everything anyway.
    pub(super) fn reload(&self) -> Option<Reload> {
        match self {
            Self::Manifests(watch, _) => Some(watch.reload()),
            Self::Kubernetes(..) => None,
        }
    }

    /// Shows what is counted of it.
    pub(super) fn register(&self, registry: &mut Registry) {
        if let Self::Kubernetes(source, ..) = self {
            let ours = registry.sub_registry_with_prefix("clusterip");
            source.tally().register(ours);
        }
    }

    /// Sends what it says until nobody listens, and tells an API server of problems with its objects.
    pub(super) async fn run(
        self,
        node: &str,
        published: watch::Receiver<Published>,
        events: mpsc::Sender<Vec<Event>>,
    ) {
        match self {
            Self::Manifests(watch, _) => watch.run(events).await,
            Self::Kubernetes(source, servers, provider) => {
                let (tally, clock) = (source.tally().clone(), source.clock());
                let node = node.to_owned();
                let announcing =
                    kubernetes::announce(servers.clone(), tally, node, clock, published.clone());
                let told = events.clone();
                let providing = async {
                    match provider {
                        Some(provider) => {
                            kubernetes::provide(servers, provider, clock, published, told).await;
                        }
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = source.run(events) => {}
                    () = announcing => {}
                    () = providing => {}
                }
            }
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(_, directory) => write!(f, "manifests {directory}"),
            Self::Kubernetes(_, servers, _) => {
                write!(f, "kubernetes {}", servers.addresses().join(", "))
            }
        }
    }
}

/// What load balancers get from here, with an API server: nothing, unless a class says whose affair that is.
fn provider(config: &Config) -> Option<Provider> {
    let (pool, class) = (&config.load_balancer_pool, &config.load_balancer_class);
    match class {
        Some(class) if !pool.is_empty() => Some(Provider {
            node: config.node_name.as_str().into(),
            class: class.as_str().into(),
            pool: pool.iter().copied().map(ServiceRange::new).collect(),
        }),
        None if !pool.is_empty() => {
            log::warn!(
                "--load-balancer-pool has no effect: with an API server, --load-balancer-class has to say whose load balancers \
                 get its addresses"
            );
            None
        }
        Some(_) | None => None,
    }
}
