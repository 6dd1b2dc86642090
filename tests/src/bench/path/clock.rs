//! What counts as time.
//!
//! The thread has both ends of the way, and most kernels account to it the soft interrupts in which its packets travel: what it has
//! had of the processor is then all that they cost, and no more, whoever else is busy. Kernels with `CONFIG_IRQ_TIME_ACCOUNTING`
//! leave soft interrupts out; there the clock on the wall is read.

use std::{io, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// Less than this of the time on the wall, at the best of several trials, says that something is left out.
const WHOLE: f64 = 0.9;

/// A clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::bench) enum Clock {
    /// On the wall.
    Wall,
    /// What this thread has had of the processor.
    Thread,
}

impl Clock {
    /// The one to go by, after trials: what the thread had of the processor as a part of the time on the wall.
    pub(in crate::bench) fn fitting(parts: &[f64]) -> Self {
        if parts.iter().any(|part| *part > WHOLE) {
            Self::Thread
        } else {
            Self::Wall
        }
    }

    pub(in crate::bench) fn now(self) -> io::Result<Duration> {
        let clock = match self {
            Self::Wall => ClockId::CLOCK_MONOTONIC,
            Self::Thread => ClockId::CLOCK_THREAD_CPUTIME_ID,
        };
        Ok(clock_gettime(clock)?.into())
    }

    /// Never nothing, as it is divided by.
    pub(in crate::bench) fn since(self, start: Duration) -> io::Result<Duration> {
        let spent = self.now()?.saturating_sub(start);
        Ok(spent.max(Duration::from_nanos(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_told_half_its_time_goes_by_the_wall() {
        assert_eq!(Clock::fitting(&[0.4, 0.5]), Clock::Wall);
        assert_eq!(Clock::fitting(&[0.4, 0.99]), Clock::Thread);
    }
}
