//! One balancer finds its place.

use std::collections::{BTreeMap, BTreeSet};

use clusterip_common::{
    abi::{Backend, BackendId, BackendState, Service, ServiceId, ServiceKey},
    wire::{Addr, Be16},
};

use super::{
    desired,
    layout::{Full, Layout, Member, Placed, Wanted},
    room::{Filled, Room},
    runs::Run,
};
use crate::model::{
    served::Owner,
    service::{Balancer, Endpoint, ResolvedService, Role},
};

pub(super) type Listed<'a> = BTreeMap<(Addr, Be16), &'a Endpoint>;

/// What became of a balancer.
pub(super) struct Outcome {
    /// Its id, if it has one.
    pub(super) id: Option<ServiceId>,
    /// What does not fit.
    pub(super) full: Option<Full>,
}

impl Layout {
    /// Gives a balancer its place. Endpoints that find no id are left out: the others must not wait for them, and those
    /// that leave must leave, or no id would ever become free. Without room for its slots or frontends it keeps those
    /// it has, as far as they are still its own.
    pub(super) fn place_balancer(
        &mut self,
        known: Option<ServiceId>,
        wanted: &Wanted<'_>,
        service: &ResolvedService,
    ) -> Outcome {
        let want = wanted.balancer;
        let frontends: BTreeSet<ServiceKey> = wanted.frontends.keys().copied().collect();
        let listed: Listed<'_> = want
            .endpoints
            .iter()
            .map(|endpoint| (desired::target(endpoint), endpoint))
            .collect();
        let room = self
            .check_frontends(known, &frontends)
            .and_then(|()| self.find_room(known, &listed, service.algorithm));
        let Room { fresh, run, short } = match room {
            Ok(room) => room,
            Err(full) => {
                self.keep_only(known, &frontends);
                return Outcome {
                    id: known,
                    full: Some(full),
                };
            }
        };
        let id = match known {
            Some(id) => id,
            // `check_frontends` saw that there is one.
            None => ServiceId(self.service_ids.take().unwrap_or_default()),
        };
        let mut placed = self.balancers.remove(&id).unwrap_or_default();
        placed.owned = true;
        self.update_members(&mut placed, &listed, want);
        self.enlist(id, &mut placed, &listed, fresh);
        self.evict_successors(id, &listed);
        if let Some(Filled { run, targets }) = run {
            if run != placed.run {
                self.retire_run(&mut placed.run);
            }
            self.write_run(&mut placed, run, &targets);
        }
        let head = desired::head(service, want.action, id, placed.run);
        for key in std::mem::replace(&mut placed.frontends, frontends) {
            if !placed.frontends.contains(&key) {
                self.remove_head(key, id);
            }
        }
        self.admit_only(
            &mut placed,
            desired::sources(&wanted.frontends, service, id),
        );
        let owner = Owner::of(&service.name);
        for (key, flags) in &wanted.frontends {
            let flags = head.flags.and(*flags);
            self.put_head(*key, Service { flags, ..head }, owner);
        }
        self.balancers.insert(id, placed);
        Outcome {
            id: Some(id),
            full: short,
        }
    }

    /// Takes the frontends away that are no longer its own.
    fn keep_only(&mut self, known: Option<ServiceId>, frontends: &BTreeSet<ServiceKey>) {
        let Some((id, mut placed)) = known.and_then(|id| self.balancers.remove_entry(&id)) else {
            return;
        };
        for key in std::mem::take(&mut placed.frontends) {
            if frontends.contains(&key) {
                placed.frontends.insert(key);
            } else {
                self.remove_head(key, id);
            }
        }
        if placed.frontends.is_empty() {
            self.vacate(&mut placed);
        }
        self.balancers.insert(id, placed);
    }

    /// Gives the endpoints that have an id their state, and frees the ids of those whose flows must not go on (C10).
    fn update_members(&mut self, placed: &mut Placed, listed: &Listed<'_>, want: &Balancer) {
        let retargeted = placed
            .target
            .replace(want.target.clone())
            .is_some_and(|old| old != want.target);
        let addresses: BTreeSet<Addr> = listed.keys().map(|(address, _)| *address).collect();
        placed.members.retain(|target, member| {
            let Some(endpoint) = listed.get(target) else {
                // Nobody is left; the port moved; or the address is on the list with another port.
                if listed.is_empty() || retargeted || addresses.contains(&target.0) {
                    self.free(*target, member);
                    return false;
                }
                self.set_state(*target, member, BackendState::GONE);
                return true;
            };
            let succeeded = is_other_pod(member.identity.as_ref(), endpoint);
            if endpoint.identity.is_some() {
                member.identity.clone_from(&endpoint.identity);
            }
            match endpoint.role {
                Role::Chosen if succeeded => self.succeed(*target, member),
                Role::Chosen => self.set_state(*target, member, BackendState::ACTIVE),
                Role::Serving | Role::Listed if succeeded => {
                    self.free(*target, member);
                    return false;
                }
                Role::Serving => self.set_state(*target, member, BackendState::DRAINING),
                Role::Listed => self.set_state(*target, member, BackendState::GONE),
            }
            true
        });
    }

