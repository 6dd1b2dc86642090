//! The clock around it.

use std::time::{Duration, Instant};

use clusterip_common::abi::{BackendId, Settings};
use tokio::{task::spawn_blocking, time::sleep};

use super::{judge, mended};
use crate::dataplane::{DataplaneError, endpoints::Destinations, expired::FlowSweep};

/// Between two passes,
const PAUSE: Duration = Duration::from_mins(1);
/// and so many times as long as a pass took: it never takes more than a hundredth of a processor.
const SHARE: u32 = 100;

/// Looks through the flows again and again, and removes those that are over. `clock` tells the nanoseconds that stamp them.
pub async fn keep(
    mut sweep: FlowSweep,
    settings: Settings,
    destinations: Destinations,
    clock: impl Fn() -> u64 + Copy + Send + 'static,
) {
    let mut pause = PAUSE;
    loop {
        sleep(pause).await;
        let told = destinations.clone();
        let work = spawn_blocking(move || {
            let begun = Instant::now();
            let result = pass(&mut sweep, &settings, &told, clock);
            (sweep, result, begun.elapsed())
        });
        let Ok((returned, result, taken)) = work.await else {
            return;
        };
        sweep = returned;
        pause = PAUSE.max(taken * SHARE);
        match result {
            Ok(Passed {
                seen,
                removed,
                mended,
            }) => {
                let took_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
                log::debug!(seen, removed, mended, took_ms; "looked through the flows");
            }
            Err(error) => log::warn!(error:err; "flows that are over are not removed"),
        }
    }
}

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    /// Entries in the tables.
    pub seen: usize,
    /// Entries that are no more.
    pub removed: usize,
    /// Backends whose count of live flows was wrong.
    pub mended: usize,
}

/// One pass.
///
/// # Errors
/// A map that could not be read or written.
pub fn pass(
    sweep: &mut FlowSweep,
    settings: &Settings,
    destinations: &Destinations,
    clock: impl Fn() -> u64,
) -> Result<Passed, DataplaneError> {
    let round = destinations.begin();
    let before = sweep.live()?;
    let entries = sweep.entries()?;
    let backends = sweep.backends()?;
    let judgement = judge(
        &entries,
        |id| backends.get(id.0 as usize).copied(),
        settings,
        clock(),
    );
    let after = sweep.live()?;
    destinations.found(round, judgement.destinations.iter().copied());
    let mut passed = Passed {
        seen: entries.len(),
        removed: 0,
        mended: 0,
    };
    for (id, (before, after)) in (0..).zip(before.into_iter().zip(after)) {
        let found = judgement.live.get(&BackendId(id));
        let found = found.copied().unwrap_or_default();
        if let Some(right) = mended(before, found, after) {
            sweep.set_live(id, right)?;
            passed.mended += 1;
        }
    }
    for (table, key, flow) in &judgement.over {
        passed.removed += usize::from(sweep.remove(*table, *key, *flow)?);
    }
    Ok(passed)
}
