//! Whether an upstream is worth asking. Told the time.

use std::time::{Duration, Instant};

/// Failures in a row after which it rests. One may be a lost datagram.
const FAILURES: u32 = 2;
/// First rest; each further one is twice as long.
const FIRST_REST: Duration = Duration::from_millis(500);
/// Longest rest.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// What is known of an upstream from its last answers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    /// Of the present illness.
    rests: u32,
    until: Option<Instant>,
}

impl Health {
    /// It answered.
    pub(super) const fn succeed(&mut self) {
        *self = Self {
            failures: 0,
            rests: 0,
            until: None,
        };
    }

    /// It did not answer. The end of its rest, if one begins now.
    pub(super) fn fail(&mut self, now: Instant) -> Option<Instant> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES || self.until.is_some_and(|until| now < until) {
            return None;
        }
        let rest = FIRST_REST.saturating_mul(1 << self.rests.min(16));
        self.rests = self.rests.saturating_add(1);
        self.until = Some(now + rest.min(LONGEST_REST));
        self.until
    }

    /// Until when it rests. It rests until it has answered: a probe, once that time has come, or a question when
    /// there is nobody better to ask.
    #[must_use]
    pub(super) const fn resting(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_is_forgiven_and_two_are_not() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert_eq!(health.fail(now), None);
        health.succeed();
        assert_eq!(health.fail(now), None);
        assert_eq!(health.fail(now), Some(now + FIRST_REST));
        assert_eq!(health.resting(), Some(now + FIRST_REST));
        health.succeed();
        assert_eq!(health, Health::default());
    }

    #[test]
    fn each_rest_is_twice_as_long_up_to_a_bound() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        health.fail(now);
        let mut rests = Vec::new();
        for _ in 0..40 {
            let until = health.fail(now).unwrap();
            assert_eq!(health.fail(now), None, "it rests already");
            rests.push(until - now);
            now = until;
        }
        assert_eq!(rests[..3], [500, 1000, 2000].map(Duration::from_millis));
        assert!(rests.iter().all(|rest| *rest <= LONGEST_REST));
        assert_eq!(rests[39], LONGEST_REST);
    }
}
