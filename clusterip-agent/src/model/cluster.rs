//! The cluster as it was given, and which services an event touches.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use k8s_openapi::{api::core::v1::Node, jiff::Timestamp};
use rpds::RedBlackTreeSetSync;

use super::{
    claims::Claims,
    event::Event,
    facts::{EndpointSlice, Pod, Service},
    group::Group,
    labels::Labels,
    object::{Kind, Object, ObjectKey, ObjectName, Spec},
    problem::Problem,
};

/// Label of a slice: the service it belongs to.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label of a node: its zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// One pair of a selector or of a pod's labels, in one namespace.
type Pair = (Arc<str>, Arc<str>, Arc<str>);

/// The objects as they were given.
#[derive(Default, Debug)]
pub struct Cluster {
    objects: HashMap<ObjectKey, Object>,
    /// The nodes among them, in order.
    nodes: BTreeSet<Arc<str>>,
    slices_of: HashMap<ObjectName, Group>,
    pods_with: HashMap<Pair, Group>,
    /// Pods by their own addresses.
    pods_at: RedBlackTreeSetSync<(IpAddr, ObjectName)>,
    /// Services by the first pair of their selector: a pod that lacks it is not selected.
    services_by: HashMap<Pair, Group>,
    /// Zones of nodes; none of those that say none.
    zones: HashMap<Arc<str>, Arc<str>>,
    /// What was put since `Reset`.
    listing: Option<BTreeSet<ObjectKey>>,
    synced: bool,
    claims: Claims,
    /// What the source says is wrong.
    said: Vec<Problem>,
    /// That, and what is wrong with the objects beside each other.
    problems: OnceLock<Vec<Problem>>,
}

impl Cluster {
    /// Takes an event in; adds the services that must be resolved again to `touched`.
    pub fn apply(&mut self, event: Event, touched: &mut BTreeSet<ObjectName>) {
        match event {
            Event::Reset => self.listing = Some(BTreeSet::new()),
            Event::Put(object) => self.put(*object, touched),
            Event::Remove(key) => {
                if let Some(listing) = &mut self.listing {
                    listing.remove(&key);
                }
                self.remove(&key, touched);
            }
            Event::Synced => {
                self.synced = true;
                let Some(listing) = self.listing.take() else {
                    return;
                };
                let gone: Vec<ObjectKey> = self
                    .objects
                    .keys()
                    .filter(|key| !listing.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.remove(&key, touched);
                }
            }
            Event::Problems(problems) => {
                self.said = problems;
                self.problems.take();
            }
            Event::Changed(_) | Event::Machine(_) | Event::Conflicts(_) | Event::Unprovided(_) => {}
        }
        if self.claims.take_changed() {
            self.problems.take();
        }
    }

    fn combined(&self) -> Vec<Problem> {
        let mut all = self.said.clone();
        for (name, faults) in self.claims.faults() {
            if let Some((object, _)) = self.pod(name) {
                let faults = faults.into_iter();
                all.extend(faults.map(|fault| fault.at(&object.key, &object.origin)));
            }
        }
        all.sort();
        all
    }

