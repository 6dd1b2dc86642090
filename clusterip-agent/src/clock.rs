//! The time, read at the edges only and handed to those who decide.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// The time, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since the agent started; monotonic.
    pub elapsed: Duration,
    /// Of the day: shown, written into objects and compared with what objects say, never waited for.
    pub wall: Timestamp,
}

/// What tells the time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that stands at 0.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        Now {
            elapsed: self.start.elapsed(),
            wall: timestamp(SystemTime::now()),
        }
    }

    /// When so much time has passed since the start.
    #[must_use]
    pub fn at(&self, elapsed: Duration) -> Instant {
        self.start + elapsed
    }
}

/// The same moment as objects have it; the beginning of 1970 for one that they cannot have.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let parts = i64::try_from(since.as_secs())
        .ok()
        .zip(i32::try_from(since.subsec_nanos()).ok());
    parts
        .and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Nanoseconds of the clock that flows are stamped with.
#[must_use]
pub fn monotonic() -> u64 {
    let now =
        clock_gettime(ClockId::CLOCK_MONOTONIC).map_or((0, 0), |it| (it.tv_sec(), it.tv_nsec()));
    let (seconds, nanoseconds) = now;
    let seconds = u64::try_from(seconds).unwrap_or_default();
    seconds * 1_000_000_000 + u64::try_from(nanoseconds).unwrap_or_default()
}
