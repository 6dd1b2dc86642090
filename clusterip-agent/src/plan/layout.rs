//! Which id, which slots: the places of the services in the maps.
//!
//! Ids are stable: a service port keeps its [`ServiceId`], an endpoint its [`BackendId`] and generation, for as long as
//! a flow may speak of them; across a restart they are found again in the maps (F4).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use clusterip_common::{
    abi::{BackendId, ServiceFlags, ServiceId, ServiceKey, Sources, SourcesKey},
    wire::{Addr, Be16},
};

use super::{
    Tables,
    change::{Change, Recorder},
    departed::Departed,
    desired,
    ids::{Grace, Pool},
    runs::{Run, Runs},
};
use crate::model::{
    facts::TrafficPolicy,
    inside::Ranges,
    object::ObjectName,
    service::{Balancer, Family, Protocol, ResolvedService, Target},
};

/// How much the maps hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Balancers, and frontends with their addresses (`--max-services`).
    pub services: u32,
    /// Backends (`--max-backends`).
    pub backends: u32,
    /// Slots: twice the backends, since an update writes a new run beside the old one.
    pub slots: u32,
}

impl Limits {
    /// The limits that `--max-services` and `--max-backends` give.
    #[must_use]
    pub const fn new(services: u32, backends: u32) -> Self {
        Self {
            services,
            backends,
            slots: backends.saturating_mul(2),
        }
    }
}

/// What of a service port does not fit: endpoints that are left out, or a whole change that has to wait. It is tried
/// again when something was freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// No id, or no entry for another frontend or its address.
    #[error(
        "frontends and addresses without room: {needed}; the limit is {limit}: raise --max-services"
    )]
    Services {
        /// How many are missing.
        needed: usize,
        /// How many there may be.
        limit: u32,
    },
    /// No id for another backend.
    #[error("endpoints without room: {needed}; the limit is {limit}: raise --max-backends")]
    Backends {
        /// How many are missing.
        needed: usize,
        /// How many there may be.
        limit: u32,
    },
    /// No run of slots that is long enough for exact shares (B2); a shorter one is used.
    #[error(
        "shares of its endpoints are less exact: no run of {needed} free slots, one of {given} is used; there are {limit}: \
         raise --max-backends"
    )]
    Shares {
        /// How long the run should be.
        needed: usize,
        /// How long it is.
        given: usize,
        /// How many slots there are.
        limit: u32,
    },
    /// No run of slots that is long enough for its endpoints; the one in use, if there is one, is changed in place.
    #[error(
        "no run of {needed} free slots; {free} of {limit} are free, in pieces: raise --max-backends"
    )]
    Slots {
        /// How long the run must be.
        needed: usize,
        /// How many are free, in pieces.
        free: u32,
        /// How many there are.
        limit: u32,
    },
}

/// Identity of a balancer within its service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PortKey {
    pub(super) name: Arc<str>,
    pub(super) protocol: Protocol,
    pub(super) family: Family,
    pub(super) policy: TrafficPolicy,
}

impl PortKey {
    fn of(balancer: &Balancer) -> Self {
        Self {
            name: balancer.port_name.clone(),
            protocol: balancer.protocol,
            family: balancer.family,
            policy: balancer.policy,
        }
    }
}

/// What one balancer of the maps is to be: all views of a service port of one family by one policy, whose endpoints are the
/// same. So a client that keeps its endpoint keeps it by whichever address it calls (B3).
pub(super) struct Wanted<'a> {
    pub(super) balancer: &'a Balancer,
    pub(super) frontends: BTreeMap<ServiceKey, ServiceFlags>,
}

fn wanted(service: &ResolvedService) -> BTreeMap<PortKey, Wanted<'_>> {
    let mut all: BTreeMap<PortKey, Wanted<'_>> = BTreeMap::new();
    for balancer in service.balancers.iter().chain(&service.external) {
        let frontends = desired::frontends(balancer, service);
        if frontends.is_empty() {
            continue;
        }
        let wanted = all.entry(PortKey::of(balancer)).or_insert_with(|| Wanted {
            balancer,
            frontends: BTreeMap::new(),
        });
        wanted.frontends.extend(frontends);
    }
    all
}

