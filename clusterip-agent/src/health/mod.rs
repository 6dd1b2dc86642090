//! Whether the agent keeps up (F7): the judgement is pure, `endpoint` is its HTTP.
//!
//! An agent is late when an update has been *waiting* for too long, whatever the reason: writes that fail, or a loop that
//! hangs. How long ago the last update was says nothing: where nothing changes there is none.

mod endpoint;
mod node_port;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::jiff::Timestamp;

pub use self::{
    endpoint::{Answers, Health, routes},
    node_port::keep as keep_node_ports,
};
use crate::{clock::Now, model::service::Family};

/// How long an update may wait: kube-proxy's, which is twice its `syncPeriod`.
pub const LIMIT: Duration = Duration::from_mins(1);

/// Updates that wait to be written, by family, and the last one that was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// When the oldest update that waits came.
    waiting: BTreeMap<Family, Duration>,
    updated: Option<Timestamp>,
}

impl Progress {
    /// An agent that starts: the whole of both families is waiting.
    #[must_use]
    pub fn new(now: Now) -> Self {
        let mut progress = Self {
            waiting: BTreeMap::new(),
            updated: None,
        };
        progress.queued(now);
        progress
    }

    /// An update came. What it will change is not known yet, so both families wait for it.
    pub fn queued(&mut self, now: Now) {
        for family in [Family::V4, Family::V6] {
            self.waiting.entry(family).or_insert(now.elapsed);
        }
    }

    /// All that came has been written, but for what those families still want.
    pub fn written_but(&mut self, wanting: &BTreeSet<Family>, now: Now) {
        self.waiting.retain(|family, _| wanting.contains(family));
        for family in wanting {
            self.waiting.entry(*family).or_insert(now.elapsed);
        }
        if wanting.is_empty() {
            self.updated = Some(now.wall);
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether everything has been written once.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.updated.is_some()
    }

    /// The family that has been waiting for too long, and for how long.
    #[must_use]
    pub fn late(&self, now: Now) -> Option<(Family, Duration)> {
        let waits = self
            .waiting
            .iter()
            .map(|(family, since)| (*family, now.elapsed.saturating_sub(*since)));
        waits
            .filter(|(_, wait)| *wait >= LIMIT)
            .max_by_key(|(_, wait)| *wait)
    }
}

/// What the two endpoints say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// When everything was last as it should be: now, if it is. None if it never was.
    pub last_updated: Option<Timestamp>,
    /// Whether the node stays: new flows may be sent to it from outside.
    pub node_eligible: bool,
    /// Why the agent does not keep up.
    pub late: Option<String>,
    /// Why the agent does not serve yet.
    pub starting: Option<String>,
}

impl Verdict {
    /// The judgement at one moment; `is_attached`: whether the pods' devices have been looked at.
    #[must_use]
    pub fn new(progress: &Progress, is_attached: bool, node_is_leaving: bool, now: Now) -> Self {
        let late = progress.late(now).map(|(family, wait)| {
            format!(
                "an update of {family} has been waiting for {} s to be written; the log says why",
                wait.as_secs()
            )
        });
        let starting = if !progress.has_begun() {
            Some("the maps have not been filled yet")
        } else if !is_attached {
            Some("the pods' devices have not been attached to yet")
        } else {
            None
        };
        Self {
            last_updated: if late.is_none() && progress.has_begun() {
                Some(now.wall)
            } else {
                progress.updated
            },
            node_eligible: !node_is_leaving,
            late,
            starting: starting.map(str::to_owned),
        }
    }

    /// The same while the source of objects has not said everything: nothing waits for this agent then, and a new one would
    /// have to wait as long.
    #[must_use]
    pub fn waiting_for(self, source: Option<String>) -> Self {
        match source {
            Some(why) => Self {
                late: None,
                starting: Some(why),
                ..self
            },
            None => self,
        }
    }

