//! The source under test, and the model behind it.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clusterip_agent::{
    clock::Clock,
    config,
    model::{
        allocate::Allocations,
        event::Event,
        exposure::Exposure,
        object::ObjectName,
        problem::Problem,
        range::ServiceRange,
        resolver::Resolver,
        service::{Algorithm, ResolvedService},
        snapshot::Snapshot,
    },
    reconcile::Published,
    source::kubernetes::{Connection, Provider, Scope, Servers, Source, provide},
};
use clusterip_tests::{ApiServer, apiserver::kubeconfig, wait::PATIENCE};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

/// The node that it is on.
pub(crate) const NODE: &str = "node-a";

/// Listens to a server, and knows what follows from what it hears.
pub(crate) struct Listener {
    events: mpsc::Receiver<Vec<Event>>,
    connection: watch::Receiver<Connection>,
    resolver: Resolver,
    /// What the resolver says, for whoever gives load balancers their addresses.
    published: watch::Sender<Published>,
    /// What was heard, without the objects: `Reset`, `Put Service default/web`, ...
    pub(crate) heard: Vec<String>,
    task: JoinHandle<()>,
    provider: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Listener {
    /// Listens to one server.
    pub(crate) fn to(server: &ApiServer) -> Result<Self> {
        let file = server.kubeconfig()?;
        Self::by(file.path(), &[], &Scope::new(NODE, false))
    }

    /// Listens to the first server of several that answers.
    pub(crate) fn to_one_of(addresses: &[String]) -> Result<Self> {
        let file = kubeconfig("https://nowhere.invalid:6443")?;
        Self::by(file.path(), addresses, &Scope::new(NODE, false))
    }

    /// Listens as a file says.
    pub(crate) fn by(kubeconfig: &Path, addresses: &[String], scope: &Scope) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let servers = runtime.block_on(Servers::open(
            config::Source::Kubeconfig(kubeconfig),
            addresses,
        ))?;
        let source = Source::new(servers, scope.clone(), Clock::start());
        let connection = source.connection();
        let (sender, events) = mpsc::channel(64);
        Ok(Self {
            events,
            connection,
            resolver: resolver(NODE, Exposure::default())?,
            published: watch::Sender::default(),
            heard: Vec::new(),
            task: runtime.spawn(source.run(sender)),
            provider: None,
            runtime: Some(runtime),
        })
    }

    /// Listens as a node that gives load balancers of a class addresses of a pool.
    pub(crate) fn providing(
        server: &ApiServer,
        node: &str,
        class: &str,
        pool: &[&str],
    ) -> Result<Self> {
        let file = server.kubeconfig()?;
        let mut listener = Self::by(file.path(), &[], &Scope::new(node, false).providing())?;
        let nets: Result<Vec<_>, _> = pool.iter().map(|net| net.parse()).collect();
        let pool: Vec<ServiceRange> = nets?.into_iter().map(ServiceRange::new).collect();
        listener.resolver = resolver(
            node,
            Exposure {
                pool: pool.clone(),
                class: Some(class.into()),
                ..Exposure::default()
            },
        )?;
        let Some(runtime) = &listener.runtime else {
            bail!("no runtime")
        };
        let provider = Provider {
            node: node.into(),
            class: class.into(),
            pool,
        };
        let servers =
            runtime.block_on(Servers::open(config::Source::Kubeconfig(file.path()), &[]))?;
        let (told, events) = mpsc::channel(64);
        // Both are heard, as one.
        let mut heard = std::mem::replace(&mut listener.events, events);
        let passed = told.clone();
        runtime.spawn(async move {
            while let Some(batch) = heard.recv().await {
                if passed.send(batch).await.is_err() {
                    return;
                }
            }
        });
        let published = listener.published.subscribe();
        let providing = provide(servers, provider, Clock::start(), published, told);
        listener.provider = Some(runtime.spawn(providing));
        Ok(listener)
    }

    /// Takes in what comes until something is so.
    pub(crate) fn until(&mut self, what: &str, is_it: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE * 3;
        while !is_it(self) {
            if !self.step()? && Instant::now() >= end {
                bail!(
                    "waited in vain until {what}\nservices {:#?}\nproblems {:#?}\nconnection {:#?}\nheard {:#?}",
                    self.services(),
                    self.problems(),
                    self.connection(),
                    self.heard
                );
            }
        }
        Ok(())
    }