    /// Whether the source's objects have been listed once (F1).
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.synced
    }

    /// What the source says is wrong, and addresses that more than one pod has.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        // Not with each event: all objects of a listing may have one problem.
        self.problems.get_or_init(|| self.combined())
    }

    /// An object.
    #[must_use]
    pub fn object(&self, kind: Kind, name: &ObjectName) -> Option<&Object> {
        self.objects.get(&ObjectKey {
            kind,
            name: name.clone(),
        })
    }

    /// A service.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<(&Object, &Service)> {
        let object = self.object(Kind::Service, name)?;
        match &object.spec {
            Spec::Service(service) => Some((object, service)),
            _ => None,
        }
    }

    /// What puts older services before younger ones; those of unknown age come last.
    #[must_use]
    pub fn age(&self, name: &ObjectName) -> (bool, Option<Timestamp>) {
        let created = self.service(name).and_then(|(_, service)| service.created);
        (created.is_none(), created)
    }

    /// A pod.
    #[must_use]
    pub fn pod(&self, name: &ObjectName) -> Option<(&Object, &Pod)> {
        let object = self.object(Kind::Pod, name)?;
        match &object.spec {
            Spec::Pod(pod) => Some((object, pod)),
            _ => None,
        }
    }

    /// A pod by `namespace/name`.
    pub(super) fn pod_called(&self, text: &str) -> Option<(&Object, &Pod)> {
        let (namespace, name) = text.split_once('/')?;
        self.pod(&ObjectName::new(namespace, name))
    }

    /// The pods that have an address of their own, by it. Cloning costs nothing.
    #[must_use]
    pub const fn pods_by_address(&self) -> &RedBlackTreeSetSync<(IpAddr, ObjectName)> {
        &self.pods_at
    }

    /// A node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        match &self.object(Kind::Node, &ObjectName::new("", name))?.spec {
            Spec::Node(node) => Some(node),
            _ => None,
        }
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|name| Some((&**name, self.node(name)?)))
    }

    /// The zone of a node; empty if it is not known.
    #[must_use]
    pub fn zone(&self, node: &str) -> Arc<str> {
        self.zones.get(node).cloned().unwrap_or_default()
    }

    /// The slices of a service, by name.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = (&Object, &EndpointSlice)> {
        let names = self.slices_of.get(service).into_iter();
        names.flat_map(Group::iter).filter_map(|name| {
            let object = self.object(Kind::EndpointSlice, name)?;
            match &object.spec {
                Spec::EndpointSlice(slice) => Some((object, &**slice)),
                _ => None,
            }
        })
    }

    /// The pods a selector picks, by name.
    pub fn selected(
        &self,
        namespace: &Arc<str>,
        selector: &Labels,
    ) -> impl Iterator<Item = (&Object, &Pod)> {
        let names = first_pair(namespace, selector)
            .and_then(|pair| self.pods_with.get(&pair))
            .into_iter()
            .flat_map(Group::iter);
        names
            .filter_map(|name| self.pod(name))
            .filter(|(_, pod)| selector.selects(&pod.labels))
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &ObjectName> {
        self.objects
            .keys()
            .filter(|key| key.kind == Kind::Service)
            .map(|key| &key.name)
    }

    fn put(&mut self, object: Object, touched: &mut BTreeSet<ObjectName>) {
        if let Some(listing) = &mut self.listing {
            listing.insert(object.key.clone());
        }
        let old = self.objects.get(&object.key);
        if old == Some(&object) {
            return;
        }
        if let Spec::Node(node) = &object.spec {
            self.set_zone(&object.key.name.name, zone_of(node), touched);
        }
        self.unlink(&object.key, touched);
        self.link(&object, touched);
        self.objects.insert(object.key.clone(), object);
    }

    fn remove(&mut self, key: &ObjectKey, touched: &mut BTreeSet<ObjectName>) {
        if key.kind == Kind::Node {
            self.set_zone(&key.name.name, "", touched);
        }
        self.unlink(key, touched);
        self.objects.remove(key);
    }

    /// Adds an object to the indices, and the services that see it to `touched`.
    fn link(&mut self, object: &Object, touched: &mut BTreeSet<ObjectName>) {
        let name = &object.key.name;
        match &object.spec {
            Spec::Service(service) => {
                if let Some(pair) = selector_pair(name, service) {
                    self.services_by
                        .entry(pair)
                        .or_default()
                        .insert(name.clone());
                }
                touched.insert(name.clone());
            }
            Spec::EndpointSlice(slice) => {
                if let Some(service) = service_of(name, slice) {
                    let slices = self.slices_of.entry(service.clone()).or_default();
                    slices.insert(name.clone());
                    touched.insert(service);
                }
            }
            Spec::Pod(pod) => {
                self.claims.add(name, pod);
                for pair in label_pairs(name, pod) {
                    self.pods_with.entry(pair).or_default().insert(name.clone());
                }
                for address in pod.own_addresses() {
                    self.pods_at.insert_mut((address, name.clone()));
                }
                self.touch_selecting(name, pod, touched);
            }
            Spec::Node(_) => {
                self.nodes.insert(name.name.clone());
            }
            Spec::Namespace(_) => {}
        }
    }

    /// Takes an object out of the indices, and adds the services that saw it to `touched`.
    fn unlink(&mut self, key: &ObjectKey, touched: &mut BTreeSet<ObjectName>) {
        let Some(object) = self.objects.get(key) else {
            return;
        };
        let name = &key.name;
        match object.spec.clone() {
            Spec::Service(service) => {
                if let Some(pair) = selector_pair(name, &service) {
                    detach(&mut self.services_by, &pair, name);
                }
                touched.insert(name.clone());
            }
            Spec::EndpointSlice(slice) => {
                if let Some(service) = service_of(name, &slice) {
                    detach(&mut self.slices_of, &service, name);
                    touched.insert(service);
                }
            }
            Spec::Pod(pod) => {
                self.claims.remove(name, &pod);
                for pair in label_pairs(name, &pod) {
                    detach(&mut self.pods_with, &pair, name);
                }
                for address in pod.own_addresses() {
                    self.pods_at.remove_mut(&(address, name.clone()));
                }
                self.touch_selecting(name, &pod, touched);
            }
            Spec::Node(_) => {
                self.nodes.remove(&name.name);
            }
            Spec::Namespace(_) => {}
        }
    }

    /// The services that select a pod.
    fn touch_selecting(&self, name: &ObjectName, pod: &Pod, touched: &mut BTreeSet<ObjectName>) {
        for pair in label_pairs(name, pod) {
            let services = self.services_by.get(&pair).into_iter();
            for service in services.flat_map(Group::iter) {
                let spec = self.service(service).and_then(|(_, it)| it.spec.as_ref());
                if spec.is_some_and(|spec| spec.selector.selects(&pod.labels)) {
                    touched.insert(service.clone());
                }
            }
        }
    }

    fn set_zone(&mut self, node: &Arc<str>, zone: &str, touched: &mut BTreeSet<ObjectName>) {
        if *self.zone(node) == *zone {
            return;
        }
        if zone.is_empty() {
            self.zones.remove(node);
        } else {
            self.zones.insert(node.clone(), zone.into());
        }
        self.touch_node(node, touched);
    }

    /// The services that show a node's zone. Walks all pods and slices: a node seldom moves.
    fn touch_node(&self, node: &str, touched: &mut BTreeSet<ObjectName>) {
        for object in self.objects.values() {
            match &object.spec {
                Spec::Pod(pod) if *pod.node == *node => {
                    self.touch_selecting(&object.key.name, pod, touched);
                }
                Spec::EndpointSlice(slice)
                    if slice
                        .endpoints
                        .iter()
                        .any(|endpoint| *endpoint.node == *node) =>
                {
                    touched.extend(service_of(&object.key.name, slice));
                }
                _ => {}
            }
        }
    }
}

