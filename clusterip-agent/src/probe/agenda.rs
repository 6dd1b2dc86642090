//! When which probe is due.

use std::{collections::BTreeSet, hash::Hasher, time::Duration};

use siphasher::sip::SipHasher24;

use super::definition::Definition;
use crate::model::object::ObjectName;

/// Which probe a result is of. One of an older state of the pod is of nobody.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProbeId {
    /// The pod.
    pub pod: ObjectName,
    pub(super) incarnation: u64,
    pub(super) index: usize,
}

/// Something that is to come, the soonest first.
#[derive(Debug)]
pub(super) struct Agenda<T>(BTreeSet<(Duration, T)>);

impl<T: Ord> Agenda<T> {
    pub(super) const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// When the soonest is.
    pub(super) fn next(&self) -> Option<Duration> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The soonest that has come, and when it was to come.
    pub(super) fn take(&mut self, now: Duration) -> Option<(Duration, T)> {
        self.next().filter(|at| *at <= now)?;
        self.0.pop_first()
    }

    pub(super) fn add(&mut self, at: Duration, what: T) {
        self.0.insert((at, what));
    }

    pub(super) fn remove(&mut self, at: Duration, what: T) {
        self.0.remove(&(at, what));
    }
}

/// When a probe that was due at `at` and is begun now is due again. A late start does not move the later ones.
pub(super) fn again(
    at: Duration,
    now: Duration,
    id: &ProbeId,
    definition: &Definition,
) -> Duration {
    let period = definition.timing.period;
    let is_late = now.saturating_sub(at) >= period;
    following(
        if is_late { now } else { at },
        period,
        phase(id, definition),
    )
}

/// Where in its period a probe runs: a hash of the pod's name, so that probes are spread.
fn phase(id: &ProbeId, definition: &Definition) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(id.pod.to_string().as_bytes());
    hasher.write(definition.field.as_bytes());
    hasher.finish()
}

/// The next time that has this phase: at least half a period away, so that the first two are not one.
fn following(now: Duration, period: Duration, phase: u64) -> Duration {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let period = nanos(period).max(1);
    let earliest = nanos(now).saturating_add(period / 2);
    let phase = phase % period;
    let behind = (earliest % period + period - phase) % period;
    let wait = if behind == 0 { 0 } else { period - behind };
    Duration::from_nanos(earliest.saturating_add(wait))
}
