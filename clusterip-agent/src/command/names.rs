//! The resolver as `run` wants it.

use std::net::SocketAddr;

use crate::{
    config::Config,
    dns::{
        access::Access,
        server::{Responder, Sockets},
        zone::Zone,
    },
};

/// The sockets of `--dns-listen`, and what answers to names are made with.
pub(super) async fn open(config: &Config) -> anyhow::Result<(Sockets, Responder)> {
    let sockets = Sockets::open(&config.dns_listen).await?;
    tell(&sockets.addresses());
    let ranges = config.service_cidrs.clone();
    // This node asks itself from the very address that it asks.
    let own = config.dns_listen.iter().map(|it| it.ip().into());
    let allowed = config.dns_allow.iter().copied().chain(own).collect();
    let responder = Responder {
        zone: Zone::new(&config.cluster_domain, ranges, config.dns_pod_records)?,
        access: Access::new(allowed),
    };
    Ok((sockets, responder))
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