    fn set_state(&mut self, (address, _): (Addr, Be16), member: &mut Member, state: BackendState) {
        if state == BackendState::GONE {
            if member.left.is_none() {
                let epoch = self.grace.epoch();
                member.left = Some(epoch);
                self.departed.insert(member.id, address, epoch);
            }
        } else if let Some(epoch) = member.left.take() {
            self.departed.remove(member.id, address, epoch);
        }
        if let Some(backend) = self.tables().backends.get(&member.id).copied() {
            self.recorder
                .put_backend(member.id, Backend { state, ..backend });
        }
    }

    /// Another pod has the address now: the same place in the slots, and no flow of the old one.
    fn succeed(&mut self, target: (Addr, Be16), member: &mut Member) {
        self.set_state(target, member, BackendState::ACTIVE);
        if let Some(backend) = self.tables().backends.get(&member.id).copied() {
            let generation = backend.generation.wrapping_add(1);
            self.recorder.put_backend(
                member.id,
                Backend {
                    generation,
                    ..backend
                },
            );
        }
    }

    /// Gives ids to the chosen endpoints that have none.
    fn enlist(
        &mut self,
        service: ServiceId,
        placed: &mut Placed,
        listed: &Listed<'_>,
        fresh: Vec<BackendId>,
    ) {
        let mut fresh = fresh.into_iter();
        for (target, endpoint) in listed {
            if endpoint.role != Role::Chosen || placed.members.contains_key(target) {
                continue;
            }
            let Some(id) = fresh.next() else { continue };
            let used = self.tables().backends.get(&id);
            // From 1 on: what is zero in a flow or a slot never names a backend.
            let generation = used.map_or(0, |old| old.generation).wrapping_add(1).max(1);
            let (address, port) = *target;
            self.recorder.put_backend(
                id,
                Backend {
                    address,
                    port,
                    state: BackendState::ACTIVE,
                    zero: 0,
                    service,
                    generation,
                },
            );
            placed.members.insert(
                *target,
                Member {
                    id,
                    identity: endpoint.identity.clone(),
                    left: None,
                },
            );
        }
    }

    /// Frees what other balancers keep of the pods that had these addresses before (C10).
    fn evict_successors(&mut self, service: ServiceId, listed: &Listed<'_>) {
        for ((address, _), endpoint) in listed {
            for id in self.departed.at(*address) {
                let Some(backend) = self.tables().backends.get(&id).copied() else {
                    continue;
                };
                let target = (backend.address, backend.port);
                let Some(owner) = self
                    .balancers
                    .get_mut(&backend.service)
                    .filter(|_| backend.service != service)
                else {
                    continue;
                };
                if owner
                    .members
                    .get(&target)
                    .is_some_and(|member| is_other_pod(member.identity.as_ref(), endpoint))
                    && let Some(member) = owner.members.remove(&target)
                {
                    self.free(target, &member);
                }
            }
        }
    }

    fn write_run(&mut self, placed: &mut Placed, run: Run, targets: &[(Addr, Be16)]) {
        let members = targets
            .iter()
            .filter_map(|target| placed.members.get(target));
        for (slot, member) in run.slots().zip(members) {
            self.recorder.put_slot(slot, member.id);
        }
        placed.run = run;
    }

    /// Points a frontend here; whoever had it has it no more, and is placed anew in the same step.
    fn put_head(&mut self, key: ServiceKey, head: Service, owner: Owner) {
        let before = self.tables().services.get(&key).map(|old| old.id);
        if let Some(other) = before.filter(|id| *id != head.id)
            && let Some(loser) = self.balancers.get_mut(&other)
        {
            loser.frontends.remove(&key);
        }
        self.recorder.put_service(key, head, owner);
    }
}

pub(super) fn chosen<'a>(
    listed: &'a Listed<'_>,
) -> impl Iterator<Item = ((Addr, Be16), &'a Endpoint)> {
    listed
        .iter()
        .filter(|(_, endpoint)| endpoint.role == Role::Chosen)
        .map(|(target, endpoint)| (*target, *endpoint))
}

fn is_other_pod(known: Option<&std::sync::Arc<str>>, endpoint: &Endpoint) -> bool {
    known.is_some() && endpoint.identity.is_some() && known != endpoint.identity.as_ref()
}