/// An endpoint that has an id; the rest of it is in the tables.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: BackendId,
    pub(super) identity: Option<Arc<str>>,
    /// The epoch at which it left the serving set.
    pub(super) left: Option<u64>,
}

/// A balancer that has an id.
#[derive(Clone, Default, Debug)]
pub(super) struct Placed {
    /// Belongs to a service of the model; otherwise its frontends wait for one to claim them.
    pub(super) owned: bool,
    pub(super) frontends: BTreeSet<ServiceKey>,
    pub(super) run: Run,
    /// Not known of one that was found in the maps.
    pub(super) target: Option<Target>,
    pub(super) members: BTreeMap<(Addr, Be16), Member>,
    pub(super) sources: BTreeSet<SourcesKey>,
}

/// What must not be used again before every reader has let go of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Retired {
    Run(Run),
    Service(ServiceId),
    Backend(BackendId),
}

/// The places of all services, and the tables that follow from them.
#[derive(Clone, Debug)]
pub struct Layout {
    pub(super) limits: Limits,
    pub(super) recorder: Recorder,
    pub(super) balancers: BTreeMap<ServiceId, Placed>,
    pub(super) services: HashMap<ObjectName, BTreeMap<PortKey, ServiceId>>,
    pub(super) service_ids: Pool,
    pub(super) backend_ids: Pool,
    pub(super) runs: Runs,
    pub(super) grace: Grace<Retired>,
    pub(super) departed: Departed,
}

