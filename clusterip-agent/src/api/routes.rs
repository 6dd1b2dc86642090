//! Which question is answered by which document.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Query, State, rejection::QueryRejection},
    routing::get,
};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::{Shared, Sources, refusal::Refusal, stream, trace};
use crate::{
    clock::monotonic,
    dataplane::DataplaneError,
    dns::inquiry,
    reconcile::Published,
    view::{
        Extent, Moment, Names, Selection, VERSION,
        affinity::{self, AffinityView},
        allocations::{self, AllocationsView},
        endpoints::{self, Endpoints},
        flows::{self, Flows},
        interfaces::{self, Interfaces},
        listing::{self, Listing},
        lookup::{self, Lookup},
        near,
        services::{self, Services},
        status::{self, AgentFacts, Status},
    },
};

/// What may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    namespace: Option<String>,
    name: Option<String>,
    /// Flows to leave out, and how many to list.
    offset: usize,
    limit: Option<usize>,
}

/// A question for the resolver.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inquiry {
    name: String,
    #[serde(default = "address", rename = "type")]
    kind: String,
}

fn address() -> String {
    "A".to_owned()
}

type Question = Result<Query<Asked>, QueryRejection>;
type Answer<T> = Result<Json<T>, Refusal>;

/// The API. Every path begins with its version.
pub fn routes(sources: Sources) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/services", get(services))
        .route("/v1/services/listing", get(listing))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/allocations", get(allocations))
        .route("/v1/interfaces", get(interfaces))
        .route("/v1/flows", get(flows))
        .route("/v1/affinity", get(affinity))
        .route("/v1/dns/query", get(dns_query))
        .route("/v1/monitor", get(stream::monitor))
        .route("/v1/trace", get(trace::trace))
        .fallback(nothing_there)
        .with_state(Shared::new(sources))
}

impl Shared {
    /// What is published now. A clone costs nothing; a borrow would hold up the writer.
    pub(super) fn published(&self) -> Published {
        self.sources.published.borrow().clone()
    }

    /// What is published, and what of it is wanted.
    fn selected(&self, question: Question) -> Result<(Published, Selection, Asked), Refusal> {
        let Query(mut asked) = question?;
        let published = self.published();
        if !published.synced {
            return Err(Refusal::not_yet());
        }
        let selection = Selection {
            namespace: asked.namespace.take(),
            name: asked.name.take(),
        };
        match near::unknown(&published.snapshot, &selection) {
            Some(message) if !rests(&published, &selection) => Err(Refusal::unknown(message)),
            _ => Ok((published, selection, asked)),
        }
    }

    fn facts(&self) -> AgentFacts {
        AgentFacts {
            age_seconds: self.sources.started.elapsed().as_secs(),
            ..self.sources.facts.clone()
        }
    }
}

/// Whether a service that is gone still has an address that rests.
fn rests(published: &Published, selection: &Selection) -> bool {
    published.resting.values().any(|owner| selection.has(owner))
}

/// Reads the kernel's tables aside: system calls by the thousand are nothing for the runtime's own threads.
pub(super) async fn aside<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Shared) -> Result<T, DataplaneError> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = |_| Refusal::failed("the agent ends");
    let done = {
        let _turn = shared.turns.acquire().await.map_err(ended)?;
        let reader = Arc::clone(&shared);
        spawn_blocking(move || read(&reader)).await
    };
    match done {
        Ok(result) => Ok(result?),
        Err(_panic) => Err(Refusal::failed("the reading ended without a result")),
    }
}

async fn version(State(shared): State<Arc<Shared>>) -> Json<AgentFacts> {
    Json(shared.facts())
}

async fn status(State(shared): State<Arc<Shared>>) -> Answer<Status> {
    let document = aside(shared, |shared| {
        let Sources {
            attached,
            kernel,
            capacity,
            source: (kind, place),
            connection,
            ..
        } = &shared.sources;
        let devices = attached.borrow().clone();
        let read = status::Read {
            interfaces: devices.map(|all| interfaces::interfaces(Some(&all)).interfaces),
            capacity,
            entries: &kernel.census().now()?.entries,
            outcomes: kernel.outcomes(),
            connection: connection.as_ref().map(|it| it.borrow().clone()),
        };
        let published = shared.published();
        Ok(status::status(
            &published,
            shared.facts(),
            (kind, place),
            read,
        ))
    });
    Ok(Json(document.await?))
}

