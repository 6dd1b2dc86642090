//! Events in, snapshot out: the model put together. No dataplane, no clock; `plan` and `run` share it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    ops::RangeInclusive,
    sync::Arc,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{
    allocate::{Allocations, Allocator, Changes},
    announcer::{self, Conflicts},
    cluster::Cluster,
    event::Event,
    exposure::{Exposure, NodePortAddresses},
    inside::inside,
    node_ports::{KeptPorts, NodePorts},
    object::{Kind, ObjectName},
    problem::{Fault, Problem},
    range::ServiceRange,
    resolve::{Context, Given, NodeInfo, resolve},
    served::{Left, Owner, ServedAddresses},
    service::{Action, Algorithm, Balancer, Endpoint, ResolvedService, Role},
    snapshot::Snapshot,
    validate::Rules,
};

mod many;
#[cfg(test)]
mod tests;

/// Namespace and name of the service by which pods reach the API server.
const API_SERVER: (&str, &str) = ("default", "kubernetes");

/// Taint of a node that the cluster autoscaler is about to delete.
pub const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// The one writer of the snapshot.
#[derive(Debug)]
pub struct Resolver {
    cluster: Cluster,
    allocator: Allocator,
    node_ports: NodePorts,
    pool: Allocator,
    exposure: Exposure,
    algorithm: Algorithm,
    /// This machine's addresses, for want of a Node object.
    machine: Vec<IpAddr>,
    /// The nodes that may announce addresses of the pool,
    announcers: Vec<Arc<str>>,
    /// and those addresses that others have too.
    conflicts: Conflicts,
    /// Load balancers whose addresses come from the pool by their status,
    provided: BTreeSet<ObjectName>,
    /// and what is wrong with those.
    unprovided: BTreeMap<ObjectName, Vec<Fault>>,
    /// Ranges that are inside whatever the Node objects say.
    pod_cidrs: Vec<IpNet>,
    /// Node objects may have changed since they were looked at.
    nodes_touched: bool,
    snapshot: Snapshot,
    /// What an earlier agent left in the dataplane of the API server's own service.
    served: ServedAddresses,
    /// Services that an event touched and that were not resolved since.
    touched: BTreeSet<ObjectName>,
    /// What services got is this node's own word, hence kept.
    keeps: bool,
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
        let Allocations {
            addresses,
            resting,
            node_ports,
        } = kept;
        Self {
            cluster: Cluster::default(),
            allocator: Allocator::new(ranges, addresses, resting),
            node_ports: NodePorts::new(Rules::default().node_ports, node_ports),
            pool: Allocator::of_balancers(Vec::new(), None, None, Allocations::new()),
            exposure: Exposure::default(),
            algorithm,
            machine: Vec::new(),
            announcers: Vec::new(),
            conflicts: Conflicts::new(),
            provided: BTreeSet::new(),
            unprovided: BTreeMap::new(),
            pod_cidrs: Vec::new(),
            nodes_touched: true,
            snapshot: Snapshot {
                node: NodeInfo {
                    name: node.into(),
                    ..NodeInfo::default()
                },
                ..Snapshot::default()
            },
            served: ServedAddresses::new(),
            touched: BTreeSet::new(),
            keeps: true,
        }
    }

    /// The same with other node ports than the default ones, and other addresses towards the outside.
    #[must_use]
    pub fn exposed(mut self, node_ports: RangeInclusive<u16>, exposure: Exposure) -> Self {
        self.node_ports = NodePorts::new(node_ports, self.node_ports.kept());
        let ranges = self.allocator.ranges().to_vec();
        let family = ranges.first().map(ServiceRange::family);
        let pool = exposure.pool.clone();
        let (pooled, own) = self
            .allocations()
            .divided(|address| pool.iter().any(|range| range.contains(address)));
        self.allocator = Allocator::new(ranges, own.addresses, own.resting);
        self.pool = Allocator::of_balancers(pool, family, exposure.class.clone(), pooled);
        self.exposure = exposure;
        self
    }

    /// The same where an API server gives addresses and node ports out: a service has those that it names, and nothing else
    /// (after [`Resolver::exposed`]). Nor does a load balancer get an address here: who provides for its class writes it into its
    /// status.
    #[must_use]
    pub fn of_api_server(mut self) -> Self {
        self.allocator = Allocator::of_api_server(self.allocator.ranges().to_vec());
        self.pool = Allocator::of_balancers(Vec::new(), None, None, Allocations::new());
        self.node_ports = NodePorts::new(1..=u16::MAX, KeptPorts::new());
        self.keeps = false;
        self.exposure.provides = self.exposure.class.is_some() && !self.exposure.pool.is_empty();
        self
    }

    /// The same with these ranges inside the cluster, whatever the Node objects say.
    #[must_use]
    pub fn with_pod_cidrs(mut self, pod_cidrs: Vec<IpNet>) -> Self {
        self.pod_cidrs = pod_cidrs;
        self
    }

    /// Takes events in. Nothing is resolved yet.
    pub fn take(&mut self, events: Vec<Event>) {
        for event in events {
            self.nodes_touched |= match &event {
                Event::Put(object) => object.key.kind == Kind::Node,
                Event::Remove(key) => key.kind == Kind::Node,
                // What was not listed again is gone.
                Event::Synced => true,
                Event::Machine(addresses) => {
                    self.machine.clone_from(addresses);
                    false
                }
                Event::Conflicts(conflicts) => {
                    self.set_conflicts(conflicts);
                    false
                }
                Event::Unprovided(faults) => {
                    let known = std::mem::replace(&mut self.unprovided, faults.clone());
                    self.touched.extend(known.into_keys());
                    self.touched.extend(faults.keys().cloned());
                    false
                }
                Event::Reset | Event::Problems(_) | Event::Changed(_) => false,
            };
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
    pub fn allocate(&mut self) -> Option<Changes> {
        if !self.is_synced() {
            return None;
        }
        self.allocator.settle(&self.cluster, &mut self.touched);
        self.node_ports.settle(&self.cluster, &mut self.touched);
        self.pool.settle(&self.cluster, &mut self.touched);
        if !self.keeps {
            // Else they would add up, and each event would look at all of them (F5).
            self.saved();
            return None;
        }
        let mut changes = Changes {
            node_ports: self.node_ports.changes(),
            ..Changes::default()
        };
        let parts = [&self.allocator, &self.pool];
        for part in parts {
            // Which of them has changed does not matter: what is kept of a service is all that it has.
            changes.addresses.extend(part.unkept().map(|name| {
                let held = parts.iter().flat_map(|it| it.held_by(name));
                (name.clone(), held.collect())
            }));
            changes.resting.extend(part.unkept_resting());
        }
        (!changes.is_empty()).then_some(changes)
    }

    /// All that is to be kept on disk.
    #[must_use]
    pub fn allocations(&self) -> Allocations {
        let mut addresses = self.allocator.kept();
        for (name, pooled) in self.pool.kept() {
            addresses.entry(name).or_default().extend(pooled);
        }
        Allocations {
            addresses,
            resting: self.resting(),
            node_ports: self.node_ports.kept(),
        }
    }

    /// The dataplane holds what the snapshot says, and at least a second has passed since the last time: released
    /// addresses may become free (G4).
    pub fn advance(&mut self) {
        self.allocator.advance(&mut self.touched);
        self.pool.advance(&mut self.touched);
    }

    /// What [`Resolver::allocate`] returned is kept on disk.
    pub fn saved(&mut self) {
        self.allocator.saved(&mut self.touched);
        self.pool.saved(&mut self.touched);
        self.node_ports.saved(&mut self.touched);
    }

    /// Released addresses that rest, and who had them last (G4).
    #[must_use]
    pub fn resting(&self) -> BTreeMap<IpAddr, ObjectName> {
        let mut resting = self.allocator.resting();
        resting.extend(self.pool.resting());
        resting
    }

    /// Once, when the source is synced and before the first `allocate`: what an earlier agent left in the dataplane. What was
    /// kept on disk comes first (G4).
    pub fn remember(&mut self, left: Left) {
        let Left {
            addresses,
            node_ports,
        } = left;
        self.allocator.remember(&addresses, &self.cluster);
        self.pool.remember(&addresses, &self.cluster);
        self.node_ports.remember(&node_ports, &self.cluster);
        // Of the others nobody asks again.
        let (namespace, name) = API_SERVER;
        let owner = Owner::of(&ObjectName::new(namespace, name));
        let served = addresses.into_iter();
        self.served = served.filter(|(_, it)| it.owner == owner).collect();
    }

    /// Once, after the first `allocate`: addresses that belong to another service than in the earlier run.
    pub fn handed_over(&mut self) -> BTreeSet<IpAddr> {
        let mut addresses = self.allocator.handed_over();
        addresses.extend(self.pool.handed_over());
        addresses
    }

    /// A service, by what it was given.
    fn resolved(&self, name: &ObjectName) -> Option<Arc<ResolvedService>> {
        let context = Context {
            cluster: &self.cluster,
            node: &self.snapshot.node,
            algorithm: self.algorithm,
            exposure: &self.exposure,
            ranges: self.allocator.ranges(),
            announcers: &self.announcers,
            conflicts: &self.conflicts,
        };
        let faults = self.allocator.faults(name).iter();
        let given = Given {
            addresses: self.allocator.addresses(name),
            balancers: self.pool.addresses(name),
            node_ports: self.node_ports.of(name),
            health_check_node_port: self.node_ports.health_check(name),
            faults: faults
                .chain(self.node_ports.faults(name))
                .chain(self.pool.faults(name))
                .chain(self.unprovided.get(name).into_iter().flatten())
                .cloned()
                .collect(),
        };
        resolve(&context, name, &given).map(|service| self.guarded(service))
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
        self.see_node();
        if std::mem::take(&mut self.nodes_touched) {
            let ranges = inside(&self.pod_cidrs, &self.cluster, &self.snapshot.node.name);
            if *self.snapshot.inside != ranges {
                self.snapshot.inside = Arc::new(ranges);
            }
            let announcers = announcer::nodes(&self.cluster, &self.snapshot.node.name);
            if self.announcers != announcers {
                self.announcers = announcers;
                self.touched.extend(self.pool.owners().cloned());
                self.touched.extend(self.provided.iter().cloned());
            }
            if self.exposure.provides {
                let providers = announcer::providers(&self.cluster, &self.snapshot.node.name);
                if self.snapshot.providers != providers {
                    self.snapshot.providers = providers;
                }
            }
        }
        self.snapshot.pods = self.cluster.pods_by_address().clone();
        let touched: Vec<ObjectName> = std::mem::take(&mut self.touched).into_iter().collect();
        let resolved = many::each(&touched, |name| self.resolved(name));
        for (name, new) in touched.into_iter().zip(resolved) {
            let provision = new.as_ref().and_then(|it| it.provision.as_ref());
            if provision.is_some_and(|it| it.is_own()) {
                self.provided.insert(name.clone());
            } else {
                self.provided.remove(&name);
            }
            let old = self.snapshot.service(&name);
            if old == new.as_ref() {
                continue;
            }
            let problems = new.as_ref().map(|service| service.problems.clone());
            self.snapshot
                .set_problems(&name, problems.unwrap_or_default());
            self.snapshot.set_service(&name, new);
            changed.insert(name);
        }
        changed
    }

    fn set_conflicts(&mut self, conflicts: &Conflicts) {
        let known = std::mem::replace(&mut self.conflicts, conflicts.clone());
        let seen = known.keys().chain(conflicts.keys());
        let owners = seen.filter_map(|address| self.pool.owner(*address));
        self.touched.extend(owners.cloned());
        self.touched.extend(self.provided.iter().cloned());
    }

    /// Looks at this node's own object; what hangs on it touches every service.
    fn see_node(&mut self) {
        let node = self.cluster.node(&self.snapshot.node.name);
        let chosen = |choice: &NodePortAddresses| {
            // A Node object may be there before its addresses are.
            let own = node.map(|node| choice.of(node));
            let own = own.filter(|own| !own.is_empty());
            own.unwrap_or_else(|| choice.of_machine(&self.machine))
                .into()
        };
        let seen = NodeInfo {
            name: self.snapshot.node.name.clone(),
            zone: self.cluster.zone(&self.snapshot.node.name),
            node_port_addresses: chosen(&self.exposure.node_port_addresses),
            stand_ins: chosen(&NodePortAddresses::Primary),
            is_leaving: self.snapshot.node.is_leaving,
        };
        let is_leaving = node.is_some_and(is_leaving);
        if self.snapshot.node != seen {
            self.snapshot.node = seen;
            self.touched.extend(self.cluster.services().cloned());
        }
        self.snapshot.node.is_leaving = is_leaving;
    }

    /// The API server's own service keeps its last endpoints rather than having none: who manages the cluster must
    /// reach it to mend that (F3).
    fn guarded(&self, new: Arc<ResolvedService>) -> Arc<ResolvedService> {
        let name = &new.name;
        if (&*name.namespace, &*name.name) != API_SERVER {
            return new;
        }
        let old = self.snapshot.service(name);
        let mut kept = ResolvedService::clone(&new);
        let mut is_kept = false;
        for balancer in &mut kept.balancers {
            if balancer.action == Action::Balance {
                continue;
            }
            let endpoints = match old {
                Some(old) => old
                    .balancers
                    .iter()
                    .find(|it| it.is_same_port(balancer) && it.action == Action::Balance)
                    .map(|it| it.endpoints.clone())
                    .unwrap_or_default(),
                // This agent has not seen any; the one before it has.
                None => self.left(balancer),
            };
            if !endpoints.is_empty() {
                balancer.endpoints = endpoints;
                balancer.action = Action::Balance;
                is_kept = true;
            }
        }
        if !is_kept {
            return new;
        }
        if let Some((object, _)) = self.cluster.service(name) {
            let fault = Fault {
                field: String::new(),
                value: String::new(),
                message: "has no endpoint any more: the last ones are kept".to_owned(),
            };
            kept.problems.push(fault.at(&object.key, &object.origin));
        }
        Arc::new(kept)
    }

    /// The endpoints to which an earlier agent sends new flows.
    fn left(&self, balancer: &Balancer) -> Vec<Endpoint> {
        let ports = balancer.frontends.iter().filter_map(|frontend| {
            let served = self.served.get(&frontend.address)?;
            served
                .ports
                .iter()
                .find(|it| it.port == frontend.port && it.protocol == balancer.protocol)
        });
        let endpoint = |(address, port): &(IpAddr, u16)| Endpoint {
            address: *address,
            port: *port,
            weight: 1,
            terminating: false,
            role: Role::Chosen,
            node: Arc::default(),
            zone: Arc::default(),
            identity: None,
        };
        let ports = ports.map(|port| port.endpoints.iter().map(endpoint).collect());
        ports.max_by_key(Vec::len).unwrap_or_default()
    }

    /// Says beside a service's own problems what is wrong with its place in the maps; replaces what was said before.
    pub fn set_place_problems(&mut self, name: &ObjectName, messages: &[String]) {
        let Some(service) = self.snapshot.service(name) else {
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

/// Whether a node is being deleted, by hand or by the cluster autoscaler, which says so by a taint before.
pub(super) fn is_leaving(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    let is_tainted = |taints: &Vec<Taint>| taints.iter().any(|taint| taint.key == LEAVING_TAINT);
    node.metadata.deletion_timestamp.is_some() || taints.is_some_and(is_tainted)
}

/// The snapshot of one full listing: what `plan` shows. Automatic addresses that are not among `kept` are provisional.
#[must_use]
pub fn snapshot_of(mut resolver: Resolver, events: Vec<Event>) -> Arc<Snapshot> {
    resolver.take(events);
    let _provisional = resolver.allocate();
    let _changed = resolver.resolve();
    Arc::new(resolver.snapshot)
}
