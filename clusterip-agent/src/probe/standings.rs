//! What the probes found, for those who show it.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::{definition::Purpose, tracked::Tracked};
use crate::model::object::ObjectName;

/// The probes of each pod that has some. Cloning costs nothing.
pub type Standings = RedBlackTreeMapSync<ObjectName, Arc<[ProbeResult]>>;

/// How a probe stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has not been asked yet.
    Waiting,
    /// It counts as a success.
    Passes,
    /// It counts as a failure.
    Fails,
}

/// A probe and what it found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProbeResult {
    /// The container.
    pub container: Arc<str>,
    /// What it is for.
    pub purpose: Purpose,
    /// How it stands.
    pub standing: Standing,
    /// Why the last one was no success; empty if it was one.
    pub reason: Arc<str>,
}

/// Those of one pod.
pub(super) fn of(tracked: &Tracked) -> Vec<ProbeResult> {
    let probes = tracked.probes.iter();
    probes
        .map(|probe| ProbeResult {
            container: probe.definition.container.clone(),
            purpose: probe.definition.purpose,
            standing: match (probe.verdict.has_result(), probe.verdict.passes()) {
                (false, _) => Standing::Waiting,
                (true, true) => Standing::Passes,
                (true, false) => Standing::Fails,
            },
            reason: probe.reason.clone(),
        })
        .collect()
}