async fn services(State(shared): State<Arc<Shared>>, question: Question) -> Answer<Services> {
    let (published, selection, _) = shared.selected(question)?;
    let document = aside(shared, move |shared| {
        let ages = shared.sources.ages.borrow().clone();
        let extent = Extent::of(&published, &selection).without_backends();
        let readings = shared.sources.kernel.readings(extent);
        Ok(services::services(
            &published,
            &selection,
            &readings,
            ages.clock(),
        ))
    });
    Ok(Json(document.await?))
}

async fn listing(State(shared): State<Arc<Shared>>, question: Question) -> Answer<Listing> {
    let (published, selection, _) = shared.selected(question)?;
    let document = aside(shared, move |shared| {
        let ages = shared.sources.ages.borrow().clone();
        Ok(listing::listing(&published, &selection, ages.clock()))
    });
    Ok(Json(document.await?))
}

async fn endpoints(State(shared): State<Arc<Shared>>, question: Question) -> Answer<Endpoints> {
    let (published, selection, _) = shared.selected(question)?;
    let document = aside(shared, move |shared| {
        let probes = shared.sources.probes.borrow().clone();
        let kernel = &shared.sources.kernel;
        let count = kernel.census().now()?;
        let readings = kernel.readings(Extent::of(&published, &selection));
        Ok(endpoints::endpoints(
            &published,
            &selection,
            &readings,
            &probes,
            Some(&count.flows),
        ))
    });
    Ok(Json(document.await?))
}

async fn allocations(
    State(shared): State<Arc<Shared>>,
    question: Question,
) -> Answer<AllocationsView> {
    let (published, selection, _) = shared.selected(question)?;
    let ages = shared.sources.ages.borrow().clone();
    Ok(Json(allocations::allocations(
        &published,
        &selection,
        ages.clock(),
    )))
}

async fn interfaces(State(shared): State<Arc<Shared>>) -> Json<Interfaces> {
    let devices = shared.sources.attached.borrow().clone();
    Json(interfaces::interfaces(devices.as_ref()))
}

async fn flows(State(shared): State<Arc<Shared>>, question: Question) -> Answer<Flows> {
    let (published, selection, asked) = shared.selected(question)?;
    let document = aside(shared, move |shared| {
        let names = Names::of(&published, &selection);
        let kernel = &shared.sources.kernel;
        let wanted = kernel.entries(|entry| flows::is_wanted(&names, &selection, entry))?;
        let page = (asked.offset, asked.limit.unwrap_or(usize::MAX));
        let moment = Moment {
            now: monotonic(),
            settings: &shared.sources.settings,
        };
        Ok(flows::flows(&names, wanted, page, moment))
    });
    Ok(Json(document.await?))
}

async fn affinity(State(shared): State<Arc<Shared>>, question: Question) -> Answer<AffinityView> {
    let (published, selection, _) = shared.selected(question)?;
    let document = aside(shared, move |shared| {
        let names = Names::of(&published, &selection);
        let now = monotonic();
        let mut clients = Vec::new();
        shared
            .sources
            .kernel
            .census()
            .maps()
            .affinity(|key, entry| {
                let entry = (&key, &entry);
                clients.extend(affinity::client(&published, &names, &selection, entry, now));
            })?;
        Ok(affinity::affinity(clients))
    });
    Ok(Json(document.await?))
}

async fn dns_query(
    State(shared): State<Arc<Shared>>,
    question: Result<Query<Inquiry>, QueryRejection>,
) -> Answer<Lookup> {
    let Query(Inquiry { name, kind }) = question?;
    let query = inquiry::question(&name, &kind)?;
    let begun = Instant::now();
    let message = shared.sources.names.ask(query).await?;
    let microseconds = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Json(lookup::lookup(&message, microseconds)))
}

async fn nothing_there() -> Refusal {
    Refusal::unknown(format!(
        "there is no such path: this is version {VERSION} of the API, and every path begins with /v{VERSION}/"
    ))
}
