//! How the API server is reached: for those who show it.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Resource, failure::Verb, follow::Heard};

/// How the server is reached.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Connection {
    /// The server that answered last.
    pub server: String,
    /// Each resource, as far as it was asked for.
    pub resources: BTreeMap<Resource, Standing>,
}

/// How a resource is followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// It was listed to its end once.
    pub listed: bool,
    /// Since when it cannot be asked for, and why; None while all is well.
    pub lost: Option<(Timestamp, String)>,
    /// When the server spoke last.
    pub heard: Option<Timestamp>,
}

impl Connection {
    /// Since when the server is not reached, and why: the one that is out longest.
    #[must_use]
    pub fn lost(&self) -> Option<(Timestamp, &str)> {
        let lost = self.resources.values().filter_map(|it| it.lost.as_ref());
        let first = lost.min_by_key(|(since, _)| *since)?;
        Some((first.0, &first.1))
    }

    /// Why nothing can be programmed yet, while that is so: not everything was listed to its end once.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        let unlisted: Vec<&str> = self.unlisted().map(Resource::name).collect();
        if unlisted.is_empty() {
            return None;
        }
        let why = self
            .lost()
            .map_or_else(String::new, |(_, why)| format!(": {why}"));
        Some(format!(
            "the API server has not listed {} yet{why}",
            unlisted.join(" and ")
        ))
    }

    /// Resources that were not listed to their end yet.
    pub fn unlisted(&self) -> impl Iterator<Item = Resource> {
        Resource::ALL.into_iter().filter(|resource| {
            let standing = self.resources.get(resource);
            standing.is_none_or(|standing| !standing.listed)
        })
    }

    pub(super) fn note(
        &mut self,
        resource: Resource,
        batch: &[Heard],
        server: &str,
        now: Timestamp,
    ) {
        let standing = self.resources.entry(resource).or_insert(Standing {
            listed: false,
            lost: None,
            heard: None,
        });
        for heard in batch {
            match heard {
                Heard::Failed(failure) => {
                    let why = failure.to_string();
                    let since = standing.lost.as_ref().map_or(now, |(since, _)| *since);
                    let is_news = standing
                        .lost
                        .as_ref()
                        .is_none_or(|(_, known)| *known != why);
                    if is_news {
                        log::warn!(server; "{why}; what is known stays in force, and it is asked again");
                    }
                    standing.lost = Some((since, why));
                    continue;
                }
                Heard::Listed => standing.listed = true,
                Heard::Began | Heard::Found(_) | Heard::Gone(_) | Heard::Alive => {}
            }
            if let Some((since, _)) = standing.lost.take() {
                let seconds = now.duration_since(since).as_secs();
                log::info!(server, resource = resource.name(), seconds; "the API server answers again");
            }
            standing.heard = Some(now);
        }
        if self.server != server {
            server.clone_into(&mut self.server);
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    resource: &'static str,
    code: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Said {
    resource: &'static str,
    event: &'static str,
}

/// What is counted of the conversation.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    requests: Family<Asked, Counter>,
    events: Family<Said, Counter>,
    announced: Counter,
    unannounced: Counter,
    pub(super) connected: Gauge,
}

impl Tally {
    /// Shows it; the registry gives the prefix.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            requests,
            events,
            announced,
            unannounced,
            connected,
        } = self;
        registry.register(
            "kubernetes_api_requests",
            "Lists and watches that the API server was asked for, by how they began: a status, or what took its place",
            requests.clone(),
        );
        registry.register(
            "kubernetes_api_events",
            "Events of watches, by type",
            events.clone(),
        );
        registry.register(
            "kubernetes_events_created",
            "Kubernetes Events that this agent created for objects with problems",
            announced.clone(),
        );
        registry.register(
            "kubernetes_events_failed",
            "The same that the API server did not take",
            unannounced.clone(),
        );
        registry.register(
            "kubernetes_api_connected",
            "1 while the API server answers for every resource, else 0",
            connected.clone(),
        );
    }

    /// With a figure in each series.
    #[cfg(test)]
    pub(crate) fn sampled() -> Self {
        let tally = Self::default();
        tally.asked(Resource::Services, Verb::List, None);
        tally.event(Resource::Services, "ADDED");
        tally
    }

    pub(super) fn asked(&self, resource: Resource, verb: Verb, failure: Option<&str>) {
        let asked = Asked {
            verb: verb.name(),
            resource: resource.name(),
            code: failure.unwrap_or("200").to_owned(),
        };
        self.requests.get_or_create(&asked).inc();
    }

    pub(super) fn event(&self, resource: Resource, kind: &str) {
        let event = match kind {
            "ADDED" => "added",
            "MODIFIED" => "modified",
            "DELETED" => "deleted",
            "BOOKMARK" => "bookmark",
            "ERROR" => "error",
            _ => "other",
        };
        let said = Said {
            resource: resource.name(),
            event,
        };
        self.events.get_or_create(&said).inc();
    }

    pub(super) fn announced(&self, is_taken: bool) {
        let counter = if is_taken {
            &self.announced
        } else {
            &self.unannounced
        };
        counter.inc();
    }
}