    /// `/livez`: whether it makes sense to let the agent go on.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.late.is_none()
    }

    /// `/healthz`: whether the node may be sent traffic.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        self.is_live() && self.starting.is_none() && self.node_eligible
    }

    /// Why it is not healthy.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        let leaving = (!self.node_eligible).then_some("the node is being deleted");
        self.late
            .as_deref()
            .or(self.starting.as_deref())
            .or(leaving)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            elapsed: Duration::from_secs(seconds),
            wall: Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap(),
        }
    }

    /// What happens at a second: an update comes; all is written; all but one family is.
    #[derive(Clone, Copy)]
    enum Step {
        Queued,
        Written,
        WrittenBut(Family),
    }
    use Step::{Queued, Written, WrittenBut};

    fn progress(steps: &[(u64, Step)]) -> Progress {
        let mut progress = Progress::new(at(0));
        for (second, step) in steps {
            match step {
                Queued => progress.queued(at(*second)),
                Written => progress.written_but(&BTreeSet::new(), at(*second)),
                WrittenBut(family) => {
                    progress.written_but(&BTreeSet::from([*family]), at(*second));
                }
            }
        }
        progress
    }

    /// F7
    #[test]
    fn an_agent_is_late_when_an_update_waits_too_long_not_when_the_last_one_is_old() {
        use Family::{V4, V6};
        for (steps, second, late, why) in [
            (&[][..], 59, None, "at the start everything waits"),
            (&[], 60, Some(60), "even then not for ever"),
            (&[(1, Written)], 86_400, None, "the last one may be old"),
            (&[(1, Written), (100, Queued)], 159, None, "it waits"),
            (&[(1, Written), (100, Queued)], 160, Some(60), "too long"),
            (
                &[(1, Written), (100, Queued), (150, Queued)],
                170,
                Some(70),
                "a later update does not make the older one younger",
            ),
            (
                &[(1, Written), (100, Queued), (159, Written)],
                300,
                None,
                "just in time",
            ),
            (
                &[(1, Written), (100, Queued), (200, Written)],
                200,
                None,
                "late, but now it is there",
            ),
            (
                &[(1, Written), (100, Queued), (101, WrittenBut(V6))],
                160,
                Some(60),
                "one family is enough",
            ),
            (
                &[(1, Written), (100, WrittenBut(V4))],
                159,
                None,
                "what is found missing without an event waits from then on",
            ),
            (
                &[(1, Written), (100, WrittenBut(V4)), (150, WrittenBut(V6))],
                170,
                None,
                "one came in, the other began to wait: neither for long",
            ),
            (
                &[(1, Written), (100, WrittenBut(V4)), (150, WrittenBut(V4))],
                160,
                Some(60),
                "a retry that fails is no progress",
            ),
        ] {
            let found = progress(steps).late(at(second));
            let found = found.map(|(_, wait)| wait.as_secs());
            assert_eq!(found, late, "{why}");
        }
        let of_one = progress(&[(1, Written), (100, Queued), (101, WrittenBut(V6))]);
        assert_eq!(of_one.late(at(200)).map(|(family, _)| family), Some(V6));
    }

    /// F7
    #[test]
    fn a_node_that_is_being_deleted_is_live_but_not_healthy() {
        let written = progress(&[(1, Written)]);
        let late = progress(&[(1, Written), (2, Queued)]);
        for (progress, is_attached, leaves, live, healthy) in [
            (&written, true, false, true, true),
            (&written, true, true, true, false),
            (&late, true, false, false, false),
            (&written, false, false, true, false),
            (&Progress::new(at(90)), true, false, true, false),
        ] {
            let verdict = Verdict::new(progress, is_attached, leaves, at(100));
            assert_eq!((verdict.is_live(), verdict.is_healthy()), (live, healthy));
            assert_eq!(verdict.reason().is_none(), healthy, "{verdict:?}");
            assert_eq!(verdict.node_eligible, !leaves);
        }
    }

    /// F1, F7: a server that is away at the start keeps the node from being ready, and the agent alive.
    #[test]
    fn who_waits_for_its_source_is_live_but_not_healthy() {
        let verdict = Verdict::new(&Progress::new(at(0)), true, false, at(100));
        assert!(!verdict.is_live());
        let verdict = verdict.waiting_for(Some("nobody answers".to_owned()));
        assert!(verdict.is_live() && !verdict.is_healthy());
        assert_eq!(verdict.reason(), Some("nobody answers"));
    }

    /// kube-proxy's habit: `lastUpdated` is the present while all is well.
    #[test]
    fn the_last_update_is_now_while_nothing_is_late() {
        let seen = |steps: &[(u64, Step)]| {
            let verdict = Verdict::new(&progress(steps), true, false, at(100));
            verdict.last_updated
        };
        assert_eq!(seen(&[(1, Written)]), Some(at(100).wall));
        assert_eq!(seen(&[(1, Written), (2, Queued)]), Some(at(1).wall));
        assert_eq!(seen(&[]), None);
    }
}
