//! `clusterip run`: the node agent put together.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clusterip_common::abi::{Range, Settings, maps};
use ipnet::IpNet;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
};

use super::{names, origin::Origin, reload::Options, served::Served};
use crate::{
    addresses, announce,
    attachments::{self, Attachments},
    census::Census,
    clock::{Clock, monotonic},
    config::{Config, DirectReturn, Flags, Forwarding, RUN, SocketLb, UplinkMode},
    dataplane::{
        announced::AnnouncedMap,
        attach::{Hooks, Mode},
        bpf::Bpf,
        cgroup,
        counters::CounterMaps,
        diagnostics,
        expired::FlowSweep,
        flows::FlowMaps,
        load::{LoadOptions, Loaded, load},
        netns,
        pins::Pins,
        sockets::SocketMaps,
        ways::{self as way_maps, DeviceMap, Exits},
    },
    dns::{self, metrics::Names},
    expiry,
    health::{self, Answers, Health, Progress},
    interfaces, local_ports,
    metrics::{self, Figures, serve},
    model::{allocate::Allocations, event::Event, resolver::Resolver},
    plan::Limits,
    probe,
    reconcile::{self, Measures, Observers, Published, Reconciler, Timing},
    reconnect,
    source::{kube_dns, manifests::Reload},
    state::Store,
    supervisor,
    ways::Ways,
};

/// Batches of events that may wait; the reconciler takes all that wait as one.
const QUEUE: usize = 64;
/// `-vv`: the program's own diagnostics too.
const DIAGNOSTICS: u8 = 2;
/// aya-log's number for "debug".
const DEBUG: u8 = 4;

/// Serves until it is told to stop. The dataplane goes on without the agent (F4).
pub(super) async fn run(config: Config, flags: Flags<RUN>) -> anyhow::Result<()> {
    // First what can be wrong with the call, then what the kernel may refuse.
    let clock = Clock::start();
    let source = Origin::open(&config, clock).await?;
    let (store, kept) = kept(&config);
    let pins = Pins::new(&config.bpffs);
    let sockets = sockets(&config)?;
    let options = options(&config, &pins, sockets.as_ref());
    let mut loaded = load(&options).context("load the dataplane")?;
    let map_bytes: u64 = loaded.footprint().values().sum();
    let maps = Bpf::new(&mut loaded)?;
    let sweep = FlowSweep::open(&pins)?;
    let expiry = expiry::keep(sweep, options.settings, maps.destinations(), monotonic);
    let census = Arc::new(Census::new(FlowMaps::open(&pins)?, options.settings));
    let capacity = loaded.capacity().to_vec();
    diagnose(&config, &mut loaded)?;
    attach_sockets(&mut loaded, &pins, sockets.as_ref())?;
    let (ways, exits) = ways(&config, &mut loaded)?;
    let machine = addresses::Watch::begin(&config).await;
    let resolver = knowing(super::resolver(&config, kept), &machine);
    let reconciler = Reconciler::new(maps, resolver, store, limits(&loaded))
        .with_guests(config.expose_cluster_ips);
    let names = names::open(&config).await?;
    let (events, listed) = mpsc::channel(QUEUE);
    let (completed, given) = mpsc::channel(QUEUE);
    let (probed, inbox) = mpsc::channel(QUEUE);
    let (published, seen) = watch::channel(Published::default());
    let (standings, found) = watch::channel(probe::Standings::default());
    let (progress, progressed) = watch::channel(Progress::new(clock.now()));
    let (measures, results) = (Measures::default(), probe::Results::default());
    let observers = Observers {
        clock,
        published,
        progress,
        measures: measures.clone(),
    };
    let ((devices, wanted), (attached, held)) = (watch::channel(None), watch::channel(None));

    let connected = connected(&pins, sockets.as_ref(), seen.clone())?;
    let (resolving, inquirer) = dns::server::start(names.sockets, names.responder, seen.clone());
    let kube_dns = kube_dns::run(super::kube_dns(&config), listed, completed);

    let served = Served {
        published: seen.clone(),
        attached: held.clone(),
        probes: found,
        capacity: capacity.clone(),
        sockets: sockets.is_some(),
        names: inquirer,
        census: Arc::clone(&census),
        connection: source.connection(),
    };
    let api = served.listen(&config, &pins, &mut loaded).await?;
    let health = Health {
        clock,
        progress: progressed,
        published: seen.clone(),
        attached: held.clone(),
        connection: source.connection(),
        answers: Answers::default(),
    };
    let announced = AnnouncedMap::open(&mut loaded)?;
    let figures = Figures {
        published: seen,
        wanted: wanted.clone(),
        attached: held.clone(),
        counters: CounterMaps::open(&pins)?,
        census,
        capacity,
        exits,
        announced: announced.count(),
        per_backend: config.metrics_per_backend,
        facts: super::version::facts(),
    };
    let told = (&source, names.told);
    answer(&config, &health, figures, &measures, &results, told).await?;
    let announced = announce(&config, announced, &health, probed.clone());
    let hooks =
        Hooks::new(loaded, pins, Mode::detect()).at_drivers(config.uplink_mode == UplinkMode::Auto);
    let (reloaded, interfaces) = Options::new(flags, config.clone());
    let hang_up = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    log::info!(node = config.node_name, source:% = source, mode:% = Mode::detect(), map_bytes; "started");
    tokio::select! {
        _reconciler = reconcile::run(reconciler, inbox, observers, Timing::default()) => anyhow::bail!("the source of objects ended"),
        () = kube_dns => anyhow::bail!("the source of objects ended"),
        () = machine.keep(probed.clone()) => anyhow::bail!("the reconciler ended"),
        () = resolving => anyhow::bail!("the resolver ended"),
        () = names.forwarder.run() => anyhow::bail!("the watch on upstreams ended"),
        () = probe::run(&config.node_name, results.clone(), probe::Leaving::new(&config.state_dir), given, probed, standings) => anyhow::bail!("the probes ended"),
        () = reload(hang_up, source.reload(), reloaded) => anyhow::bail!("the signals ended"),
        () = source.run(&config.node_name, health.published.clone(), events) => anyhow::bail!("the watch on the source of objects ended"),
        () = health::keep_node_ports(health.clone()) => {}
        () = supervised(health) => {}
        () = interfaces::watch_by(interfaces, devices) => {}
        () = attachments::keep(hooks, wanted, attached) => {}
        () = followed(ways, held) => {}
        _never = async { tokio::join!(connected, expiry, announced) } => {}
        () = api => anyhow::bail!("the API ended"),
        () = told_to_stop()? => {}
    }
    log::info!("stopped; the dataplane goes on");
    Ok(())
}

