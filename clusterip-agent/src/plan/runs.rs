//! Runs of slots: first fit, neighbours are joined when they come back.

use std::collections::BTreeMap;

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
}

impl Runs {
    pub(super) fn new(size: u32) -> Self {
        let mut runs = Self {
            free: BTreeMap::new(),
        };
        runs.give(Run {
            first: 0,
            count: size,
        });
        runs
    }

    /// The first free run of that length.
    pub(super) fn take(&mut self, count: u32) -> Option<Run> {
        if count == 0 {
            return Some(Run::default());
        }
        let first = *self.free.iter().find(|(_, len)| **len >= count)?.0;
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
        self.free.remove(&first);
        if run.first > first {
            self.free.insert(first, run.first - first);
        }
        if let (Ok(start), Ok(rest)) = (u32::try_from(run_end), u32::try_from(end - run_end))
            && rest > 0
        {
            self.free.insert(start, rest);
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
        if let Some(len) = self.free.remove(&first.saturating_add(count)) {
            count += len;
        }
        if let Some((&before, &len)) = self.free.range(..first).next_back()
            && before + len == first
        {
            self.free.remove(&before);
            first = before;
            count += len;
        }
        self.free.insert(first, count);
    }

    /// How many slots are free, in however many pieces.
    pub(super) fn available(&self) -> u32 {
        self.free.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_empty_run_takes_nothing() {
        let mut runs = Runs::new(0);
        assert_eq!(runs.take(0), Some(Run::default()));
        assert_eq!(runs.take(1), None);
    }
}