impl Layout {
    /// A layout of empty maps.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            recorder: Recorder::default(),
            balancers: BTreeMap::new(),
            services: HashMap::new(),
            service_ids: Pool::new(limits.services),
            backend_ids: Pool::new(limits.backends),
            runs: Runs::new(limits.slots),
            grace: Grace::new(),
            departed: Departed::default(),
        }
    }

    /// What the maps shall hold.
    #[must_use]
    pub const fn tables(&self) -> &Tables {
        self.recorder.tables()
    }

    /// What changed since the last time.
    pub fn take_change(&mut self) -> Change {
        self.recorder.take()
    }

    /// Until [`Layout::forget_change`] nobody asks what changed: all of [`Layout::tables`] is compared with the maps.
    pub const fn compare_whole(&mut self) {
        self.recorder.compare_whole();
    }

    /// What changed was seen to.
    pub fn forget_change(&mut self) {
        self.recorder.forget();
    }

    /// Makes these ranges, and no others, inside the cluster.
    pub fn set_inside(&mut self, ranges: &Ranges) {
        self.recorder.set_inside(desired::inside(ranges));
    }

    /// Says by which addresses, one of each family, the node stands for clients from outside; `always`: though no service
    /// is for them.
    pub fn set_node(&mut self, addresses: &[IpAddr], always: bool) {
        self.recorder.set_node(desired::node(addresses), always);
    }

    /// Gives a service its place, or another one.
    ///
    /// # Errors
    /// What does not fit; the rest is done.
    pub fn place(&mut self, service: &ResolvedService) -> Result<(), Vec<Full>> {
        let wanted = wanted(service);
        let mut held = self.services.remove(&service.name).unwrap_or_default();
        let left: Vec<ServiceId> = held
            .extract_if(.., |key, _| !wanted.contains_key(key))
            .map(|(_, id)| id)
            .collect();
        for id in &left {
            if let Some(placed) = self.balancers.get_mut(id) {
                placed.owned = false;
            }
        }
        let mut full = Vec::new();
        for (key, wanted) in wanted {
            // A port that was only renamed goes on, and so does one whose frontend is found in the maps.
            let known = held.get(&key).copied().or_else(|| self.unowned(&wanted));
            if let Some(id) = known {
                if let Some(placed) = self.balancers.get_mut(&id) {
                    placed.owned = true;
                }
                held.insert(key.clone(), id);
            }
            let outcome = self.place_balancer(known, &wanted, service);
            if let Some(id) = outcome.id {
                held.insert(key, id);
            }
            full.extend(outcome.full);
        }
        for id in left {
            if self.balancers.get(&id).is_some_and(|placed| !placed.owned) {
                self.drop_balancer(id);
            }
        }
        if !held.is_empty() {
            self.services.insert(service.name.clone(), held);
        }
        if full.is_empty() { Ok(()) } else { Err(full) }
    }

    /// Takes a service out; its flows are dead from then on (C10).
    pub fn remove(&mut self, name: &ObjectName) {
        for id in self.services.remove(name).unwrap_or_default().into_values() {
            self.drop_balancer(id);
        }
    }

    /// At least a second has passed since the last time, and the maps hold what [`Layout::tables`] says. True if
    /// there may be room now that was not there before.
    pub fn advance(&mut self) -> bool {
        let over = self.grace.advance();
        let freed = !over.is_empty()
            || self
                .departed
                .oldest()
                .next()
                .is_some_and(|(epoch, _)| self.grace.is_over(epoch));
        for retired in over {
            match retired {
                Retired::Run(run) => self.runs.give(run),
                Retired::Service(id) => self.service_ids.give(id.0),
                Retired::Backend(id) => self.backend_ids.give(id.0),
            }
        }
        freed
    }

    /// The balancer that has one of these frontends and belongs to no service.
    fn unowned(&self, wanted: &Wanted<'_>) -> Option<ServiceId> {
        wanted.frontends.keys().find_map(|key| {
            let id = self.tables().services.get(key)?.id;
            self.balancers
                .get(&id)
                .is_some_and(|placed| !placed.owned)
                .then_some(id)
        })
    }

    /// Takes a balancer out.
    pub(super) fn drop_balancer(&mut self, id: ServiceId) {
        let Some(mut placed) = self.balancers.remove(&id) else {
            return;
        };
        for key in std::mem::take(&mut placed.frontends) {
            self.remove_head(key, id);
        }
        self.admit_only(&mut placed, BTreeSet::new());
        self.vacate(&mut placed);
        self.grace.retire(Retired::Service(id));
    }

    /// Takes a frontend away, unless it leads elsewhere by now.
    pub(super) fn remove_head(&mut self, key: ServiceKey, id: ServiceId) {
        if self
            .tables()
            .services
            .get(&key)
            .is_some_and(|head| head.id == id)
        {
            self.recorder.remove_service(key);
        }
    }

    /// Lets these in to the guarded frontends of a balancer, and no others (E4).
    pub(super) fn admit_only(&mut self, placed: &mut Placed, sources: BTreeSet<SourcesKey>) {
        for range in placed.sources.difference(&sources) {
            self.recorder.set_sources(*range, None);
        }
        for range in sources.difference(&placed.sources) {
            self.recorder.set_sources(*range, Some(Sources::ADMITTED));
        }
        placed.sources = sources;
    }

    /// Frees all backends and slots of a balancer.
    pub(super) fn vacate(&mut self, placed: &mut Placed) {
        for (target, member) in std::mem::take(&mut placed.members) {
            self.free(target, &member);
        }
        self.retire_run(&mut placed.run);
    }

    /// Frees a backend: flows that name it are dead (C10).
    pub(super) fn free(&mut self, (address, _): (Addr, Be16), member: &Member) {
        if let Some(epoch) = member.left {
            self.departed.remove(member.id, address, epoch);
        }
        self.recorder.free_backend(member.id);
        self.grace.retire(Retired::Backend(member.id));
    }

    /// Leaves a run to its last readers.
    pub(super) fn retire_run(&mut self, run: &mut Run) {
        let run = std::mem::take(run);
        for slot in run.slots() {
            self.recorder.remove_slot(slot);
        }
        if run.count > 0 {
            self.grace.retire(Retired::Run(run));
        }
    }
}
