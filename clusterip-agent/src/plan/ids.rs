//! Ids, and the time that must pass before something is handed out again.

use std::collections::{BTreeSet, VecDeque};

/// Ids below a limit; the lowest free one is handed out first.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    limit: u32,
    /// All ids from here on were never taken.
    next: u32,
    returned: BTreeSet<u32>,
}

impl Pool {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            next: 0,
            returned: BTreeSet::new(),
        }
    }

    pub(super) const fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn available(&self) -> usize {
        self.returned.len() + (self.limit.saturating_sub(self.next)) as usize
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(id) = self.returned.pop_first() {
            return Some(id);
        }
        (self.next < self.limit).then(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Takes that very id; false if it is taken or beyond the limit.
    pub(super) fn reserve(&mut self, id: u32) -> bool {
        if self.returned.remove(&id) {
            return true;
        }
        if id < self.next || id >= self.limit {
            return false;
        }
        self.returned.extend(self.next..id);
        self.next = id + 1;
        true
    }

    pub(super) fn give(&mut self, id: u32) {
        self.returned.insert(id);
    }
}

/// Things that a reader may still hold in its hand. There is no clock here: the loop says when time has passed.
#[derive(Clone, Debug)]
pub(super) struct Grace<T> {
    epoch: u64,
    waiting: VecDeque<(u64, T)>,
}

/// Advances after which no reader can still be using something: the first may come at once, the second is at least a
/// second later.
const ADVANCES: u64 = 2;

impl<T> Grace<T> {
    pub(super) const fn new() -> Self {
        Self {
            epoch: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Number of advances so far.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether what was retired at that epoch may be used again.
    pub(super) const fn is_over(&self, epoch: u64) -> bool {
        epoch + ADVANCES <= self.epoch
    }

    pub(super) fn retire(&mut self, thing: T) {
        self.waiting.push_back((self.epoch, thing));
    }

    /// Time has passed: what may be used again.
    pub(super) fn advance(&mut self) -> Vec<T> {
        self.epoch += 1;
        let mut over = Vec::new();
        while let Some((epoch, _)) = self.waiting.front()
            && self.is_over(*epoch)
        {
            over.extend(self.waiting.pop_front().map(|(_, thing)| thing));
        }
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_handed_out_lowest_first_and_never_twice() {
        let mut pool = Pool::new(4);
        assert!(pool.reserve(2));
        assert!(!pool.reserve(2));
        assert!(!pool.reserve(4));
        let all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(all, [0, 1, 3]);
        pool.give(1);
        assert_eq!(pool.available(), 1);
        assert_eq!(pool.take(), Some(1));
    }

    #[test]
    fn what_is_retired_comes_back_after_two_advances() {
        let mut grace = Grace::new();
        grace.retire('a');
        assert!(grace.advance().is_empty());
        grace.retire('b');
        assert_eq!(grace.advance(), ['a']);
        assert_eq!(grace.advance(), ['b']);
    }
}
