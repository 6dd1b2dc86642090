//! `clusterip run`: the node agent put together.

use std::net::IpAddr;

use anyhow::Context as _;
use clusterip_common::abi::{Range, Settings, maps};
use ipnet::IpNet;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
};

use crate::{
    attachments,
    config::Config,
    dataplane::{
        attach::{Hooks, Mode},
        bpf::Bpf,
        counters::CounterMaps,
        diagnostics,
        load::{LoadOptions, Loaded, load},
        pins::Pins,
    },
    interfaces::{self, Globs},
    metrics::{Figures, Health, health_routes, metrics_routes, serve},
    plan::Limits,
    probe,
    reconcile::{self, Published, Reconciler, Timing},
    source::manifests::Watch,
    state::Store,
};

/// Batches of events that may wait; the reconciler takes all that wait as one.
const QUEUE: usize = 64;
/// `-vv`: the program's own diagnostics too.
const DIAGNOSTICS: u8 = 2;
/// aya-log's number for "debug".
const DEBUG: u8 = 4;

/// Serves until it is told to stop. The dataplane goes on without the agent (F4).
pub(super) async fn run(config: Config) -> anyhow::Result<()> {
    // First what can be wrong with the call, then what the kernel may refuse.
    let watch = Watch::start(&config.manifests, super::rules(&config))?;
    let store = Store::new(&config.state_dir);
    let kept = store
        .load()
        .context("read the allocations of the last run")?;
    let pins = Pins::new(&config.bpffs);
    let mut loaded = load(&options(&config, &pins)).context("load the dataplane")?;
    let maps = Bpf::new(&mut loaded)?;
    let counters = CounterMaps::open(&pins)?;
    let limits = limits(&loaded);
    let capacity = loaded.capacity().to_vec();
    if config.verbose >= DIAGNOSTICS {
        diagnostics::follow(&mut loaded)?;
    }

    let resolver = super::resolver(&config, kept);
    let reconciler = Reconciler::new(maps, resolver, Some(store), limits);
    let (events, given) = mpsc::channel(QUEUE);
    let (probed, inbox) = mpsc::channel(QUEUE);
    let (published, seen) = watch::channel(Published::default());
    let reconcile = reconcile::run(reconciler, inbox, published, Timing::default());
    let (devices, wanted) = watch::channel(None);
    let (attached, held) = watch::channel(None);
    let hooks = Hooks::new(loaded, pins, Mode::detect());

    let health = Health {
        published: seen.clone(),
        attached: held.clone(),
    };
    let figures = Figures {
        published: seen,
        attached: held,
        counters,
        capacity,
    };
    if let Some(address) = config.metrics_bind_address {
        serve("metrics", address, metrics_routes(figures)).await?;
    }
    if let Some(address) = config.healthz_bind_address {
        serve("healthz", address, health_routes(health)).await?;
    }
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    log::info!(node = config.node_name, manifests:% = config.manifests.display(), mode:% = Mode::detect(); "started");
    tokio::select! {
        _reconciler = reconcile => anyhow::bail!("the source of objects ended"),
        () = probe::run(&config.node_name, given, probed) => anyhow::bail!("the probes ended"),
        () = watch.run(events) => anyhow::bail!("the watch on the manifests ended"),
        () = interfaces::watch(Globs::new(&config.pod_interfaces), devices) => {}
        () = attachments::keep(hooks, wanted, attached) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    log::info!("stopped; the dataplane goes on");
    Ok(())
}

fn options(config: &Config, pins: &Pins) -> LoadOptions {
    let range = |is_v4: bool| {
        let mut nets = config.service_cidrs.iter();
        nets.find(|net| net.addr().is_ipv4() == is_v4)
            .map_or(Range::EMPTY, range_of)
    };
    LoadOptions {
        pins: Some(pins.clone()),
        max_services: config.max_services,
        max_backends: config.max_backends,
        max_flows: config.max_flows,
        settings: Settings {
            service_v4: range(true),
            service_v6: range(false),
            ..Settings::DEFAULT
        },
        log_level: if config.verbose >= DIAGNOSTICS {
            DEBUG
        } else {
            0
        },
    }
}

/// A prefix as the program compares it: IPv4 behind 96 bits.
fn range_of(net: &IpNet) -> Range {
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
