//! The one writer: events -> snapshot -> difference -> dataplane.
//!
//! [`Reconciler`] is the core, without a clock; [`run`] drives it.

mod drive;
#[cfg(test)]
mod held;
mod measures;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use clusterip_common::wire::Addr;

pub use self::{
    drive::{Observers, Timing, run},
    measures::Measures,
};
use crate::{
    dataplane::{Dataplane, DataplaneError},
    model::{
        event::Event, inside::Ranges, object::ObjectName, resolver::Resolver, service::Family,
        snapshot::Snapshot,
    },
    plan::{Full, Index, Layout, Limits, Op, Tables, diff, left::served},
    state::{StateError, Store},
};

/// What every reader sees: the model, and the ids it has in the maps.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The model.
    pub snapshot: Arc<Snapshot>,
    /// Ids by name.
    pub index: Index,
    /// Whether the dataplane holds what the source says.
    pub programmed: bool,
    /// How many services do not fit into the dataplane.
    pub waiting: usize,
    /// Whether the source has listed everything once.
    pub synced: bool,
    /// Released addresses that rest, and who had them last.
    pub resting: Arc<BTreeMap<IpAddr, ObjectName>>,
    /// Allocations could not be kept on disk; they are tried again as long as that is so.
    pub unkept: bool,
    /// The model as the dataplane held all of it last: what names may lead to. None before the first time.
    pub held: Option<Arc<Snapshot>>,
    /// Services some address of which is not in the dataplane, for want of room.
    pub unanswered: Arc<BTreeSet<ObjectName>>,
}

/// What one step did.
#[derive(Debug, Default)]
pub struct Report {
    /// How many services are different now.
    pub services: usize,
    /// How many operations were carried out, or tried.
    pub ops: usize,
    /// The families of the addresses in those operations.
    pub families: BTreeSet<Family>,
    /// Whether the whole of the dataplane was compared.
    pub is_full: bool,
    /// The write or read that failed; the next step computes the difference again (F6).
    pub failure: Option<DataplaneError>,
}

impl Report {
    fn note(&mut self, ops: &[Op]) {
        self.ops = ops.len();
        self.families = ops.iter().filter_map(family).collect();
    }

    /// The families that still want something written; a failure that does not say of which is one of both.
    #[must_use]
    pub fn wanting(&self) -> BTreeSet<Family> {
        match &self.failure {
            None => BTreeSet::new(),
            Some(_) if self.families.is_empty() => BTreeSet::from([Family::V4, Family::V6]),
            Some(_) => self.families.clone(),
        }
    }
}

/// Whose address an operation writes; most have none.
fn family(op: &Op) -> Option<Family> {
    let of = |address: Addr| Some(Family::of(IpAddr::from(address)));
    match op {
        Op::PutService(key, _) | Op::RemoveService(key) => of(key.address),
        Op::RemoveAddress(address) => of(*address),
        Op::PutBackend(_, backend) => of(backend.address),
        Op::ClearService(_)
        | Op::ClearBackend(_)
        | Op::PutSlot(..)
        | Op::FreeBackend(..)
        | Op::PutInside(..)
        | Op::RemoveInside(_)
        | Op::PutSources(..)
        | Op::RemoveSources(_)
        | Op::PutNode(..) => None,
    }
}

/// Brings the dataplane to what the events say.
#[derive(Debug)]
pub struct Reconciler<D> {
    dataplane: D,
    resolver: Resolver,
    store: Option<Store>,
    limits: Limits,
    /// None until the dataplane has been read.
    layout: Option<Layout>,
    /// What was in the dataplane when this began, until the first writes.
    found: Option<Tables>,
    index: Index,
    /// What the layout has been told of what is inside the cluster; None is nothing yet.
    inside: Option<Arc<Ranges>>,
    /// The node's addresses for clients from outside, in the same way.
    stand_ins: Option<Arc<[IpAddr]>>,
    /// Whether there are such clients though no service is for them.
    has_guests: bool,
    /// Services that changed and have not been placed yet.
    unplaced: BTreeSet<ObjectName>,
    /// Services that do not fit.
    waiting: BTreeMap<ObjectName, Vec<Full>>,
    /// The dataplane holds what the layout says.
    is_clean: bool,
    /// The last attempt to keep the allocations failed: said once.
    save_failed: bool,
    published: Published,
}

