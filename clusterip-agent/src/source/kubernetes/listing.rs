//! What is heard of all resources, as the events of one source. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{Resource, decode::Decoded, follow::Heard};
use crate::model::{
    event::Event,
    object::{Kind, ObjectKey, ObjectName},
    problem::Problem,
};

/// What is known of a resource: names alone, since the model has the objects.
#[derive(Default, Debug)]
struct Known {
    names: HashSet<ObjectName>,
    /// What the listing that goes on has had so far.
    fresh: Option<HashSet<ObjectName>>,
    /// Listed once, or not to be waited for.
    is_complete: bool,
    /// Why it cannot be asked for at all.
    refusal: Option<Problem>,
}

/// Turns what is heard into events.
#[derive(Debug)]
pub(super) struct Listing {
    node: Arc<str>,
    known: BTreeMap<Resource, Known>,
    /// Objects that cannot be used as they are now.
    bad: BTreeMap<ObjectKey, Vec<Problem>>,
    /// Those without a name, by resource; until the next listing.
    nameless: BTreeMap<Resource, BTreeSet<Problem>>,
    /// The whole was begun, and the whole was complete once (F1).
    has_begun: bool,
    is_synced: bool,
    said: Vec<Problem>,
}

impl Listing {
    /// Nothing is known; `node` is where this is.
    pub(super) fn new(node: Arc<str>) -> Self {
        Self {
            node,
            known: Resource::ALL.map(|it| (it, Known::default())).into(),
            bad: BTreeMap::new(),
            nameless: BTreeMap::new(),
            has_begun: false,
            is_synced: false,
            said: Vec::new(),
        }
    }

    /// What a batch means. The first time everything begins with `Reset`; `Synced` comes once, when the last resource is
    /// complete.
    pub(super) fn take(&mut self, resource: Resource, batch: Vec<Heard>) -> Vec<Event> {
        let mut events = Vec::new();
        if !std::mem::replace(&mut self.has_begun, true) {
            events.push(Event::Reset);
        }
        for heard in batch {
            self.hear(resource, heard, &mut events);
        }
        if !self.is_synced && self.known.values().all(|known| known.is_complete) {
            self.is_synced = true;
            events.push(Event::Synced);
        }
        let problems = self.problems();
        if problems != self.said {
            self.said.clone_from(&problems);
            events.push(Event::Problems(problems));
        }
        events
    }

    fn hear(&mut self, resource: Resource, heard: Heard, events: &mut Vec<Event>) {
        let Some(known) = self.known.get_mut(&resource) else {
            return;
        };
        match heard {
            Heard::Began => {
                // One that broke off is begun again; what it found is known.
                let broken = known.fresh.replace(HashSet::new());
                known.names.extend(broken.into_iter().flatten());
                self.nameless.remove(&resource);
            }
            Heard::Found(decoded) => {
                if let Some(key) = decoded.key() {
                    let names = known.fresh.as_mut().unwrap_or(&mut known.names);
                    names.insert(key.name.clone());
                }
                match decoded {
                    Decoded::Good(object) => {
                        self.bad.remove(&object.key);
                        events.push(Event::Put(object));
                    }
                    Decoded::Bad(key, problems) => self.reject(resource, key, problems),
                }
            }
            Heard::Gone(key) => {
                known.names.remove(&key.name);
                self.bad.remove(&key);
                events.push(Event::Remove(key));
            }
            Heard::Listed => {
                let fresh = known.fresh.take().unwrap_or_default();
                let kind = resource.kind();
                // F9: deletions that nobody told of.
                for name in known.names.difference(&fresh) {
                    let key = ObjectKey {
                        kind,
                        name: name.clone(),
                    };
                    self.bad.remove(&key);
                    events.push(Event::Remove(key));
                }
                known.names = fresh;
                known.is_complete = true;
                known.refusal = None;
            }
            Heard::Alive => known.refusal = None,
            Heard::Failed(failure) => {
                if failure.is_refusal() {
                    // Without the node's own object services are served all the same, but for what hangs on its zone.
                    known.is_complete |= resource == Resource::Node;
                    known.refusal = Some(problem("", failure.to_string()));
                }
            }
        }
    }

    fn reject(&mut self, resource: Resource, key: Option<ObjectKey>, problems: Vec<Problem>) {
        let Some(key) = key else {
            log::warn!(resource = resource.name(), problems:?; "an object without a name");
            self.nameless.entry(resource).or_default().extend(problems);
            return;
        };
        if self.bad.get(&key) != Some(&problems) {
            for problem in &problems {
                log::warn!(object:% = key, problem:%; "object has a problem");
            }
            self.bad.insert(key, problems);
        }
    }

    /// Whether the node's own object was asked for, and is not there.
    fn is_unknown_node(&self) -> bool {
        let known = self.known.get(&Resource::Node);
        self.is_synced
            && known.is_some_and(|it| {
                it.refusal.is_none() && it.fresh.is_none() && it.is_complete && it.names.is_empty()
            })
    }

    fn problems(&self) -> Vec<Problem> {
        let refusals = self
            .known
            .values()
            .filter_map(|known| known.refusal.clone());
        let mut all: Vec<Problem> = refusals
            .chain(self.bad.values().flatten().cloned())
            .chain(self.nameless.values().flatten().cloned())
            .collect();
        if self.is_unknown_node() {
            let message = "the API server has no node of this name: zone, addresses and pod ranges of this node are not known; \
                           make --node-name the name that kubectl get nodes shows";
            let object = format!("{} {}", Kind::Node, self.node);
            all.push(problem(&object, message.to_owned()));
        }
        all.sort();
        all
    }
}

fn problem(object: &str, message: String) -> Problem {
    Problem {
        file: Arc::default(),
        line: 0,
        column: 0,
        object: object.to_owned(),
        field: String::new(),
        value: String::new(),
        message,
    }
}
