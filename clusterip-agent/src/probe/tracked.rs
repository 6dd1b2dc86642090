//! A pod and its probes.

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;

use super::{
    definition::{Check, Definition, Purpose},
    state::Verdict,
};
use crate::model::object::{Object, ObjectName, Spec};

/// The API's default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) definition: Definition,
    pub(super) verdict: Verdict,
    pub(super) is_running: bool,
    /// It was due before its container had started.
    pub(super) waits_for_startup: bool,
    /// Why the last one was no success.
    pub(super) reason: Arc<str>,
}

#[derive(Clone, Debug)]
pub(super) struct Tracked {
    /// As the source gave it.
    pub(super) object: Object,
    /// As it was passed on, if that is something else: most pods have no probe that runs here.
    pub(super) changed: Option<Box<Object>>,
    pub(super) probes: Vec<Probe>,
    pub(super) incarnation: u64,
    /// When it is gone, if its file is.
    pub(super) ends: Option<Duration>,
}

impl Probe {
    /// Before its first result (I1).
    pub(super) fn new(definition: Definition) -> Self {
        Self {
            verdict: Verdict::new(
                definition.thresholds,
                definition.purpose == Purpose::Liveness,
            ),
            definition,
            is_running: false,
            waits_for_startup: false,
            reason: "".into(),
        }
    }

    /// Whether it can be carried out at all.
    pub(super) const fn is_possible(&self) -> bool {
        !matches!(self.definition.check, Check::Impossible { .. })
    }

    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        self.definition.purpose == purpose
    }

    /// Says in the log what its verdict is now.
    pub(super) fn tell(&self, pod: &ObjectName, reason: Option<&str>) {
        let Definition {
            container, purpose, ..
        } = &self.definition;
        let probe = purpose.field();
        if self.verdict.passes() {
            log::info!(pod:% = pod, container:%, probe; "probe succeeds");
        } else {
            let reason = reason.unwrap_or_default();
            log::warn!(pod:% = pod, container:%, probe, reason:%; "probe fails");
        }
    }
}

impl Tracked {
    /// A pod that terminates, as an earlier agent showed it.
    pub(super) fn leaving(shown: &Object, incarnation: u64) -> Self {
        let mut object = shown.clone();
        if let Spec::Pod(pod) = &mut object.spec {
            Arc::make_mut(pod).deleted = None;
        }
        Self {
            object,
            changed: Some(Box::new(shown.clone())),
            probes: Vec::new(),
            incarnation,
            ends: None,
        }
    }

    /// As it was passed on.
    pub(super) fn shown(&self) -> &Object {
        self.changed.as_deref().unwrap_or(&self.object)
    }

    /// Whether probes say if the pod is ready: its status does not say it itself.
    pub(super) fn decides_readiness(&self) -> bool {
        let Spec::Pod(pod) = &self.object.spec else {
            return false;
        };
        let is_asked = |probe: &Probe| !probe.is_for(Purpose::Liveness);
        pod.ready.is_none() && self.probes.iter().any(is_asked)
    }

    /// Whether it is not known yet if the pod is ready: a probe that could tell has not been asked.
    pub(super) fn waits_for_result(&self) -> bool {
        let could_tell = |(index, probe): (usize, &Probe)| {
            let is_its_turn = match probe.definition.purpose {
                Purpose::Startup => true,
                Purpose::Readiness => self.is_started(index),
                Purpose::Liveness => false,
            };
            is_its_turn && probe.is_possible() && !probe.verdict.has_result()
        };
        self.decides_readiness() && self.probes.iter().enumerate().any(could_tell)
    }

    /// Every container has started, and is ready as far as it has a probe for that (I1).
    pub(super) fn is_ready(&self) -> bool {
        self.probes
            .iter()
            .filter(|probe| !probe.is_for(Purpose::Liveness))
            .all(|probe| probe.verdict.passes())
    }

    /// Whether the container of a probe has started.
    pub(super) fn is_started(&self, index: usize) -> bool {
        let container = |probe: &Probe| probe.definition.container.clone();
        let own = self.probes.get(index).map(container);
        self.probes
            .iter()
            .filter(|probe| probe.is_for(Purpose::Startup))
            .all(|probe| Some(container(probe)) != own || probe.verdict.passes())
    }

    /// For how long it terminates once its file is gone: not at all if it serves nobody, or terminates already.
    pub(super) fn grace(&self) -> Duration {
        let Spec::Pod(pod) = &self.object.spec else {
            return Duration::ZERO;
        };
        let runs = pod.phase.may_run() && !pod.addresses.is_empty();
        if !runs || pod.deleted.is_some() {
            return Duration::ZERO;
        }
        let seconds = pod
            .grace_seconds
            .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
        seconds.unwrap_or(DEFAULT_GRACE)
    }

    /// It is passed on as the source gave it, with the condition `Ready` where probes decide it.
    pub(super) fn probed(&mut self) {
        self.changed = self.decides_readiness().then(|| {
            let mut shown = self.object.clone();
            if let Spec::Pod(pod) = &mut shown.spec {
                Arc::make_mut(pod).ready = Some(self.is_ready());
            }
            Box::new(shown)
        });
    }

    /// It is passed on as it was last, and on its way out (I4).
    pub(super) fn terminates(&mut self, since: Timestamp) {
        let mut shown = self.shown().clone();
        if let Spec::Pod(pod) = &mut shown.spec {
            Arc::make_mut(pod).deleted = Some(since);
        }
        self.changed = Some(Box::new(shown));
    }
}
