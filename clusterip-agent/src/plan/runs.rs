//! Runs of slots: first fit, neighbours are joined when they come back.

use std::collections::{BTreeMap, BTreeSet};

use clusterip_common::abi::SlotIndex;

/// A contiguous part of the slots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Run {
    /// Where it begins; 0 if it is empty.
    pub(super) first: u32,
    /// How long it is.
    pub(super) count: u32,
}

impl Run {
    /// Its slots.
    pub(super) fn slots(self) -> impl Iterator<Item = SlotIndex> {
        (self.first..self.first.saturating_add(self.count)).map(SlotIndex)
    }
}

/// What is free of the slots.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    /// Length by start; neighbours never touch.
    free: BTreeMap<u32, u32>,
    /// Starts by length: lengths are few, however many pieces there are (F5).
    by_length: BTreeMap<u32, BTreeSet<u32>>,
    /// The sum of the lengths.
    available: u32,
}

impl Runs {
    pub(super) fn new(size: u32) -> Self {
        let mut runs = Self {
            free: BTreeMap::new(),
            by_length: BTreeMap::new(),
            available: 0,
        };
        runs.insert(0, size);
        runs
    }

    /// The first free run of that length.
    pub(super) fn take(&mut self, count: u32) -> Option<Run> {
        if count == 0 {
            return Some(Run::default());
        }
        let long_enough = self.by_length.range(count..);
        let first = long_enough
            .filter_map(|(_, starts)| starts.first().copied())
            .min()?;
        let run = Run { first, count };
        self.reserve(run).then_some(run)
    }

    /// Takes that very run; false, and nothing is taken, if it is not wholly free.
    pub(super) fn reserve(&mut self, run: Run) -> bool {
        if run.count == 0 {
            return true;
        }
        let Some((&first, &len)) = self.free.range(..=run.first).next_back() else {
            return false;
        };
        let (end, run_end) = (
            u64::from(first) + u64::from(len),
            u64::from(run.first) + u64::from(run.count),
        );
        if run_end > end {
            return false;
        }
        self.remove(first);
        self.insert(first, run.first - first);
        if let (Ok(start), Ok(rest)) = (u32::try_from(run_end), u32::try_from(end - run_end)) {
            self.insert(start, rest);
        }
        true
    }

    /// Gives a run back.
    pub(super) fn give(&mut self, run: Run) {
        let Run {
            mut first,
            mut count,
        } = run;
        if count == 0 {
            return;
        }
        if let Some(len) = self.remove(first.saturating_add(count)) {
            count += len;
        }
        if let Some((&before, &len)) = self.free.range(..first).next_back()
            && before + len == first
        {
            self.remove(before);
            first = before;
            count += len;
        }
        self.insert(first, count);
    }

    /// How many slots are free, in however many pieces.
    pub(super) const fn available(&self) -> u32 {
        self.available
    }

    fn insert(&mut self, first: u32, count: u32) {
        if count > 0 {
            self.free.insert(first, count);
            self.by_length.entry(count).or_default().insert(first);
            self.available += count;
        }
    }

    fn remove(&mut self, first: u32) -> Option<u32> {
        let count = self.free.remove(&first)?;
        if let Some(starts) = self.by_length.get_mut(&count) {
            starts.remove(&first);
            if starts.is_empty() {
                self.by_length.remove(&count);
            }
        }
        self.available -= count;
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repeatable::config;

    #[test]
    fn runs_are_taken_first_fit_and_joined_again() {
        let mut runs = Runs::new(10);
        let (a, b, c) = (
            runs.take(3).unwrap(),
            runs.take(3).unwrap(),
            runs.take(4).unwrap(),
        );
        assert_eq!([a.first, b.first, c.first], [0, 3, 6]);
        assert_eq!(runs.take(1), None);
        runs.give(a);
        runs.give(c);
        assert_eq!(runs.take(5), None, "7 are free, but not in one piece");
        runs.give(b);
        assert_eq!(runs.take(10).map(|run| run.first), Some(0));
    }

    #[test]
    fn a_run_that_is_partly_taken_cannot_be_reserved() {
        let mut runs = Runs::new(10);
        assert!(runs.reserve(Run { first: 4, count: 3 }));
        assert!(!runs.reserve(Run { first: 2, count: 3 }));
        assert!(!runs.reserve(Run { first: 6, count: 1 }));
        assert!(!runs.reserve(Run { first: 8, count: 3 }));
        assert!(!runs.reserve(Run {
            first: u32::MAX,
            count: 3
        }));
        assert!(runs.reserve(Run { first: 7, count: 3 }));
        assert_eq!(runs.available(), 4);
    }

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn the_lowest_run_that_is_long_enough_is_taken(steps in prop::collection::vec((any::<bool>(), 1..9_u32), 0..80)) {
            const SIZE: usize = 64;
            let mut runs = Runs::new(64);
            let mut is_free = [true; SIZE];
            let mut taken: Vec<Run> = Vec::new();
            for (gives, count) in steps {
                if gives && !taken.is_empty() {
                    let run = taken.remove(count as usize % taken.len());
                    runs.give(run);
                    is_free[run.first as usize..][..run.count as usize].fill(true);
                } else {
                    let length = count as usize;
                    let lowest = is_free.windows(length).position(|part| part.iter().all(|free| *free));
                    let run = runs.take(count);
                    prop_assert_eq!(run.map(|run| run.first as usize), lowest);
                    if let Some(run) = run {
                        is_free[run.first as usize..][..length].fill(false);
                        taken.push(run);
                    }
                }
                let free = is_free.iter().filter(|free| **free).count();
                prop_assert_eq!(runs.available() as usize, free);
            }
        }
    }

    #[test]
    fn an_empty_run_takes_nothing() {
        let mut runs = Runs::new(0);
        assert_eq!(runs.take(0), Some(Run::default()));
        assert_eq!(runs.take(1), None);
    }
}
