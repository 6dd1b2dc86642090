//! `/metrics`, and how an HTTP endpoint is served.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::stream::poll_fn;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc::unbounded_channel, watch},
    task::spawn_blocking,
};

use super::{Figures, kube_proxy::NoLocalEndpoints, text::Page};
use crate::{
    dns::metrics::Names,
    health::Answers,
    probe::Results,
    reconcile::{Measures, Published},
};

/// `OpenMetrics`, as the encoder writes it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The series that have the names of kube-proxy, of the kubelet and of `CoreDNS`.
#[must_use]
pub fn registry(
    published: watch::Receiver<Published>,
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
    kube_proxy.register_collector(Box::new(NoLocalEndpoints { published }));
    registry
}

/// All that there is to tell.
#[derive(Debug)]
struct Told {
    figures: Figures,
    registry: Registry,
    /// One scrape at a time: a second one at once would take a second processor, for the same figures.
    turn: Arc<Semaphore>,
}

/// `/metrics`: the figures of this program and those of a registry. And `/healthz`, which is kube-proxy's here too: it says
/// that somebody listens.
pub fn routes(figures: Figures, registry: Registry) -> Router {
    let told = Told {
        figures,
        registry,
        turn: Arc::new(Semaphore::new(1)),
    };
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok"))
        .with_state(Arc::new(told))
}

async fn metrics(State(told): State<Arc<Told>>) -> Response {
    let turn = Arc::clone(&told.turn).acquire_owned().await;
    let (sender, mut chunks) = unbounded_channel();
    // Reading the kernel's maps takes a while: not on the runtime's own threads.
    spawn_blocking(move || {
        let mut page = Page::new(sender);
        told.figures.write(&mut page);
        // It writes the end of the exposition, so that it comes last; without it nobody takes what came for the whole.
        let result = encode(&mut page, &told.registry);
        drop(turn);
        if let Err(error) = result {
            log::error!(error:err; "some metrics could not be written");
        }
    });
    let chunks = poll_fn(move |context| {
        chunks
            .poll_recv(context)
            .map(|it| it.map(Ok::<_, Infallible>))
    });
    ([(CONTENT_TYPE, OPEN_METRICS)], Body::from_stream(chunks)).into_response()
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
