//! Problems of objects as Kubernetes Events, where those who made the objects look: `kubectl describe service`.
//!
//! Each problem is said once, and the whole cluster says it once: an Event's name follows from what it says, so the second node
//! finds it there.

use std::{collections::BTreeSet, hash::Hasher as _, time::Duration};

use hyper::StatusCode;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use serde::Deserialize;
use siphasher::sip::SipHasher24;
use tokio::{sync::watch, time::sleep};

use super::{
    Servers, Tally,
    failure::{Cause, explain},
    follow::refused,
    servers::text,
};
use crate::{clock::Clock, model::snapshot::Snapshot, reconcile::Published};

/// So many at once, and later one more each `REFILL`: of a thousand broken services the first ones are enough to begin with.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(5);
/// Problems that last for less than this are not worth a word: a listing that is not complete has many.
const SETTLE: Duration = Duration::from_secs(1);
/// Until it is tried again after the server did not take one.
const REFUSED: Duration = Duration::from_mins(5);
const COMPONENT: &str = "clusterip";
/// Characters that a name may have, less those of its end.
const NAME: usize = 253 - 17;

/// Something to say of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Notice {
    /// Service or `EndpointSlice`.
    kind: &'static str,
    namespace: String,
    name: String,
    reason: &'static str,
    message: String,
}

impl Notice {
    /// Of `Kind namespace/name`, if that is a kind that has a namespace.
    fn new(object: &str, reason: &'static str, message: String) -> Option<Self> {
        let (kind, name) = object.split_once(' ')?;
        let kind = ["Service", "EndpointSlice"]
            .into_iter()
            .find(|known| *known == kind)?;
        let (namespace, name) = name.split_once('/')?;
        Some(Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            reason,
            message,
        })
    }

    /// The same for the same words, on every node.
    fn event_name(&self) -> String {
        let mut hasher = SipHasher24::new();
        hasher.write(self.reason.as_bytes());
        hasher.write(self.message.as_bytes());
        let name = self.name.get(..NAME).unwrap_or(&self.name);
        format!("{}.{:016x}", name.trim_end_matches('.'), hasher.finish())
    }

    fn api_version(&self) -> &'static str {
        if self.kind == "Service" {
            "v1"
        } else {
            "discovery.k8s.io/v1"
        }
    }

    fn object_path(&self) -> String {
        let (api, resource) = if self.kind == "Service" {
            ("/api/v1", "services")
        } else {
            ("/apis/discovery.k8s.io/v1", "endpointslices")
        };
        format!(
            "{api}/namespaces/{}/{resource}/{}",
            self.namespace, self.name
        )
    }

    fn event(self, node: &str, uid: Option<String>, now: Timestamp) -> Event {
        let name = self.event_name();
        let api_version = self.api_version();
        let Self {
            kind,
            namespace,
            name: object,
            reason,
            message,
        } = self;
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: ObjectReference {
                api_version: Some(api_version.to_owned()),
                kind: Some(kind.to_owned()),
                name: Some(object),
                namespace: Some(namespace),
                uid,
                ..ObjectReference::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message),
            type_: Some("Warning".to_owned()),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(node.to_owned()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(node.to_owned()),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            ..Event::default()
        }
    }
}

/// What is to be said now, and what was. Pure.
#[derive(Default, Debug)]
struct Announcements {
    said: BTreeSet<Notice>,
    spent: u32,
    since: Duration,
}

impl Announcements {
    /// What is new among all there is to say, as much as may be said at this moment; what is no longer there may be said
    /// again later.
    fn due(&mut self, all: &BTreeSet<Notice>, now: Duration) -> Vec<Notice> {
        self.said.retain(|notice| all.contains(notice));
        while self.spent > 0 && now.saturating_sub(self.since) >= REFILL {
            self.spent -= 1;
            self.since += REFILL;
        }
        if self.spent == 0 {
            self.since = now;
        }
        let room = usize::try_from(BURST.saturating_sub(self.spent)).unwrap_or_default();
        let new: Vec<Notice> = all.difference(&self.said).take(room).cloned().collect();
        self.spent += u32::try_from(new.len()).unwrap_or(BURST);
        self.said.extend(new.iter().cloned());
        new
    }