fn zone_of(node: &Node) -> &str {
    let labels = node.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(ZONE_LABEL))
        .map_or("", String::as_str)
}

fn service_of(name: &ObjectName, slice: &EndpointSlice) -> Option<ObjectName> {
    Some(ObjectName {
        namespace: name.namespace.clone(),
        name: slice.service.clone()?,
    })
}

fn first_pair(namespace: &Arc<str>, labels: &Labels) -> Option<Pair> {
    let (key, value) = labels.first()?;
    Some((namespace.clone(), key.clone(), value.clone()))
}

fn selector_pair(name: &ObjectName, service: &Service) -> Option<Pair> {
    first_pair(&name.namespace, &service.spec.as_ref()?.selector)
}

fn label_pairs<'a>(name: &'a ObjectName, pod: &'a Pod) -> impl Iterator<Item = Pair> + 'a {
    let labels = pod.labels.iter();
    labels.map(|(key, value)| (name.namespace.clone(), key.clone(), value.clone()))
}

fn detach<K: std::hash::Hash + Eq>(index: &mut HashMap<K, Group>, key: &K, name: &ObjectName) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::objects_for_tests::{app, listing, name, node, pod, put, remove, slice};

    fn touched(cluster: &mut Cluster, events: Vec<Event>) -> Vec<String> {
        let mut touched = BTreeSet::new();
        for event in events {
            cluster.apply(event, &mut touched);
        }
        touched.iter().map(|name| name.name.to_string()).collect()
    }

    /// F5
    #[test]
    fn an_event_touches_the_services_that_see_the_object_and_no_other() {
        let mut cluster = Cluster::default();
        let (one, two) = (
            pod("one-1", "one", "10.1.0.1"),
            pod("two-1", "two", "10.1.0.2"),
        );
        let objects = [app("one"), app("two"), one.clone(), two];
        assert_eq!(
            touched(&mut cluster, listing(objects.clone())),
            ["one", "two"]
        );
        assert_eq!(
            touched(&mut cluster, listing(objects)),
            [""; 0],
            "the same again"
        );
        let moved = pod("one-1", "two", "10.1.0.1");
        assert_eq!(
            touched(&mut cluster, vec![put(moved.clone())]),
            ["one", "two"],
            "both the one it left and the one it joined"
        );
        assert_eq!(touched(&mut cluster, vec![remove(&moved)]), ["two"]);
        let of_one = slice("s", "one", &["10.1.0.9"]);
        assert_eq!(touched(&mut cluster, vec![put(of_one)]), ["one"]);
        let of_two = slice("s", "two", &["10.1.0.9"]);
        assert_eq!(touched(&mut cluster, vec![put(of_two)]), ["one", "two"]);
        assert_eq!(cluster.slices(&name("one")).count(), 0);
        assert_eq!(touched(&mut cluster, vec![remove(&app("one"))]), ["one"]);
        assert_eq!(
            touched(&mut cluster, vec![put(one)]),
            [""; 0],
            "nobody selects it any more"
        );
    }

    #[test]
    fn a_node_touches_what_runs_on_it_when_its_zone_changes() {
        let mut cluster = Cluster::default();
        let objects = [app("one"), pod("one-1", "one", "10.1.0.1"), app("two")];
        touched(&mut cluster, listing(objects));
        let put_node = |zone| vec![put(node("node-a", zone))];
        assert_eq!(touched(&mut cluster, put_node("east")), ["one"]);
        assert_eq!(touched(&mut cluster, put_node("east")), [""; 0]);
        assert_eq!(touched(&mut cluster, put_node("west")), ["one"]);
        assert_eq!(&*cluster.zone("node-a"), "west");
        let gone = vec![remove(&node("node-a", "west"))];
        assert_eq!(touched(&mut cluster, gone), ["one"]);
    }

    /// F1, F9
    #[test]
    fn what_a_listing_does_not_hold_is_gone_when_it_is_complete() {
        let mut cluster = Cluster::default();
        assert!(!cluster.is_synced());
        touched(&mut cluster, listing([app("one"), app("two")]));
        assert!(cluster.is_synced());
        let half = vec![Event::Reset, put(app("two"))];
        assert_eq!(touched(&mut cluster, half), [""; 0]);
        assert!(cluster.service(&name("one")).is_some(), "not before Synced");
        assert_eq!(touched(&mut cluster, vec![Event::Synced]), ["one"]);
        assert!(cluster.service(&name("one")).is_none());
        assert!(cluster.service(&name("two")).is_some());
    }
}