    /// Takes in what comes next; false if nothing does for a moment.
    pub(crate) fn step(&mut self) -> Result<bool> {
        let Some(runtime) = &self.runtime else {
            bail!("no runtime")
        };
        // A look now and then: what is waited for may be no event.
        let pause = Duration::from_millis(20);
        match runtime.block_on(async { timeout(pause, self.events.recv()).await }) {
            Ok(Some(batch)) => self.take(batch),
            Ok(None) => bail!("the source ended"),
            Err(_) => return Ok(false),
        }
        Ok(true)
    }

    fn take(&mut self, batch: Vec<Event>) {
        self.heard.extend(batch.iter().map(word));
        self.resolver.take(batch);
        let _nothing_to_keep = self.resolver.allocate();
        let _changed = self.resolver.resolve();
        self.published.send_replace(Published {
            snapshot: Arc::new(self.resolver.snapshot().clone()),
            synced: self.resolver.is_synced(),
            ..Published::default()
        });
    }

    /// Whether everything was listed once.
    pub(crate) const fn is_synced(&self) -> bool {
        self.resolver.is_synced()
    }

    /// What follows.
    pub(crate) const fn snapshot(&self) -> &Snapshot {
        self.resolver.snapshot()
    }

    /// `name address:port -> endpoint, endpoint`, by name.
    pub(crate) fn services(&self) -> Vec<String> {
        let services = self.snapshot().services.values();
        services.flat_map(|service| lines(service)).collect()
    }

    /// Names of the services in the namespace `default`.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        let services = self.snapshot().services.keys();
        services.map(|name| &*name.name).collect()
    }

    /// A service of the namespace `default`.
    pub(crate) fn service(&self, name: &str) -> Option<&ResolvedService> {
        let name = ObjectName::new("default", name);
        self.snapshot()
            .services
            .get(&name)
            .map(std::sync::Arc::as_ref)
    }

    /// All that is wrong.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.snapshot().problems();
        problems.iter().map(Problem::to_string).collect()
    }

    /// How the server is reached.
    pub(crate) fn connection(&self) -> Connection {
        self.connection.borrow().clone()
    }

    /// Why the server is not reached, if it is not.
    pub(crate) fn lost(&self) -> Option<String> {
        let connection = self.connection.borrow();
        connection.lost().map(|(_, why)| why.to_owned())
    }

    /// How often something was heard.
    pub(crate) fn count(&self, word: &str) -> usize {
        self.heard.iter().filter(|it| *it == word).count()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(provider) = &self.provider {
            provider.abort();
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn resolver(node: &str, exposure: Exposure) -> Result<Resolver> {
    let ranges = vec![ServiceRange::new("10.96.0.0/16".parse()?)];
    let resolver = Resolver::new(node, Algorithm::default(), ranges, Allocations::default());
    Ok(resolver.exposed(30_000..=32_767, exposure).of_api_server())
}

fn lines(service: &ResolvedService) -> Vec<String> {
    let of = |balancer: &clusterip_agent::model::service::Balancer| {
        let endpoints: Vec<String> = balancer
            .chosen()
            .map(|it| format!("{}:{}", it.address, it.port))
            .collect();
        let frontends: Vec<String> = balancer
            .frontends
            .iter()
            .map(|it| format!("{}:{}", it.address, it.port))
            .collect();
        format!(
            "{} {} -> {}",
            service.name.name,
            frontends.join(" "),
            endpoints.join(", ")
        )
    };
    service.balancers.iter().map(of).collect()
}

fn word(event: &Event) -> String {
    match event {
        Event::Reset => "Reset".to_owned(),
        Event::Put(object) => format!("Put {}", object.key),
        Event::Remove(key) => format!("Remove {key}"),
        Event::Synced => "Synced".to_owned(),
        Event::Problems(problems) => format!("Problems {}", problems.len()),
        Event::Changed(_) => "Changed".to_owned(),
        Event::Machine(addresses) => format!("Machine {addresses:?}"),
        Event::Conflicts(conflicts) => format!("Conflicts {conflicts:?}"),
        Event::Unprovided(faults) => format!("Unprovided {faults:?}"),
    }
}
