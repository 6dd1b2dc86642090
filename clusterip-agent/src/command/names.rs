//! The resolver as `run` wants it.

use std::net::SocketAddr;

use crate::{
    config::Config,
    dns::{
        access::Access,
        account::Account,
        forward::{self, Forwarder, Settings, Upstreams},
        metrics::{ForwardFigures, Names},
        responder::{Outside, Responder},
        server::Sockets,
        zone::Zone,
    },
    model::range::ServiceRange,
    source::kube_dns,
};

/// Where the node's own upstreams are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const MEBIBYTE: usize = 1 << 20;

/// What answers to names.
pub(super) struct Resolver {
    /// Those of `--dns-listen`.
    pub(super) sockets: Sockets,
    /// What answers are made with.
    pub(super) responder: Responder,
    /// Who asks for names outside; to be run.
    pub(super) forwarder: Forwarder,
    /// Its figures.
    pub(super) told: Names,
}

/// Opens the sockets; nothing answers yet.
pub(super) async fn open(config: &Config) -> anyhow::Result<Resolver> {
    let sockets = Sockets::open(&config.dns_listen).await?;
    tell(&sockets.addresses());
    let forwarder = forwarder(config)?;
    let responder = responder(config, &forwarder)?;
    let told = Names {
        served: responder.account.served().clone(),
        forwarded: ForwardFigures::new(forwarder.clone(), &config.dns_listen),
    };
    Ok(Resolver {
        sockets,
        responder,
        forwarder,
        told,
    })
}

fn tell(listeners: &[SocketAddr]) {
    if listeners.is_empty() {
        return;
    }
    let all: Vec<String> = listeners.iter().map(ToString::to_string).collect();
    log::info!(listeners = all.join(" "); "answering DNS");
    if listeners.iter().all(|it| it.ip().is_loopback()) {
        log::warn!(
            "no pod reaches a loopback address: there is no service kube-dns; give --dns-listen another address of this node"
        );
    }
}

/// Who is asked for names outside.
fn forwarder(config: &Config) -> anyhow::Result<Forwarder> {
    let upstreams = if config.dns_upstreams.is_empty() {
        Upstreams::File(RESOLV_CONF.into())
    } else {
        Upstreams::Given(config.dns_upstreams.clone())
    };
    let ranges = config.service_cidrs.iter().copied();
    let ranges: Vec<ServiceRange> = ranges.map(ServiceRange::new).collect();
    let own = kube_dns::addresses(&ranges).chain(config.dns_listen.iter().copied());
    let settings = Settings {
        upstreams,
        stubs: config.dns_stubs.clone(),
        own: own.collect(),
        cache: usize::try_from(config.dns_cache)?.saturating_mul(MEBIBYTE),
        timing: forward::Timing::default(),
    };
    Ok(Forwarder::new(settings)?)
}

/// What answers to names are made with.
fn responder(config: &Config, forwarder: &Forwarder) -> anyhow::Result<Responder> {
    let ranges = config.service_cidrs.clone();
    // This node asks itself from the very address that it asks.
    let own = config.dns_listen.iter().map(|it| it.ip().into());
    let allowed = config.dns_allow.iter().copied().chain(own).collect();
    let zone = Zone::new(&config.cluster_domain, ranges, config.dns_pod_records)?;
    let search = config.dns_autopath.then(|| {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        forward::address::search_list(&text)
    });
    Ok(Responder {
        access: Access::new(allowed),
        outside: Some(Outside {
            forwarder: forwarder.clone(),
            search,
        }),
        account: Account::new(&config.dns_listen, &zone, config.dns_log),
        zone,
    })
}
