//! The HTTP endpoints: `/metrics`, `/healthz`, `/livez`.

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
use tokio::{net::TcpListener, sync::watch, task::spawn_blocking};

use super::Figures;
use crate::{attachments::Attachments, reconcile::Published};

/// `OpenMetrics`, as the encoder writes it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where health comes from.
#[derive(Clone, Debug)]
pub struct Health {
    /// Whether the maps hold what the source says.
    pub published: watch::Receiver<Published>,
    /// Whether the devices were looked at.
    pub attached: watch::Receiver<Option<Attachments>>,
}

/// `/metrics`.
pub fn metrics_routes(figures: Figures) -> Router {
    let mut registry = Registry::with_prefix("clusterip");
    registry.register_collector(Box::new(figures));
    Router::new()
        .route("/metrics", get(metrics))
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

/// `/healthz` and `/livez`: 200 once the maps hold what the source says and the devices were attached to, 503 until then
/// and while writes fail.
pub fn health_routes(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/livez", get(healthz))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    let programmed = health.published.borrow().programmed;
    let attached = health.attached.borrow().is_some();
    let status = if programmed && attached {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let text = format!("{{\"programmed\": {programmed}, \"attached\": {attached}}}\n");
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
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
