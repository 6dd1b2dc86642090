//! A new agent finds its places in the maps that the old one left (F4).

use std::collections::{BTreeMap, BTreeSet};

use clusterip_common::{
    abi::{Backend, BackendId, BackendState, Service, ServiceId, ServiceKey},
    wire::Addr,
};

use super::{
    Tables,
    desired::owner_of,
    layout::{Layout, Limits, Member, Placed, Retired},
    runs::Run,
    tables::slots_of,
};

impl Layout {
    /// A layout of what the maps hold. Its balancers belong to nobody until [`Layout::place`] claims them by their
    /// frontends; [`Layout::settle`] ends that. What makes no sense is not taken over, and goes away with the first
    /// difference.
    #[must_use]
    pub fn restore(limits: Limits, actual: &Tables) -> Self {
        let mut layout = Self::new(limits);
        layout.compare_whole();
        for (key, head) in actual.frontends() {
            layout.adopt_head(*key, head, actual);
        }
        for (id, backend) in &actual.backends {
            if id.0 < limits.backends {
                layout.adopt_backend(*id, *backend);
            }
        }
        let kept: BTreeSet<ServiceKey> = layout
            .balancers
            .values()
            .flat_map(|placed| placed.frontends.iter().copied())
            .collect();
        for key in kept {
            if let Some(head) = actual.services.get(&key) {
                let address = actual.services.get(&ServiceKey::address(key.address));
                let owner = address.map(owner_of).unwrap_or_default();
                layout.recorder.put_service(key, *head, owner);
                for slot in slots_of(head) {
                    if let Some(backend) = actual.slots.get(&slot) {
                        layout.recorder.put_slot(slot, *backend);
                    }
                }
            }
        }
        for (range, sources) in &actual.sources {
            if let Some(placed) = layout.balancers.get_mut(&range.service) {
                placed.sources.insert(*range);
                layout.recorder.set_sources(*range, Some(*sources));
            }
        }
        // Nothing has changed yet: this is how it is.
        layout.forget_change();
        layout
    }

    /// Before the first `place`: these addresses belonged to other services, whose flows must not go on (C10).
    pub fn disown(&mut self, addresses: &BTreeSet<Addr>) {
        let lost: Vec<ServiceId> = self
            .balancers
            .iter()
            .filter(|(_, placed)| {
                !placed.owned
                    && placed
                        .frontends
                        .iter()
                        .any(|key| addresses.contains(&key.address))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.drop_balancer(id);
        }
    }

    /// Every service has been placed once: what nobody claimed belongs to services that are no more.
    pub fn settle(&mut self) {
        let unclaimed: Vec<ServiceId> = self
            .balancers
            .iter()
            .filter(|(_, placed)| !placed.owned)
            .map(|(id, _)| *id)
            .collect();
        for id in unclaimed {
            self.drop_balancer(id);
        }
    }

    fn adopt_head(&mut self, key: ServiceKey, head: &Service, actual: &Tables) {
        let run = Run {
            first: if head.slot_count == 0 {
                0
            } else {
                head.first_slot.0
            },
            count: head.slot_count,
        };
        if let Some(placed) = self.balancers.get_mut(&head.id) {
            // An update that was cut off leaves frontends of one balancer with different runs: only the first counts.
            if placed.run == run {
                placed.frontends.insert(key);
            }
            return;
        }
        let is_whole = slots_of(head).all(|slot| {
            actual
                .slots
                .get(&slot)
                .and_then(|id| actual.backends.get(id))
                .is_some_and(|backend| {
                    backend.service == head.id && backend.state != BackendState::FREE
                })
        });
        if !is_whole || head.id.0 >= self.limits.services || !self.runs.reserve(run) {
            return;
        }
        self.service_ids.reserve(head.id.0);
        self.balancers.insert(
            head.id,
            Placed {
                owned: false,
                frontends: BTreeSet::from([key]),
                run,
                target: None,
                members: BTreeMap::new(),
                sources: BTreeSet::new(),
            },
        );
    }

    fn adopt_backend(&mut self, id: BackendId, backend: Backend) {
        self.recorder.put_backend(id, backend);
        if backend.state == BackendState::FREE {
            return;
        }
        self.backend_ids.reserve(id.0);
        let target = (backend.address, backend.port);
        match self.balancers.get_mut(&backend.service) {
            Some(placed) if !placed.members.contains_key(&target) => {
                let left = (backend.state == BackendState::GONE).then_some(0);
                if let Some(epoch) = left {
                    self.departed.insert(id, backend.address, epoch);
                }
                placed.members.insert(
                    target,
                    Member {
                        id,
                        identity: None,
                        left,
                    },
                );
            }
            // Written before its service was, or left over from one: nothing leads to it.
            _ => {
                self.recorder.free_backend(id);
                self.grace.retire(Retired::Backend(id));
            }
        }
    }
}
