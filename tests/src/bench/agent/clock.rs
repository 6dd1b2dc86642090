//! What something costs, and what of several costs counts.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The cost of one thing.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Cost {
    /// As a clock on the wall shows it.
    pub(super) wall: Duration,
    /// Of the processor, in this thread and in the kernel for it: the part that other work on the machine leaves as it is.
    pub(super) cpu: Duration,
    /// Writes to maps.
    pub(super) writes: usize,
}

/// Measures something that says how many writes it made.
pub(super) fn measure(work: impl FnOnce() -> Result<usize>) -> Result<Cost> {
    let cpu = crate::sys::thread_time()?;
    let start = Instant::now();
    let writes = work()?;
    Ok(Cost {
        wall: start.elapsed(),
        cpu: crate::sys::thread_time()?.saturating_sub(cpu),
        writes,
    })
}

/// What takes the processor's caches away, so that each measurement finds what an event finds after a while without one: others had
/// the processor meanwhile.
pub(super) struct Others(Vec<u64>);

impl Others {
    /// More than any cache holds.
    const WORDS: usize = 64 << 17;
    /// Words of a cache line.
    const LINE: usize = 8;

    pub(super) fn new() -> Self {
        Self(vec![1; Self::WORDS])
    }

    /// They had the processor.
    pub(super) fn run(&mut self) {
        for word in self.0.iter_mut().step_by(Self::LINE) {
            *word = word.wrapping_add(1);
        }
        std::hint::black_box(&self.0);
    }
}

/// Of several costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// The median.
    pub(super) wall: Duration,
    /// The median.
    pub(super) cpu: Duration,
    /// The quickest.
    pub(super) least: Duration,
    /// The time below which nine in ten are.
    pub(super) most: Duration,
    /// The median.
    pub(super) writes: usize,
}

impl Summary {
    pub(super) fn of(costs: &[Cost]) -> Self {
        let walls = sorted(costs.iter().map(|cost| cost.wall));
        Self {
            wall: at(&walls, 5),
            cpu: at(&sorted(costs.iter().map(|cost| cost.cpu)), 5),
            least: at(&walls, 0),
            most: at(&walls, 9),
            writes: at(&sorted(costs.iter().map(|cost| cost.writes)), 5),
        }
    }
}

/// Milliseconds.
pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn sorted<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values
}

/// The value that so many tenths are below.
fn at<T: Copy + Default>(sorted: &[T], tenths: usize) -> T {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * tenths / 10).min(last);
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts() {
        let cost = |wall| Cost {
            wall: Duration::from_millis(wall),
            ..Cost::default()
        };
        let all: Vec<Cost> = [9, 1, 5, 3, 7].map(cost).to_vec();
        let summary = Summary::of(&all);
        let found = [summary.least, summary.wall, summary.most].map(milliseconds);
        let wanted = [1.0, 5.0, 9.0];
        assert!(
            found
                .iter()
                .zip(wanted)
                .all(|(found, wanted)| (found - wanted).abs() < 1e-9),
            "{found:?}"
        );
        assert_eq!(Summary::of(&[]).wall, Duration::ZERO);
    }
}
