//! What holds for a layout whatever happens to it: services come, change, exchange addresses and go, time passes, the
//! agent restarts, and the maps are too small.

mod steps;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use clusterip_common::{
    abi::{Backend, BackendId, BackendState, ServiceKey, SlotIndex},
    wire::{Addr, Be16},
};
use proptest::prelude::*;

use self::steps::{Step, identity, name, resolved, step};
use super::{
    Full, Layout, Limits, Op, Tables, desired, diff,
    spread::{self, Share},
    tables::slots_of,
};
use crate::{
    model::{
        object::ObjectName,
        service::{ResolvedService, Role},
    },
    repeatable::config,
};

/// Room for six frontends with their addresses; for a table, but not for two.
const LIMITS: Limits = Limits {
    services: 9,
    backends: 10,
    slots: 24,
};

/// Whom a flow means that names a backend and a generation (C10).
#[derive(Clone, PartialEq, Eq, Debug)]
struct Tenant {
    service: ObjectName,
    target: (Addr, Be16),
    identity: Option<Arc<str>>,
}

struct World {
    layout: Layout,
    /// The maps, the slots that nobody uses any more included.
    maps: Tables,
    services: BTreeMap<u8, ResolvedService>,
    vips: BTreeMap<u8, u8>,
    /// How many pods had the address before.
    pods: BTreeMap<u8, u32>,
    /// Services that keep an older state.
    unfit: BTreeSet<u8>,
    tenants: BTreeMap<(BackendId, u32), Tenant>,
    epoch: u64,
    /// When a head led there last.
    slot_seen: BTreeMap<SlotIndex, u64>,
    backend_seen: BTreeMap<BackendId, u64>,
}

impl World {
    fn new() -> Self {
        Self {
            layout: Layout::new(LIMITS),
            maps: Tables::default(),
            services: BTreeMap::new(),
            vips: BTreeMap::new(),
            pods: BTreeMap::new(),
            unfit: BTreeSet::new(),
            tenants: BTreeMap::new(),
            epoch: 0,
            slot_seen: BTreeMap::new(),
            backend_seen: BTreeMap::new(),
        }
    }

    fn dump(&self) -> Tables {
        let mut tables = self.maps.clone();
        tables.prune();
        tables
    }

    fn step(&mut self, step: Step) {
        let mut placed = Vec::new();
        match step {
            Step::Place {
                service,
                vip,
                ports,
                endpoints,
                algorithm,
                loser_first,
            } => {
                let pods = &self.pods;
                let mut both = vec![resolved(service, vip, &ports, &endpoints, algorithm, pods)];
                self.vips.retain(|_, owner| *owner != service);
                if let Some(loser) = self.vips.insert(vip, service) {
                    both.insert(
                        usize::from(!loser_first),
                        resolved(loser, vip, &[], &[], 0, pods),
                    );
                    self.services.remove(&loser);
                    self.unfit.remove(&loser);
                }
                self.unfit.remove(&service);
                for it in both {
                    let fits = self.layout.place(&it).is_ok();
                    if fits {
                        placed.push(it.clone());
                    }
                    if !it.balancers.is_empty() {
                        self.services.insert(service, it);
                        self.unfit.extend((!fits).then_some(service));
                    }
                }
            }
            Step::Succeed(host) => {
                *self.pods.entry(host).or_default() += 1;
                placed = self.succeed(host);
            }
            Step::Remove(service) => {
                self.vips.retain(|_, owner| *owner != service);
                self.services.remove(&service);
                self.unfit.remove(&service);
                self.layout.remove(&name(service));
            }
            Step::Advance => {
                self.epoch += 1;
                self.layout.advance();
            }
            Step::Restart(gone) => self.restart(gone),
        }
        let change = self.layout.take_change();
        self.apply(&change.ops());
        for service in &placed {
            self.check_placed(service);
        }
        self.check_tenants();
        self.check_slots();
    }

    /// Room or no room, new flows go to chosen endpoints only.
    fn check_slots(&self) {
        for (number, service) in &self.services {
            let chosen: BTreeSet<_> = service
                .balancers
                .iter()
                .flat_map(|it| it.chosen().map(desired::target))
                .collect();
            let placements = self.layout.placements(&name(*number));
            for key in placements.iter().flat_map(|it| &it.frontends) {
                for slot in slots_of(&self.maps.services[key]) {
                    let backend = self.maps.backends[&self.maps.slots[&slot]];
                    assert!(
                        chosen.contains(&(backend.address, backend.port)),
                        "{key} leads to {backend}, which has left\n{}",
                        self.maps
                    );
                }
            }
        }
    }