/// Announces the pool of load balancers, if there is one; what an earlier run announced ends with that one's pool.
fn announce(
    config: &Config,
    map: AnnouncedMap,
    health: &Health,
    events: mpsc::Sender<Vec<Event>>,
) -> impl Future<Output = ()> + use<> {
    let has_pool = !config.load_balancer_pool.is_empty();
    let (published, attached) = (health.published.clone(), health.attached.clone());
    announce::keep(has_pool, map, published, attached, events)
}

/// Before anything is decided: what is served by the machine's addresses stays so over a restart (F4).
fn knowing(mut resolver: Resolver, machine: &addresses::Watch) -> Resolver {
    resolver.take(vec![machine.event()]);
    resolver
}

/// Ends when somebody wants the agent to end.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        supervisor::stopping();
    })
}

/// What goes past the stack, if that is wanted: the ways, and their counters.
type Watched = Option<(Ways, DeviceMap)>;

fn ways(config: &Config, loaded: &mut Loaded) -> anyhow::Result<(Watched, Option<Exits>)> {
    if config.forwarding == Forwarding::Stack && config.uplink_mode != UplinkMode::Auto {
        return Ok((None, None));
    }
    let (devices, changes, exits) = way_maps::open(loaded)?;
    let ways = Ways::new(changes);
    ways.listen().context("listen to changes of routes")?;
    Ok((Some((ways, devices)), Some(exits)))
}

async fn followed(ways: Watched, devices: watch::Receiver<Option<Attachments>>) {
    match ways {
        Some((ways, map)) => ways.keep(map, devices).await,
        None => std::future::pending().await,
    }
}

/// It ends where no service manager listens any more; the agent does not.
async fn supervised(health: Health) {
    supervisor::keep(health).await;
    std::future::pending::<()>().await;
}

/// What monitoring systems and supervisors ask by HTTP.
async fn answer(
    config: &Config,
    health: &Health,
    figures: Figures,
    measures: &Measures,
    results: &probe::Results,
    (source, names): (&Origin, Names),
) -> anyhow::Result<()> {
    if let Some(address) = config.metrics_bind_address {
        let published = figures.published.clone();
        let mut registry = metrics::registry(published, measures, &health.answers, results, names);
        source.register(&mut registry);
        serve("metrics", address, metrics::routes(figures, registry)).await?;
    }
    if let Some(address) = config.healthz_bind_address {
        serve("healthz", address, health::routes(health.clone())).await?;
    }
    Ok(())
}

/// Where allocations are kept, and those of the last run. An API server gives addresses out and keeps them itself.
fn kept(config: &Config) -> (Option<Store>, Allocations) {
    if config.has_api_server() {
        return (None, Allocations::default());
    }
    let store = Store::new(&config.state_dir);
    let kept = allocations(&store);
    (Some(store), kept)
}

/// `-vv`
fn diagnose(config: &Config, loaded: &mut Loaded) -> anyhow::Result<()> {
    if config.verbose >= DIAGNOSTICS {
        diagnostics::follow(loaded)?;
    }
    Ok(())
}

/// Those of the last run. If they are lost, addresses come from the dataplane (G4).
fn allocations(store: &Store) -> Allocations {
    store.load().unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        log::error!(error:%, cause:?; "allocations of the last run are not known: addresses come from the dataplane");
        Allocations::new()
    })
}

/// At each SIGHUP: options and manifests are read again.
async fn reload(mut signal: Signal, manifests: Option<Reload>, mut options: Options) {
    while signal.recv().await.is_some() {
        supervisor::reloading();
        options.reload();
        if let Some(manifests) = &manifests {
            manifests.now().await;
        }
        supervisor::ready();
    }
}