impl<D: Dataplane> Reconciler<D> {
    /// A reconciler that has seen nothing. Without a store nothing is kept.
    #[must_use]
    pub fn new(dataplane: D, resolver: Resolver, store: Option<Store>, limits: Limits) -> Self {
        Self {
            dataplane,
            resolver,
            store,
            limits,
            layout: None,
            found: None,
            index: Index::default(),
            inside: None,
            stand_ins: None,
            has_guests: false,
            unplaced: BTreeSet::new(),
            waiting: BTreeMap::new(),
            is_clean: false,
            save_failed: false,
            published: Published::default(),
        }
    }

    /// The same where clients outside reach `ClusterIP`s too (`--expose-cluster-ips`).
    #[must_use]
    pub const fn with_guests(mut self, has_guests: bool) -> Self {
        self.has_guests = has_guests;
        self
    }

    /// The dataplane as it is.
    pub const fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    /// How much the dataplane holds.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        self.limits
    }

    /// Ends it: the dataplane stays as it is (F4).
    #[must_use]
    pub fn into_dataplane(self) -> D {
        self.dataplane
    }

    /// Whether a write or read failed that is to be tried again.
    #[must_use]
    pub const fn needs_retry(&self) -> bool {
        self.resolver.is_synced() && !self.is_clean
    }

    /// What the readers see now.
    #[must_use]
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// Takes events in and makes the dataplane follow. Nothing is written before the source is synced (F1).
    pub fn handle(&mut self, events: Vec<Event>) -> Report {
        self.resolver.take(events);
        self.step()
    }

    /// Reads the dataplane and makes the whole of it what it should be; also how a failure is retried (F6).
    pub fn resync(&mut self) -> Report {
        self.is_clean = false;
        self.step()
    }

    /// At least a second has passed since the last time: what was retired may be used again, and who waits for room may
    /// find it.
    pub fn advance(&mut self) -> Report {
        // As long as a write is missing a head may still lead to what was retired.
        if !self.is_clean {
            return Report::default();
        }
        self.resolver.advance();
        let has_room = self.layout.as_mut().is_some_and(Layout::advance);
        if has_room {
            self.unplaced.extend(self.waiting.keys().cloned());
        }
        self.step()
    }

    fn step(&mut self) -> Report {
        let mut report = Report::default();
        if !self.resolver.is_synced() {
            return report;
        }
        if let Err(error) = self.look() {
            (report.is_full, report.failure) = (true, Some(error));
            return report;
        }
        self.allocate();
        let changed = self.resolver.resolve();
        report.services = changed.len();
        self.log_problems(&changed);
        self.unplaced.extend(changed);
        let outcome = if self.is_clean {
            self.write_change(&mut report)
        } else {
            self.write_all(&mut report)
        };
        self.is_clean = outcome.is_ok();
        report.failure = outcome.err();
        self.publish();
        report
    }

    /// Once, before anything is decided: what an earlier agent left (F4, G4).
    fn look(&mut self) -> Result<(), DataplaneError> {
        if self.layout.is_none() && self.found.is_none() {
            let found = self.dataplane.dump()?;
            self.resolver.remember(served(&found));
            self.found = Some(found);
        }
        Ok(())
    }

    /// Keeps new allocations before they are programmed. If that fails the services work all the same; their addresses
    /// are provisional until it succeeds.
    fn allocate(&mut self) {
        let Some(changes) = self.resolver.allocate() else {
            return;
        };
        let Some(store) = &mut self.store else {
            return;
        };
        match store.save(&changes, || self.resolver.allocations()) {
            Ok(()) => {
                if std::mem::take(&mut self.save_failed) {
                    log::info!("allocations are kept again");
                }
                self.resolver.saved();
            }
            Err(error) => {
                if !std::mem::replace(&mut self.save_failed, true) {
                    log_state(&error);
                }
            }
        }
    }

    /// The difference of what changed, and of nothing else (F5).
    fn write_change(&mut self, report: &mut Report) -> Result<(), DataplaneError> {
        let Some(mut layout) = self.layout.take() else {
            return self.write_all(report);
        };
        self.place(&mut layout);
        let ops = layout.take_change().ops();
        self.layout = Some(layout);
        report.note(&ops);
        if ops.is_empty() {
            return Ok(());
        }
        self.dataplane.apply(&ops)
    }

    /// The difference of everything.
    fn write_all(&mut self, report: &mut Report) -> Result<(), DataplaneError> {
        report.is_full = true;
        let actual = match self.found.take() {
            Some(found) => found,
            None => self.dataplane.dump()?,
        };
        let layout = if let Some(mut layout) = self.layout.take() {
            layout.compare_whole();
            self.place(&mut layout);
            layout
        } else {
            let mut layout = Layout::restore(self.limits, &actual);
            let handed_over = self.resolver.handed_over();
            layout.compare_whole();
            layout.disown(&handed_over.into_iter().map(Into::into).collect());
            self.place(&mut layout);
            layout.settle();
            layout
        };
        let layout = self.layout.insert(layout);
        layout.forget_change();
        let ops = diff(&actual, layout.tables());
        report.note(&ops);
        if ops.is_empty() {
            return Ok(());
        }
        self.dataplane.apply(&ops)
    }

    /// Gives the services that changed their places, and says what is inside the cluster.
    fn place(&mut self, layout: &mut Layout) {
        let inside = &self.resolver.snapshot().inside;
        if !self
            .inside
            .as_ref()
            .is_some_and(|it| Arc::ptr_eq(it, inside))
        {
            layout.set_inside(inside);
            self.inside = Some(Arc::clone(inside));
        }
        let stand_ins = &self.resolver.snapshot().node.stand_ins;
        if self.stand_ins.as_ref() != Some(stand_ins) {
            layout.set_node(stand_ins, self.has_guests);
            self.stand_ins = Some(Arc::clone(stand_ins));
        }
        for name in std::mem::take(&mut self.unplaced) {
            let service = self.resolver.snapshot().service(&name).cloned();
            let full = if let Some(service) = &service {
                layout.place(service).err().unwrap_or_default()
            } else {
                layout.remove(&name);
                Vec::new()
            };
            self.index.update(&name, layout);
            let messages: Vec<String> = full.iter().map(ToString::to_string).collect();
            let before = if full.is_empty() {
                self.waiting.remove(&name)
            } else {
                self.waiting.insert(name.clone(), full)
            };
            if !messages.is_empty() || before.is_some() {
                self.resolver.set_place_problems(&name, &messages);
            }
            if before.is_none() {
                for reason in messages {
                    log::warn!(service:% = name, reason:%; "service does not fit");
                }
            }
        }
    }

    /// Says once what is newly wrong with services.
    fn log_problems(&self, changed: &BTreeSet<ObjectName>) {
        let snapshot = self.resolver.snapshot();
        for name in changed {
            let before = self.published.snapshot.service(name);
            let now = snapshot.service(name);
            for problem in now.into_iter().flat_map(|service| &service.problems) {
                if !before.is_some_and(|before| before.problems.contains(problem)) {
                    log::warn!(service:% = name, problem:%; "service has a problem");
                }
            }
        }
    }

    fn publish(&mut self) {
        let snapshot = self.resolver.snapshot();
        if !self.published.snapshot.is_same(snapshot) {
            self.published.snapshot = Arc::new(snapshot.clone());
        }
        let resting = self.resolver.resting();
        if *self.published.resting != resting {
            self.published.resting = Arc::new(resting);
        }
        self.published.synced = self.resolver.is_synced();
        self.published.index = self.index.clone();
        self.published.programmed = self.resolver.is_synced() && self.is_clean;
        self.published.waiting = self.waiting.len();
        self.published.unkept = self.save_failed;
        if self.is_clean {
            self.published.held = Some(self.published.snapshot.clone());
            let lacks_address = |full: &&Full| matches!(full, Full::Services { .. });
            let waiting = self.waiting.iter();
            let unanswered: BTreeSet<ObjectName> = waiting
                .filter(|(_, full)| full.iter().any(|it| lacks_address(&it)))
                .map(|(name, _)| name.clone())
                .collect();
            if *self.published.unanswered != unanswered {
                self.published.unanswered = Arc::new(unanswered);
            }
        }
    }
}

fn log_state(error: &StateError) {
    let cause = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    log::error!(
        error:%, cause:%;
        "allocations are not kept: automatic addresses may change at the next start"
    );
}