    /// Every service that lists the address sees the new pod.
    fn succeed(&mut self, host: u8) -> Vec<ResolvedService> {
        let mut placed = Vec::new();
        for (number, service) in &mut self.services {
            let endpoints = service
                .balancers
                .iter_mut()
                .flat_map(|it| &mut it.endpoints);
            let mut sees_it = false;
            for endpoint in
                endpoints.filter(|it| it.address == std::net::Ipv4Addr::new(10, 1, 0, host))
            {
                sees_it = true;
                if endpoint.identity.is_some() {
                    endpoint.identity = Some(identity(host, &self.pods));
                }
            }
            if !sees_it {
                continue;
            }
            self.unfit.remove(number);
            if self.layout.place(service).is_ok() {
                placed.push(service.clone());
            } else {
                self.unfit.insert(*number);
            }
        }
        placed
    }

    fn restart(&mut self, gone: u8) {
        let before = self.layout.tables().clone();
        self.layout = Layout::restore(LIMITS, &self.dump());
        // Nobody is alive any more who could hold anything; nor is it known who the pods were.
        self.slot_seen.clear();
        self.backend_seen.clear();
        for tenant in self.tenants.values_mut() {
            tenant.identity = None;
        }
        self.vips.retain(|_, owner| *owner != gone);
        let is_same = self.services.remove(&gone).is_none();
        let had_unfit = !std::mem::take(&mut self.unfit).is_empty();
        for (number, service) in &self.services {
            if self.layout.place(service).is_err() {
                self.unfit.insert(*number);
            }
        }
        self.layout.settle();
        if is_same && !had_unfit {
            assert_eq!(diff(&before, self.layout.tables()), [], "F4\n{before}");
        }
    }