/// Whose sockets are translated.
struct Sockets {
    cgroup: PathBuf,
    /// Number of the network namespace, 0 for every one.
    netns: u64,
    /// Number of the node's own.
    node: u64,
}

fn attach_sockets(
    loaded: &mut Loaded,
    pins: &Pins,
    sockets: Option<&Sockets>,
) -> anyhow::Result<()> {
    match sockets {
        Some(sockets) => cgroup::attach(loaded, pins, &sockets.cgroup)?,
        // An earlier run may have left some.
        None => cgroup::detach(pins)?,
    }
    Ok(())
}

/// Keeps connected sockets of the node connected to backends that serve.
fn connected(
    pins: &Pins,
    sockets: Option<&Sockets>,
    published: watch::Receiver<Published>,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let kept = match sockets {
        Some(sockets) => {
            let everywhere = sockets.netns == 0;
            Some(reconnect::keep(
                SocketMaps::open(pins)?,
                everywhere,
                published,
            ))
        }
        None => None,
    };
    Ok(async move {
        match kept {
            Some(keep) => keep.await,
            None => std::future::pending().await,
        }
    })
}

/// What `--socket-lb` comes to on this machine. A node that has no cgroup2 works without: pods are served by packets.
fn sockets(config: &Config) -> anyhow::Result<Option<Sockets>> {
    let node = || netns::cookie().context("number of this network namespace");
    let (netns, node) = match config.socket_lb {
        SocketLb::Off => return Ok(None),
        SocketLb::All => (0, node()?),
        SocketLb::Host => (node()?, node()?),
    };
    let cgroup = if let Some(cgroup) = &config.cgroup {
        cgroup::check(cgroup)?;
        cgroup.clone()
    } else if let Some(root) = cgroup::root() {
        root
    } else {
        log::warn!(
            "no cgroup2 is mounted: processes of this node itself cannot reach services; mount one \
             (mount -t cgroup2 none /sys/fs/cgroup), name it with --cgroup, or silence this with --socket-lb off"
        );
        return Ok(None);
    };
    Ok(Some(Sockets {
        cgroup,
        netns,
        node,
    }))
}

/// What the programs at devices are loaded with.
pub(super) fn settings(config: &Config) -> Settings {
    let range = |is_v4: bool| {
        let mut nets = config.service_cidrs.iter();
        nets.find(|net| net.addr().is_ipv4() == is_v4)
            .map_or(Range::EMPTY, range_of)
    };
    let ports = local_ports::masquerade(&config.nodeport_range);
    let settings = Settings {
        past_stack: u64::from(config.forwarding == Forwarding::Redirect),
        direct_return: match config.direct_return {
            DirectReturn::Off => 0,
            DirectReturn::Accept => 1,
            DirectReturn::On => 2,
        },
        service_v4: range(true),
        service_v6: range(false),
        expose_cluster_ips: config.expose_cluster_ips.into(),
        masquerade_first: (*ports.start()).into(),
        masquerade_count: u32::from(*ports.end()) - u32::from(*ports.start()) + 1,
        ..Settings::DEFAULT
    };
    with_times(config, settings)
}

fn options(config: &Config, pins: &Pins, sockets: Option<&Sockets>) -> LoadOptions {
    LoadOptions {
        pins: Some(pins.clone()),
        max_services: config.max_services,
        max_backends: config.max_backends,
        max_flows: config.max_flows,
        settings: Settings {
            socket_netns: sockets.map_or(0, |sockets| sockets.netns),
            node_netns: sockets.map_or(0, |sockets| sockets.node),
            ..settings(config)
        },
        sockets: sockets.is_some(),
        uplinks: config.uplink_mode != UplinkMode::Off,
        drivers: config.uplink_mode == UplinkMode::Auto,
        log_level: if config.verbose >= DIAGNOSTICS {
            DEBUG
        } else {
            0
        },
    }
}

fn with_times(config: &Config, mut settings: Settings) -> Settings {
    config.flow_timeouts.apply(&mut settings);
    for address in &config.hairpin_addresses {
        let place = if address.is_ipv4() {
            &mut settings.hairpin_v4
        } else {
            &mut settings.hairpin_v6
        };
        *place = (*address).into();
    }
    settings
}

/// A prefix as the program compares it: IPv4 behind 96 bits.
pub(super) fn range_of(net: &IpNet) -> Range {
    let prefix = match net.addr() {
        IpAddr::V4(_) => 96 + net.prefix_len(),
        IpAddr::V6(_) => net.prefix_len(),
    };
    Range::new(net.addr().into(), prefix)
}

fn limits(loaded: &Loaded) -> Limits {
    let entries = |name| {
        let found = loaded.capacity().iter().find(|(map, _)| *map == name);
        found.map_or(0, |(_, entries)| *entries)
    };
    Limits {
        services: entries(maps::SERVICES.name),
        backends: entries(maps::BACKENDS.name),
        slots: entries(maps::SLOTS.name),
    }
}
