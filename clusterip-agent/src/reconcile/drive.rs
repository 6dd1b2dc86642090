//! The clock around the core.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{Measures, Published, Reconciler, Report, measures::Triggers};
use crate::{
    clock::{Clock, Now},
    dataplane::Dataplane,
    health::Progress,
    heap,
    model::event::Event,
};

/// Writes of a step after which memory is given back.
const LARGE: usize = 10_000;

/// When the loop does what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between two advances; at least a second where there are readers that run for a while.
    pub grace: Duration,
    /// Between two comparisons with the dataplane, whatever happens.
    pub resync: Duration,
    /// Until the first retry after a failure; doubled each time.
    pub first_retry: Duration,
    /// Never longer than this until the next retry.
    pub last_retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(1),
            resync: Duration::from_mins(1),
            first_retry: Duration::from_millis(100),
            last_retry: Duration::from_secs(30),
        }
    }
}

/// Who is told how the loop gets on.
#[derive(Debug)]
pub struct Observers {
    /// The agent's clock.
    pub clock: Clock,
    /// Readers of the model.
    pub published: watch::Sender<Published>,
    /// Whoever asks whether it keeps up (F7).
    pub progress: watch::Sender<Progress>,
    /// The times it takes (F8).
    pub measures: Measures,
}

impl Observers {
    /// Before a batch is taken in: were the loop to hang, it would be seen waiting.
    fn queued(&self, batch: &[Event], now: Now, triggers: &mut Triggers) {
        self.progress.send_modify(|progress| progress.queued(now));
        self.measures.queued(batch, now);
        triggers.take_in(batch);
    }

    fn stepped(&self, report: &Report, is_written: bool, begun: Now, triggers: &mut Triggers) {
        let now = self.clock.now();
        if report.ops > 0 || report.is_full {
            self.measures
                .stepped(report, now.elapsed.saturating_sub(begun.elapsed));
        }
        triggers.touch(&report.families);
        if is_written && !self.progress.borrow().is_settled() {
            self.measures.written(triggers, now);
        }
        if is_written || report.failure.is_some() {
            let wanting = report.wanting();
            self.progress
                .send_modify(|progress| progress.written_but(&wanting, now));
        }
    }
}

enum Work {
    TakeIn(Vec<Event>),
    Resync,
    Advance,
}

/// Drives a reconciler until the events end; gives it back. Dropping the future ends it too: nothing is half done
/// between two awaits.
pub async fn run<D: Dataplane>(
    mut reconciler: Reconciler<D>,
    mut events: mpsc::Receiver<Vec<Event>>,
    observers: Observers,
    timing: Timing,
) -> Reconciler<D> {
    let mut grace = interval_at(Instant::now() + timing.grace, timing.grace);
    grace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resync = interval_at(Instant::now() + timing.resync, timing.resync);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = timing.first_retry;
    let mut retry_at = Instant::now();
    let mut triggers = Triggers::new(observers.clock.now().wall);
    loop {
        let work = tokio::select! {
            batch = events.recv() => {
                let Some(mut batch) = batch else {
                    return reconciler;
                };
                // What is queued already is one change.
                while let Ok(more) = events.try_recv() {
                    batch.extend(more);
                }
                Work::TakeIn(batch)
            }
            () = sleep_until(retry_at), if reconciler.needs_retry() => Work::Resync,
            _ = grace.tick() => Work::Advance,
            _ = resync.tick() => Work::Resync,
        };
        let begun = observers.clock.now();
        let report = match work {
            Work::TakeIn(batch) => {
                observers.queued(&batch, begun, &mut triggers);
                reconciler.handle(batch)
            }
            Work::Resync => {
                let report = reconciler.resync();
                heap::give_back();
                report
            }
            Work::Advance => reconciler.advance(),
        };
        observers.stepped(
            &report,
            reconciler.published().programmed,
            begun,
            &mut triggers,
        );
        let Report {
            services,
            ops,
            families: _,
            is_full: _,
            failure,
        } = report;
        if ops >= LARGE {
            heap::give_back();
        }
        if let Some(error) = failure {
            retry_at = Instant::now() + pause;
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            log::warn!(
                error:%, cause:%, ops, retry:? = pause;
                "dataplane does not follow yet"
            );
            pause = (pause * 2).min(timing.last_retry);
        } else {
            if !reconciler.needs_retry() {
                pause = timing.first_retry;
            }
            if services > 0 || ops > 0 {
                log::info!(services, ops; "programmed");
            }
        }
        observers.published.send_if_modified(|seen| {
            let now = reconciler.published();
            let is_new = !Arc::ptr_eq(&seen.snapshot, &now.snapshot)
                || !Arc::ptr_eq(&seen.unanswered, &now.unanswered)
                || !is_same(seen.held.as_ref(), now.held.as_ref());
            *seen = now.clone();
            is_new
        });
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}
