//! Events in, snapshot out: the model put together. No dataplane, no clock; `plan` and `run` share it.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use super::{
    allocate::{Allocations, Allocator},
    cluster::Cluster,
    event::Event,
    object::{Kind, ObjectName},
    problem::{Fault, Problem},
    range::ServiceRange,
    resolve::{Context, NodeInfo, resolve},
    service::Algorithm,
    snapshot::Snapshot,
};

/// The one writer of the snapshot.
#[derive(Debug)]
pub struct Resolver {
    cluster: Cluster,
    allocator: Allocator,
    algorithm: Algorithm,
    snapshot: Snapshot,
    /// Services that an event touched and that were not resolved since.
    touched: BTreeSet<ObjectName>,
}

impl Resolver {
    /// A resolver for a node; `kept` are the allocations of an earlier run.
    #[must_use]
    pub fn new(
        node: &str,
        algorithm: Algorithm,
        ranges: Vec<ServiceRange>,
        kept: Allocations,
    ) -> Self {
        Self {
            cluster: Cluster::default(),
            allocator: Allocator::new(ranges, kept),
            algorithm,
            snapshot: Snapshot {
                node: NodeInfo {
                    name: node.into(),
                    ..NodeInfo::default()
                },
                ..Snapshot::default()
            },
            touched: BTreeSet::new(),
        }
    }

    /// Takes events in. Nothing is resolved yet.
    pub fn take(&mut self, events: Vec<Event>) {
        for event in events {
            self.cluster.apply(event, &mut self.touched);
        }
    }

    /// Whether the source has listed everything once (F1).
    #[must_use]
    pub const fn is_synced(&self) -> bool {
        self.cluster.is_synced()
    }

    /// The cluster as it was resolved last.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Gives the touched services their addresses; nothing before the source is synced. Returns what is to be kept on
    /// disk before it is programmed, if that changed.
    pub fn allocate(&mut self) -> Option<Allocations> {
        if !self.is_synced() {
            return None;
        }
        self.allocator.settle(&self.cluster, &mut self.touched);
        self.allocator.unsaved()
    }

    /// What [`Resolver::allocate`] returned is kept on disk.
    pub fn saved(&mut self) {
        self.allocator.saved(&mut self.touched);
    }

    /// Once, after the first `allocate`: addresses that belong to another service than in the earlier run.
    pub fn handed_over(&mut self) -> BTreeSet<IpAddr> {
        self.allocator.handed_over()
    }

    /// Resolves the touched services and nothing else (F5); returns those that are different now.
    pub fn resolve(&mut self) -> BTreeSet<ObjectName> {
        let mut changed = BTreeSet::new();
        if !self.is_synced() {
            return changed;
        }
        if *self.snapshot.source_problems != *self.cluster.problems() {
            self.snapshot.source_problems = self.cluster.problems().into();
        }
        let zone = self.cluster.zone(&self.snapshot.node.name);
        if *self.snapshot.node.zone != *zone {
            self.snapshot.node.zone = zone.into();
        }
        for name in std::mem::take(&mut self.touched) {
            let context = Context {
                cluster: &self.cluster,
                node: &self.snapshot.node,
                algorithm: self.algorithm,
            };
            let addresses = self.allocator.addresses(&name);
            let new = resolve(&context, &name, &addresses, self.allocator.faults(&name));
            let old = self.snapshot.services.get(&name);
            if old == new.as_ref() {
                continue;
            }
            if let Some(service) = new {
                self.snapshot.set_problems(&name, service.problems.clone());
                self.snapshot.services.insert_mut(name.clone(), service);
            } else {
                self.snapshot.set_problems(&name, Vec::new());
                self.snapshot.services.remove_mut(&name);
            }
            changed.insert(name);
        }
        changed
    }

    /// Says beside a service's own problems what is wrong with its place in the maps; replaces what was said before.
    pub fn set_place_problems(&mut self, name: &ObjectName, messages: &[String]) {
        let Some(service) = self.snapshot.services.get(name) else {
            return;
        };
        let mut problems: Vec<Problem> = service.problems.clone();
        if let Some(object) = self.cluster.object(Kind::Service, name) {
            problems.extend(messages.iter().map(|message| {
                let fault = Fault {
                    field: "spec.ports".to_owned(),
                    value: String::new(),
                    message: message.clone(),
                };
                fault.at(&object.key, &object.origin)
            }));
        }
        self.snapshot.set_problems(name, problems);
    }
}

/// The snapshot of one full listing: what `plan` shows. Automatic addresses that are not among `kept` are provisional.
#[must_use]
pub fn snapshot_of(mut resolver: Resolver, events: Vec<Event>) -> Arc<Snapshot> {
    resolver.take(events);
    let _provisional = resolver.allocate();
    let _changed = resolver.resolve();
    Arc::new(resolver.snapshot)
}
