//! What is heard of all resources, as the events of one source. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    Resource,
    decode::{Decoded, problem},
    follow::Heard,
};
use crate::model::{
    event::Event,
    exposure::internal_addresses,
    object::{Kind, ObjectKey, ObjectName, Spec},
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
    /// Addresses of this machine, as far as somebody looked.
    own: Option<Vec<IpAddr>>,
    /// Addresses that the node's object says it has inside.
    internal: Vec<IpAddr>,
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
            own: None,
            internal: Vec::new(),
        }
    }

    /// These are the addresses of this machine.
    pub(super) fn set_own(&mut self, addresses: Vec<IpAddr>) {
        self.own = Some(addresses);
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
                        if let Spec::Node(node) = &object.spec
                            && object.key.name.name == self.node
                        {
                            self.internal = internal_addresses(node).collect();
                        }
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
                    known.refusal = Some(problem("", "", failure.to_string()));
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
                let is_listed = it.refusal.is_none() && it.fresh.is_none() && it.is_complete;
                is_listed && !it.names.iter().any(|name| name.name == self.node)
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
            all.push(problem(object, "", message));
        }
        all.extend(self.impostor());
        all.sort();
        all
    }

    /// Another machine has the same name: its kubelet writes its addresses into the one object of both. A kubelet writes none that
    /// is not its machine's own.
    fn impostor(&self) -> Option<Problem> {
        let own = self.own.as_ref()?;
        if self.internal.is_empty() || self.internal.iter().any(|it| own.contains(it)) {
            return None;
        }
        let message = "none of them is an address of this machine: does another one have the same node name? Zone, pod ranges and \
                       addresses would be the other's. Give each machine a name of its own (kubelet's --hostname-override), and \
                       this agent that of its machine (--node-name)";
        let object = format!("{} {}", Kind::Node, self.node);
        let mut problem = problem(object, "status.addresses", message);
        let addresses: Vec<String> = self.internal.iter().map(ToString::to_string).collect();
        problem.value = addresses.join(", ");
        Some(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::objects_for_tests::{name, node, service, slice},
        source::kubernetes::failure::{Cause, Failure, Verb},
    };

    fn good(object: crate::model::object::Object) -> Heard {
        Heard::Found(Decoded::Good(Box::new(object)))
    }

    fn web(it: &str) -> Heard {
        good(service(it, &serde_json::json!({"ports": [{"port": 80}]})))
    }

    fn words(events: Vec<Event>) -> Vec<String> {
        let word = |event| match event {
            Event::Put(object) => format!("put {}", object.key.name.name),
            Event::Remove(key) => format!("remove {}", key.name.name),
            Event::Problems(problems) => {
                let messages: Vec<String> = problems.iter().map(ToString::to_string).collect();
                format!("problems {}", messages.join("; "))
            }
            Event::Reset => "reset".to_owned(),
            Event::Synced => "synced".to_owned(),
            Event::Changed(_) => "changed".to_owned(),
            Event::Machine(_) => "machine".to_owned(),
            Event::Conflicts(_) => "conflicts".to_owned(),
            Event::Unprovided(_) => "unprovided".to_owned(),
        };
        events.into_iter().map(word).collect()
    }

    fn refused(resource: Resource) -> Heard {
        Heard::Failed(Failure {
            verb: Verb::Watch,
            resource,
            cause: Cause::Refused {
                code: 403,
                message: "Forbidden".to_owned(),
                again: None,
            },
        })
    }

    /// F1: once, and only when all three are complete.
    #[test]
    fn f1_the_whole_is_complete_when_each_resource_is() {
        use Heard::{Began, Listed};
        let mut listing = Listing::new("a".into());
        let mut take = |resource, batch| words(listing.take(resource, batch));
        assert_eq!(
            take(Resource::Services, vec![Began, web("x"), Listed]),
            ["reset", "put x"]
        );
        assert_eq!(
            take(Resource::Node, vec![Began, good(node("a", "z")), Listed]),
            ["put a"]
        );
        assert_eq!(
            take(
                Resource::EndpointSlices,
                vec![Began, good(slice("x-1", "x", &[])), Listed]
            ),
            ["put x-1", "synced"]
        );
        let again = take(Resource::Services, vec![Began, web("x"), Listed]);
        assert_eq!(again, ["put x"]);
    }

    /// F9
    #[test]
    fn f9_what_a_listing_lacks_is_gone_what_a_broken_one_had_too() {
        use Heard::{Began, Listed};
        let mut listing = Listing::new("a".into());
        let mut take = |batch| words(listing.take(Resource::Services, batch));
        take(vec![Began, web("x"), web("y")]);
        assert_eq!(
            take(vec![Began, web("y"), web("z"), Listed]),
            ["put y", "put z", "remove x"]
        );
        assert_eq!(take(vec![web("x")]), ["put x"]);
        assert_eq!(take(vec![Began, Listed]).len(), 3);
        let key = ObjectKey {
            kind: Kind::Service,
            name: name("x"),
        };
        // It is told again by a watch that begins where the list ended.
        assert_eq!(take(vec![Heard::Gone(key)]), ["remove x"]);
    }

    /// Two machines, one name: what the kubelets write in turn.
    #[test]
    fn a_node_that_is_another_machine_is_named_until_it_is_this_one() {
        let node = |addresses: &[&str]| {
            let internal = addresses
                .iter()
                .map(|it| serde_json::json!({"type": "InternalIP", "address": it}));
            let value = serde_json::json!({
                "metadata": {"name": "a"}, "status": {"addresses": internal.collect::<Vec<_>>()},
            });
            let mut object = node("a", "z");
            object.spec = Spec::Node(serde_json::from_value(value).unwrap());
            vec![good(object)]
        };
        let mut listing = Listing::new("a".into());
        listing.take(Resource::Node, node(&["192.0.2.1"]));
        assert_eq!(listing.problems(), [], "nobody looked");
        listing.set_own(vec![
            "192.0.2.2".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ]);
        let told = words(listing.take(Resource::Node, node(&["192.0.2.1", "2001:db8::1"])));
        let said = "Node a: status.addresses: \"192.0.2.1, 2001:db8::1\": none of them is an address of this machine";
        assert!(told.iter().any(|it| it.contains(said)), "{told:?}");
        for good in [&["192.0.2.2"][..], &["192.0.2.1", "2001:db8::2"], &[]] {
            listing.take(Resource::Node, node(good));
            assert_eq!(listing.problems(), [], "{good:?}");
            listing.take(Resource::Node, node(&["192.0.2.1"]));
            assert_eq!(listing.problems().len(), 1);
        }
    }

    #[test]
    fn a_node_that_may_not_be_seen_holds_nothing_up_and_one_that_is_not_there_is_named() {
        use Heard::{Began, Listed};
        let mut listing = Listing::new("a".into());
        for resource in [Resource::Services, Resource::EndpointSlices] {
            listing.take(resource, vec![Began, Listed]);
        }
        let told = words(listing.take(Resource::Node, vec![refused(Resource::Node)]));
        assert!(
            matches!(told.as_slice(), [synced, problem] if synced == "synced" && problem.contains("watch nodes: 403")),
            "{told:?}"
        );
        let told = words(listing.take(Resource::Node, vec![Began, Listed]));
        assert!(
            matches!(told.as_slice(), [problem] if problem.contains("Node a: the API server has no node")),
            "{told:?}"
        );
        let found = vec![good(node("a", "z"))];
        assert_eq!(
            words(listing.take(Resource::Node, found)),
            ["put a", "problems "]
        );
        // Services are worth waiting for.
        let mut listing = Listing::new("a".into());
        let told = words(listing.take(Resource::Services, vec![refused(Resource::Services)]));
        assert_eq!(told.len(), 2, "{told:?}");
    }
}