    /// F2: every prefix of the operations leaves tables that a reader can use, whatever it read before.
    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match op {
                Op::PutSlot(slot, id) => {
                    // Changed in place, for want of room: to the reader it is the same service.
                    let is_same = self.maps.services.values().any(|head| {
                        slots_of(head).any(|it| it == *slot)
                            && self.maps.backends[id].service == head.id
                    });
                    if let Some(seen) = self.slot_seen.get(slot).filter(|_| !is_same) {
                        assert!(seen + 2 <= self.epoch, "{op:?} comes too early");
                    }
                }
                Op::PutBackend(id, new) => {
                    let old = self.maps.backends.get(id).copied().unwrap_or_default();
                    let target = |it: &Backend| (it.service, it.address, it.port);
                    if target(&old) != target(new)
                        && let Some(seen) = self.backend_seen.get(id)
                    {
                        assert!(seen + 2 <= self.epoch, "{op:?} comes too early");
                    }
                }
                _ => {}
            }
            self.maps.apply(*op);
            assert_eq!(self.maps.soundness(), Ok(()), "{op:?}\n{}", self.maps);
            self.look();
        }
        let now = self.dump();
        assert_eq!(
            now,
            *self.layout.tables(),
            "{now}\n{}",
            self.layout.tables()
        );
        assert_eq!(diff(&now, self.layout.tables()), []);
    }

    /// A reader looks at everything.
    fn look(&mut self) {
        for slot in self.maps.services.values().flat_map(slots_of) {
            self.slot_seen.insert(slot, self.epoch);
            if let Some(id) = self.maps.slots.get(&slot) {
                self.backend_seen.insert(*id, self.epoch);
            }
        }
    }

    /// Who waits for room gets it as soon as time has passed, if there is any: nobody waits for himself.
    fn check_that_it_fits_in_time(&mut self) {
        let balancers = || self.services.values().flat_map(|it| &it.balancers);
        let frontends = || balancers().flat_map(|it| &it.frontends);
        let addresses: BTreeSet<_> = frontends().map(|it| it.address).collect();
        let heads = frontends().count() + addresses.len();
        let endpoints = balancers().flat_map(|it| &it.endpoints);
        let needed = endpoints.filter(|it| it.role != Role::Listed).count();
        if heads > LIMITS.services as usize || needed > LIMITS.backends as usize {
            return;
        }
        let mut missing = Vec::new();
        for _ in 0..4 {
            self.step(Step::Advance);
            self.step(Step::Advance);
            missing.clear();
            for service in self.services.values() {
                missing.extend(self.layout.place(service).err().unwrap_or_default());
            }
            let change = self.layout.take_change();
            self.apply(&change.ops());
        }
        // Slots may be free in pieces that are too short.
        missing.retain(|full| !matches!(full, Full::Slots { .. } | Full::Shares { .. }));
        assert_eq!(missing, []);
    }

    fn check_placed(&self, service: &ResolvedService) {
        assert!(
            is_placed(service, &self.maps),
            "{service:#?}\n{}",
            self.maps
        );
        let placements = self.layout.placements(&service.name);
        assert_eq!(placements.len(), service.balancers.len());
        for backend in placements.iter().flat_map(|it| &it.backends) {
            let listed = service.balancers[0]
                .endpoints
                .iter()
                .find(|endpoint| desired::target(endpoint) == (backend.1.address, backend.1.port));
            let state = match listed.map(|endpoint| endpoint.role) {
                Some(Role::Chosen) => BackendState::ACTIVE,
                Some(Role::Serving) => BackendState::DRAINING,
                Some(Role::Listed) | None => BackendState::GONE,
            };
            assert_eq!(backend.1.state, state, "{backend:?}");
            assert!(
                !service.balancers[0].endpoints.is_empty(),
                "C10: scaled to zero"
            );
        }
    }

    /// C10: a generation of an id means one endpoint of one service for ever; F4: no id is shared or lost.
    fn check_tenants(&mut self) {
        let mut used = 0;
        for (number, service) in &self.services {
            for placement in self.layout.placements(&name(*number)) {
                for (id, backend) in placement.backends {
                    used += 1;
                    let target = (backend.address, backend.port);
                    let endpoint = service.balancers[0]
                        .endpoints
                        .iter()
                        .find(|endpoint| desired::target(endpoint) == target);
                    // One that does not fit has the endpoints of another time.
                    let identity = endpoint
                        .filter(|_| !self.unfit.contains(number))
                        .and_then(|endpoint| endpoint.identity.clone());
                    let tenant = Tenant {
                        service: service.name.clone(),
                        target,
                        identity: identity.clone(),
                    };
                    let known = self
                        .tenants
                        .entry((id, backend.generation))
                        .or_insert_with(|| tenant.clone());
                    assert_eq!((&known.service, known.target), (&tenant.service, target));
                    if let Some(identity) = identity {
                        let before = known.identity.replace(identity.clone());
                        assert!(before.is_none_or(|before| before == identity), "{id:?}");
                    }
                }
            }
        }
        let in_use = self.maps.backends.values();
        let in_use = in_use.filter(|it| it.state != BackendState::FREE).count();
        assert_eq!(in_use, used, "{}", self.maps);
    }
}

/// Whether the frontends of a service lead to its chosen endpoints, in the order of its algorithm.
fn is_placed(service: &ResolvedService, maps: &Tables) -> bool {
    service.balancers.iter().all(|balancer| {
        balancer.frontends.iter().all(|frontend| {
            let key: ServiceKey = desired::service_key(frontend, balancer.protocol);
            let Some(head) = maps.services.get(&key) else {
                return false;
            };
            let now = slots_of(head).filter_map(|slot| {
                let backend = maps.backends.get(maps.slots.get(&slot)?)?;
                Some((backend.address, backend.port))
            });
            let shares: Vec<Share> = balancer
                .chosen()
                .map(|endpoint| Share {
                    target: desired::target(endpoint),
                    weight: endpoint.weight,
                })
                .collect();
            let run = spread::runs(service.algorithm, &shares).next();
            now.eq(run
                .unwrap_or_default()
                .into_iter()
                .map(|at| shares[at].target))
                && head.algorithm == desired::algorithm(service.algorithm)
                && head.affinity == service.affinity_seconds
        })
    })
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn a_layout_keeps_its_promises(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.check_that_it_fits_in_time();
        // Nothing leaks: when all is gone and time has passed, the maps hold what they held at first.
        for service in 0..4 {
            world.step(Step::Remove(service));
        }
        world.step(Step::Advance);
        world.step(Step::Advance);
        let hosts: Vec<_> = (0..10).map(|host| (host, false, Role::Chosen, 1)).collect();
        let all = resolved(0, 0, &[(0, 80)], &hosts, 0, &world.pods);
        world.layout.place(&all).expect("it fits again");
    }
}
