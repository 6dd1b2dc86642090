//! `/metrics`, and how an HTTP endpoint is served.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, task::spawn_blocking};

use super::{Figures, collector::NoLocalEndpoints};
use crate::{dns::metrics::Names, health::Answers, probe::Results, reconcile::Measures};

/// `OpenMetrics`, as the encoder writes it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every series there is: those of this program, and those that have the names of kube-proxy and of the kubelet.
#[must_use]
pub fn registry(
    figures: Figures,
    measures: &Measures,
    answers: &Answers,
    results: &Results,
    names: Names,
) -> Registry {
    let mut registry = Registry::default();
    results.register(&mut registry);
    let core_dns = registry.sub_registry_with_prefix("coredns");
    names.register(core_dns);
    measures.register_names(core_dns);
    let kube_proxy = registry.sub_registry_with_prefix("kubeproxy");
    measures.register(kube_proxy);
    answers.register(kube_proxy);
    let published = figures.published.clone();
    kube_proxy.register_collector(Box::new(NoLocalEndpoints { published }));
    registry
        .sub_registry_with_prefix("clusterip")
        .register_collector(Box::new(figures));
    registry
}

/// `/metrics`, and `/healthz`, which is kube-proxy's here too: it says that somebody listens.
pub fn routes(registry: Registry) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .with_state(Arc::new(registry))
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    // Reading the kernel's counters is a system call each: not on the runtime's own threads.
    let text = spawn_blocking(move || {
        let mut text = String::new();
        encode(&mut text, &registry).map(|()| Bytes::from(text))
    });
    match text.await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, OPEN_METRICS)], Body::from(text)).into_response(),
        _ => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "the metrics could not be written\n",
        )
            .into_response(),
    }
}

/// An endpoint that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "listen on {address} for {what}; is another agent running? --{what}-bind-address changes it"
)]
pub struct ListenError {
    what: &'static str,
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Serves on an address in the background.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(
    what: &'static str,
    address: SocketAddr,
    routes: Router,
) -> Result<(), ListenError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ListenError {
            what,
            address,
            source,
        })?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            log::error!(what, address:%, error:err; "endpoint ended");
        }
    });
    Ok(())
}