    /// How many wait for their turn.
    fn waiting(&self, all: &BTreeSet<Notice>) -> usize {
        all.difference(&self.said).count()
    }
}

/// What there is to say of a snapshot.
fn notices(snapshot: &Snapshot) -> BTreeSet<Notice> {
    let problems = snapshot.problems().into_iter().filter_map(|problem| {
        let mut message = String::new();
        for part in [&problem.field, &problem.value] {
            if !part.is_empty() {
                message.push_str(part);
                message.push_str(": ");
            }
        }
        message.push_str(&problem.message);
        Notice::new(&problem.object, "ClusterIPProblem", message)
    });
    problems.collect()
}

#[derive(Deserialize)]
struct Identified {
    metadata: ObjectMeta,
}

/// Tells the API server of problems with its objects, until nothing is published any more.
pub async fn announce(
    servers: Servers,
    tally: Tally,
    node: String,
    clock: Clock,
    mut published: watch::Receiver<Published>,
) {
    let mut announcements = Announcements::default();
    let mut all = BTreeSet::new();
    loop {
        let wait = async {
            // Whoever waits for room gets it after a while; else there is news or nothing.
            if announcements.waiting(&all) > 0 {
                sleep(REFILL).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = wait => {}
        }
        sleep(SETTLE).await;
        let snapshot = published.borrow_and_update().snapshot.clone();
        all = notices(&snapshot);
        for notice in announcements.due(&all, clock.now().elapsed) {
            let outcome = say(&servers, notice.clone(), &node, clock.now().wall).await;
            tally.announced(outcome.is_ok());
            if let Err(cause) = outcome {
                announcements.said.remove(&notice);
                log::warn!(
                    object = notice.name, cause = cause.label();
                    "the API server does not take an Event; the agent's account may create events (core): {}",
                    cause.why()
                );
                sleep(REFUSED).await;
                break;
            }
        }
    }
}

async fn say(servers: &Servers, notice: Notice, node: &str, now: Timestamp) -> Result<(), Cause> {
    let path = format!("/api/v1/namespaces/{}/events", notice.namespace);
    // Whoever describes an object asks for the Events of that very one.
    let uid = match servers.get(&notice.object_path()).await? {
        object if object.status() == StatusCode::OK => {
            let object: Option<Identified> =
                serde_json::from_slice(&text(object.into_body()).await).ok();
            object.and_then(|object| object.metadata.uid)
        }
        // It is gone, and nobody will look.
        object if object.status() == StatusCode::NOT_FOUND => return Ok(()),
        _ => None,
    };
    let event = notice.event(node, uid, now);
    let json = serde_json::to_vec(&event).map_err(|error| Cause::Nonsense(explain(&error)))?;
    let response = servers.post(&path, json).await?;
    match response.status() {
        // Another node said it.
        StatusCode::CONFLICT => Ok(()),
        status if status.is_success() => Ok(()),
        _ => Err(refused(response).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize) -> Notice {
        let message = format!("problem {number:03}");
        Notice::new("Service default/web", "Problem", message).expect("a notice")
    }

    #[test]
    fn a_problem_is_said_once_and_not_all_at_once() {
        let mut announcements = Announcements::default();
        let all: BTreeSet<Notice> = (0..25).map(notice).collect();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(announcements.due(&all, at(0)).len(), 20);
        assert_eq!(announcements.due(&all, at(4)), []);
        assert_eq!(announcements.due(&all, at(5)), [notice(20)]);
        assert_eq!(announcements.due(&all, at(15)).len(), 2);
        assert_eq!(announcements.waiting(&all), 2);
        assert_eq!(announcements.due(&all, at(1000)).len(), 2);
        assert_eq!(announcements.due(&all, at(2000)), []);
        // It went away and came back.
        announcements.due(&BTreeSet::new(), at(2001));
        assert_eq!(announcements.due(&all, at(2002)).len(), 20);
    }

    #[test]
    fn an_event_has_a_name_that_follows_from_what_it_says() {
        let (one, other) = (notice(1), notice(2));
        assert_eq!(one.event_name(), notice(1).event_name());
        assert_ne!(one.event_name(), other.event_name());
        let long = Notice {
            name: "a".repeat(253),
            ..one
        };
        assert_eq!(long.event_name().len(), 253);
        assert_eq!(Notice::new("Node a", "", String::new()), None);
    }
}
