//! What of a balancer fits, before anything is changed.

use std::collections::BTreeSet;

use clusterip_common::{
    abi::{BackendId, Scope, ServiceId, ServiceKey},
    wire::{Addr, Be16},
};

use super::{
    layout::{Full, Layout, Placed},
    place::{Listed, chosen},
    runs::Run,
    spread::{self, Share},
};
use crate::model::service::Algorithm;

/// A run and who stands in its slots.
pub(super) struct Filled {
    pub(super) run: Run,
    pub(super) targets: Vec<(Addr, Be16)>,
}

/// What was found to fit.
pub(super) struct Room {
    /// Ids for the endpoints that have none, in the order of the endpoints; perhaps not for all of them.
    pub(super) fresh: Vec<BackendId>,
    /// A new run, or the present one with others in it; None if all stays as it is.
    pub(super) run: Option<Filled>,
    /// What is missing.
    pub(super) short: Option<Full>,
}

impl Layout {
    pub(super) fn check_frontends(
        &self,
        known: Option<ServiceId>,
        frontends: &BTreeSet<ServiceKey>,
    ) -> Result<(), Full> {
        let limit = self.limits.services;
        let addresses = frontends
            .iter()
            .filter(|key| key.scope == Scope::CLUSTER)
            .map(|key| ServiceKey::address(key.address))
            .collect();
        let new = frontends
            .union(&addresses)
            .filter(|key| !self.tables().services.contains_key(key))
            .count();
        if self.recorder.most_services() + new > limit as usize {
            return Err(Full::Services { needed: new, limit });
        }
        if known.is_none() && self.service_ids.available() == 0 {
            return Err(Full::Services { needed: 1, limit });
        }
        Ok(())
    }

    /// Ids for as many of the chosen endpoints as possible, and slots for them.
    pub(super) fn find_room(
        &mut self,
        known: Option<ServiceId>,
        listed: &Listed<'_>,
        algorithm: Algorithm,
    ) -> Result<Room, Full> {
        let placed = known.and_then(|id| self.balancers.get(&id));
        let mut returning = BTreeSet::new();
        let mut missing = 0_usize;
        for (target, _) in chosen(listed) {
            match placed.and_then(|placed| placed.members.get(&target)) {
                Some(member) => {
                    returning.insert(member.id);
                }
                None => missing += 1,
            }
        }
        let free = self.backend_ids.available();
        let fitting = match missing.checked_sub(free) {
            None | Some(0) => missing,
            Some(beyond) => free + self.evictable(&returning).take(beyond).count(),
        };
        let mut left = fitting;
        let shares: Vec<Share> = chosen(listed)
            .filter(|(target, _)| {
                let is_new = !placed.is_some_and(|it| it.members.contains_key(target));
                if is_new && left == 0 {
                    return false;
                }
                left -= usize::from(is_new);
                true
            })
            .map(|(target, endpoint)| Share {
                target,
                weight: endpoint.weight.max(1),
            })
            .collect();
        let (run, shorter) = self.find_run(known, &shares, algorithm)?;
        let fresh = (0..fitting)
            .filter_map(|_| self.take_backend(&returning))
            .collect();
        let short = if fitting < missing {
            Some(Full::Backends {
                needed: missing - fitting,
                limit: self.backend_ids.limit(),
            })
        } else {
            shorter
        };
        Ok(Room { fresh, run, short })
    }

    /// The best run there is room for: the one that is there already, or a new one. A run that is longer than it must be
    /// leaves room for an update of all others. Without room for any the run in use is changed in place: a reader may meet
    /// a mixture then, but nobody who has left.
    fn find_run(
        &mut self,
        known: Option<ServiceId>,
        shares: &[Share],
        algorithm: Algorithm,
    ) -> Result<(Option<Filled>, Option<Full>), Full> {
        let in_use =
            (self.backend_ids.limit() as usize).saturating_sub(self.backend_ids.available());
        let (mut best, mut least) = (None, 0);
        let mut runs = spread::runs(algorithm, shares).peekable();
        while let Some(places) = runs.next() {
            let targets = targets(shares, places);
            let count = targets.len();
            let needed = *best.get_or_insert(count);
            least = count;
            let shorter = (count < needed).then_some(Full::Shares {
                needed,
                given: count,
                limit: self.limits.slots,
            });
            let placed = known.and_then(|id| self.balancers.get(&id));
            if placed.map_or(count == 0, |placed| self.stand_in(placed, &targets)) {
                return Ok((None, shorter));
            }
            let spared = if runs.peek().is_some() { in_use } else { 0 };
            if count + spared > self.runs.available() as usize {
                continue;
            }
            if let Some(run) = self.runs.take(u32::try_from(count).unwrap_or(u32::MAX)) {
                return Ok((Some(Filled { run, targets }), shorter));
            }
        }
        let full = Full::Slots {
            needed: least,
            free: self.runs.available(),
            limit: self.limits.slots,
        };
        let placed = known.and_then(|id| self.balancers.get(&id));
        let Some(placed) = placed.filter(|placed| placed.run.count > 0) else {
            return Err(full);
        };
        let run = placed.run;
        let targets = targets(shares, spread::within(algorithm, shares, run.count));
        let is_there = self.stand_in(placed, &targets);
        let filled = (!is_there).then_some(Filled { run, targets });
        Ok((filled, Some(full)))
    }

    /// Whether these stand in the slots of a balancer now.
    fn stand_in(&self, placed: &Placed, targets: &[(Addr, Be16)]) -> bool {
        if placed.run.count as usize != targets.len() {
            return false;
        }
        placed.run.slots().zip(targets).all(|(slot, target)| {
            let member = placed.members.get(target);
            member.is_some_and(|member| self.tables().slots.get(&slot) == Some(&member.id))
        })
    }

    /// Backends that may be given to somebody else now: they left so long ago that no slot in anybody's hand leads to
    /// them.
    fn evictable<'a>(
        &'a self,
        except: &'a BTreeSet<BackendId>,
    ) -> impl Iterator<Item = (u64, BackendId)> + 'a {
        self.departed
            .oldest()
            .take_while(|(epoch, _)| self.grace.is_over(*epoch))
            .filter(|(_, id)| !except.contains(id))
    }

    /// An id for a new backend: a free one, else that of the backend that has been gone for the longest time.
    fn take_backend(&mut self, except: &BTreeSet<BackendId>) -> Option<BackendId> {
        if let Some(id) = self.backend_ids.take() {
            return Some(BackendId(id));
        }
        let (epoch, id) = self.evictable(except).next()?;
        let backend = *self.tables().backends.get(&id)?;
        self.departed.remove(id, backend.address, epoch);
        if let Some(owner) = self.balancers.get_mut(&backend.service) {
            owner.members.remove(&(backend.address, backend.port));
        }
        Some(id)
    }
}

fn targets(shares: &[Share], places: Vec<usize>) -> Vec<(Addr, Be16)> {
    let targets = places.into_iter().filter_map(|place| shares.get(place));
    targets.map(|share| share.target).collect()
}
