//! What every reader sees.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync, RedBlackTreeSetSync};

use super::{
    inside::{self, Inside},
    object::ObjectName,
    problem::Problem,
    resolve::NodeInfo,
    service::ResolvedService,
};

/// The resolved cluster, as it was at one moment. Cloning costs nothing, whatever its size.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// The node this is for.
    pub node: NodeInfo,
    /// What counts as inside the cluster.
    pub inside: Arc<inside::Ranges>,
    /// The nodes that may give addresses of the pool of load balancers out, where an API server keeps the objects.
    pub providers: Arc<[Arc<str>]>,
    /// Every service, those without an entry in the dataplane too.
    pub services: RedBlackTreeMapSync<ObjectName, Arc<ResolvedService>>,
    /// The same services, for whoever looks for one of many: a few steps, where a tree takes one for each doubling.
    pub(super) by_name: HashTrieMapSync<ObjectName, Arc<ResolvedService>>,
    /// Addresses that lead back to a name: of services, and of endpoints with a hostname of headless ones (J2).
    pub named: RedBlackTreeSetSync<(IpAddr, ObjectName)>,
    /// The pods that have an address of their own, by it.
    pub pods: RedBlackTreeSetSync<(IpAddr, ObjectName)>,
    /// What the source found wrong.
    pub source_problems: Arc<[Problem]>,
    /// What is wrong with services, those that do not fit included.
    pub service_problems: RedBlackTreeMapSync<ObjectName, Arc<[Problem]>>,
}

impl Snapshot {
    /// All that is wrong, by file and place.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut all: Vec<Problem> = self
            .source_problems
            .iter()
            .chain(self.service_problems.values().flat_map(|some| some.iter()))
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Whether two are the same without a look at every service: one is a clone of the other, unchanged since.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let Self {
            node,
            inside,
            providers,
            services,
            by_name: _follows_from_services,
            named: _follows_from_services_too,
            pods,
            source_problems,
            service_problems,
        } = self;
        *node == other.node
            && Arc::ptr_eq(inside, &other.inside)
            && Arc::ptr_eq(providers, &other.providers)
            && services.ptr_eq(&other.services)
            && pods.ptr_eq(&other.pods)
            && Arc::ptr_eq(source_problems, &other.source_problems)
            && service_problems.ptr_eq(&other.service_problems)
    }

    /// Puts a service in, or takes it out.
    pub(crate) fn set_service(&mut self, name: &ObjectName, service: Option<Arc<ResolvedService>>) {
        let reverse = |service: Option<&Arc<ResolvedService>>| -> BTreeSet<IpAddr> {
            service
                .map(|service| service.naming.reverse().collect())
                .unwrap_or_default()
        };
        let before = reverse(self.service(name));
        let after = reverse(service.as_ref());
        for address in before.difference(&after) {
            self.named.remove_mut(&(*address, name.clone()));
        }
        for address in after.difference(&before) {
            self.named.insert_mut((*address, name.clone()));
        }
        if let Some(service) = service {
            self.by_name.insert_mut(name.clone(), service.clone());
            self.services.insert_mut(name.clone(), service);
        } else {
            self.by_name.remove_mut(name);
            self.services.remove_mut(name);
        }
    }

    /// A service by its name.
    #[must_use]
    pub fn service(&self, name: &ObjectName) -> Option<&Arc<ResolvedService>> {
        self.by_name.get(name)
    }

    /// The services whose name an address leads back to.
    pub fn named_by(&self, address: IpAddr) -> impl Iterator<Item = &Arc<ResolvedService>> {
        let names = at(&self.named, address);
        names.filter_map(|name| self.service(name))
    }

    /// The pods that have an address as their own.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = &ObjectName> {
        at(&self.pods, address)
    }

    /// The ranges inside the cluster that hold all of another one, the smallest first.
    pub fn ranges_around(&self, net: IpNet) -> impl Iterator<Item = (IpNet, Inside)> {
        let around = (0..=net.prefix_len()).rev();
        around.filter_map(move |length| {
            let range = IpNet::new(net.addr(), length).ok()?.trunc();
            self.inside.get(&range).map(|whose| (range, *whose))
        })
    }

    /// Whether a namespace has a service.
    #[must_use]
    pub fn has_namespace(&self, namespace: &str) -> bool {
        let first = ObjectName::new(namespace, "");
        let mut names = self.services.range(first..).map(|(name, _)| name);
        names
            .next()
            .is_some_and(|name| &*name.namespace == namespace)
    }

    pub(crate) fn set_problems(&mut self, name: &ObjectName, problems: Vec<Problem>) {
        if problems.is_empty() {
            if self.service_problems.contains_key(name) {
                self.service_problems.remove_mut(name);
            }
        } else {
            self.service_problems
                .insert_mut(name.clone(), problems.into());
        }
    }
}

/// What an address is paired with.
fn at(
    pairs: &RedBlackTreeSetSync<(IpAddr, ObjectName)>,
    address: IpAddr,
) -> impl Iterator<Item = &ObjectName> {
    pairs
        .range((address, ObjectName::new("", ""))..)
        .take_while(move |(other, _)| *other == address)
        .map(|(_, name)| name)
}
