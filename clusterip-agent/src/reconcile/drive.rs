//! The clock around the core.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{Published, Reconciler, Report};
use crate::{dataplane::Dataplane, model::event::Event};

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

/// Drives a reconciler until the events end; gives it back. Dropping the future ends it too: nothing is half done
/// between two awaits.
pub async fn run<D: Dataplane>(
    mut reconciler: Reconciler<D>,
    mut events: mpsc::Receiver<Vec<Event>>,
    published: watch::Sender<Published>,
    timing: Timing,
) -> Reconciler<D> {
    let mut grace = interval_at(Instant::now() + timing.grace, timing.grace);
    grace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut resync = interval_at(Instant::now() + timing.resync, timing.resync);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pause = timing.first_retry;
    let mut retry_at = Instant::now();
    loop {
        let report = tokio::select! {
            batch = events.recv() => {
                let Some(mut batch) = batch else {
                    return reconciler;
                };
                // What is queued already is one change.
                while let Ok(more) = events.try_recv() {
                    batch.extend(more);
                }
                reconciler.handle(batch)
            }
            () = sleep_until(retry_at), if reconciler.needs_retry() => reconciler.resync(),
            _ = grace.tick() => reconciler.advance(),
            _ = resync.tick() => reconciler.resync(),
        };
        let Report {
            services,
            ops,
            failure,
        } = report;
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
        published.send_if_modified(|seen| {
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
