//! The pods as a kubelet sees them: told the time and the results, it says what the cluster shall see.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use siphasher::sip::SipHasher24;

use super::{
    definition::{Check, Definition, Purpose, definitions},
    state::Verdict,
};
use crate::model::{
    event::Event,
    object::{Kind, Object, ObjectKey, ObjectName, Spec},
    problem::{Fault, Problem},
};

/// The API's default for `terminationGracePeriodSeconds`.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// The first listing is held back until every readiness probe has a result, but no longer than this.
const FIRST_RESULTS: Duration = Duration::from_secs(5);

/// The time, as it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Since the agent started; monotonic.
    pub elapsed: Duration,
    /// Of the day: only ever written into objects.
    pub wall: Timestamp,
}

/// Which probe a result is of. One of an older state of the pod is of nobody.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProbeId {
    /// The pod.
    pub pod: ObjectName,
    incarnation: u64,
    index: usize,
}

/// A probe to be carried out now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Whose result it is.
    pub id: ProbeId,
    /// What to ask.
    pub check: Check,
    /// For how long.
    pub timeout: Duration,
}

#[derive(Clone, Debug)]
struct Probe {
    definition: Definition,
    verdict: Verdict,
    is_running: bool,
}

#[derive(Clone, Debug)]
struct Tracked {
    /// As the source gave it.
    object: Object,
    /// As it was passed on.
    shown: Object,
    probes: Vec<Probe>,
    incarnation: u64,
    /// When it is gone, if its file is.
    ends: Option<Duration>,
}

/// The pods, their probes and what is to come.
#[derive(Debug)]
pub struct Pods {
    node: Arc<str>,
    pods: BTreeMap<ObjectName, Tracked>,
    /// What was put since `Reset`.
    listing: Option<BTreeSet<ObjectName>>,
    /// The end of the first listing, while it is held back; and until when.
    held: Option<Duration>,
    is_synced: bool,
    agenda: BTreeSet<(Duration, ProbeId)>,
    ends: BTreeSet<(Duration, ObjectName)>,
    incarnations: u64,
    /// What the source said last.
    problems: Vec<Problem>,
    /// Pods with probes that cannot be carried out.
    impossible: BTreeMap<ObjectName, Vec<Problem>>,
}

impl Pods {
    /// No pod yet; `node` is where this is.
    #[must_use]
    pub fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            pods: BTreeMap::new(),
            listing: None,
            held: None,
            is_synced: false,
            agenda: BTreeSet::new(),
            ends: BTreeSet::new(),
            incarnations: 0,
            problems: Vec::new(),
            impossible: BTreeMap::new(),
        }
    }

    /// What the cluster shall see of what a source says.
    pub fn take(&mut self, events: Vec<Event>, now: Now) -> Vec<Event> {
        let mut out = Vec::new();
        let before = self.impossible.clone();
        let mut says_problems = false;
        for event in events {
            match event {
                Event::Reset => {
                    self.listing = Some(BTreeSet::new());
                    // Its end must not come out in the middle of another one.
                    self.held = None;
                    out.push(Event::Reset);
                }
                Event::Put(object) => match &object.spec {
                    Spec::Pod(pod) => {
                        let pod = pod.clone();
                        out.push(self.put(*object, &pod, now));
                    }
                    _ => out.push(Event::Put(object)),
                },
                Event::Remove(key) if key.kind == Kind::Pod => {
                    if let Some(listing) = &mut self.listing {
                        listing.remove(&key.name);
                    }
                    out.push(self.end(key, now));
                }
                Event::Remove(key) => out.push(Event::Remove(key)),
                Event::Synced => {
                    self.complete(&mut out, now);
                    if self.is_synced || !self.waits_for_results() {
                        self.is_synced = true;
                        out.push(Event::Synced);
                    } else {
                        self.held.get_or_insert(now.elapsed + FIRST_RESULTS);
                    }
                }
                Event::Problems(problems) => {
                    self.problems = problems;
                    says_problems = true;
                }
            }
        }
        if says_problems || self.impossible != before {
            let own = self.impossible.values().flatten();
            let all = self.problems.iter().chain(own).cloned().collect();
            out.push(Event::Problems(all));
        }
        out
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let probe = self.agenda.first().map(|(at, _)| *at);
        let end = self.ends.first().map(|(at, _)| *at);
        [probe, end, self.held].into_iter().flatten().min()
    }

    /// The probes that are due. Each is due again a period later, whether it has ended by then or not.
    pub fn due(&mut self, now: Now) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some((at, id)) = self.agenda.pop_first() {
            if at > now.elapsed {
                self.agenda.insert((at, id));
                break;
            }
            let Some(tracked) = self.pods.get_mut(&id.pod) else {
                continue;
            };
            let gate = tracked.is_started(id.index);
            let is_current = tracked.incarnation == id.incarnation && tracked.ends.is_none();
            let Some(probe) = tracked.probes.get_mut(id.index).filter(|_| is_current) else {
                continue;
            };
            let is_startup = probe.definition.purpose == Purpose::Startup;
            if is_startup && probe.verdict.passes() {
                // It has done its work.
                continue;
            }
            let timing = probe.definition.timing;
            // From when it was due, unless that is long ago: a late start does not move the others.
            let from = if now.elapsed - at < timing.period {
                at
            } else {
                now.elapsed
            };
            let next = following(from, timing.period, phase(&id, &probe.definition));
            self.agenda.insert((next, id.clone()));
            if probe.is_running || !(gate || is_startup) {
                continue;
            }
            probe.is_running = true;
            jobs.push(Job {
                id,
                check: probe.definition.check.clone(),
                timeout: timing.timeout,
            });
        }
        jobs
    }

    /// What the cluster shall see of a result.
    pub fn observe(&mut self, id: &ProbeId, result: Result<(), String>, now: Now) -> Vec<Event> {
        let mut out = Vec::new();
        if let Some(tracked) = self.pods.get_mut(&id.pod)
            && tracked.incarnation == id.incarnation
            && let Some(probe) = tracked.probes.get_mut(id.index)
        {
            probe.is_running = false;
            if probe.verdict.observe(result.is_ok()) {
                tell(&id.pod, probe, result.err().as_deref());
                if probe.definition.purpose == Purpose::Startup {
                    self.open(&id.pod, now);
                }
                let before = self.pods.get(&id.pod).map(|tracked| tracked.shown.clone());
                let after = self.show(&id.pod);
                let is_new =
                    self.pods.get(&id.pod).map(|tracked| &tracked.shown) != before.as_ref();
                out.extend(after.filter(|_| is_new));
            }
        }
        out.extend(self.release(now));
        out
    }

    /// What the cluster shall see as time goes by.
    pub fn expire(&mut self, now: Now) -> Vec<Event> {
        let mut out = Vec::new();
        while let Some((at, name)) = self.ends.pop_first() {
            if at > now.elapsed {
                self.ends.insert((at, name));
                break;
            }
            self.forget(&name);
            out.push(Event::Remove(pod_key(name)));
        }
        out.extend(self.release(now));
        out
    }

    fn put(&mut self, object: Object, pod: &Pod, now: Now) -> Event {
        let name = object.key.name.clone();
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
        let definitions = definitions(pod, &self.node);
        let known = self.pods.remove(&name);
        if let Some(ends) = known.as_ref().and_then(|known| known.ends) {
            self.ends.remove(&(ends, name.clone()));
        }
        let is_same = known.as_ref().is_some_and(|known| {
            let uid = |object: &Object| match &object.spec {
                Spec::Pod(pod) => pod.metadata.uid.clone(),
                _ => None,
            };
            known.ends.is_none()
                && uid(&known.object) == uid(&object)
                && known
                    .probes
                    .iter()
                    .map(|it| &it.definition)
                    .eq(&definitions)
        });
        let tracked = match known {
            Some(known) if is_same => Tracked {
                object: object.clone(),
                ..known
            },
            _ => self.begin(&object, definitions, now),
        };
        self.pods.insert(name.clone(), tracked);
        match self.show(&name) {
            Some(event) => event,
            None => Event::Put(Box::new(object)),
        }
    }

    /// A pod that is new, or whose probes are.
    fn begin(&mut self, object: &Object, definitions: Vec<Definition>, now: Now) -> Tracked {
        self.incarnations += 1;
        let name = &object.key.name;
        let impossible: Vec<Problem> = definitions
            .iter()
            .filter_map(|definition| impossible(object, definition))
            .collect();
        if impossible.is_empty() {
            self.impossible.remove(name);
        } else {
            self.impossible.insert(name.clone(), impossible);
        }
        for (index, definition) in definitions.iter().enumerate() {
            if matches!(definition.check, Check::Impossible { .. }) {
                continue;
            }
            // A pod that is found at the start has been running for nobody knows how long.
            let delay = if self.is_synced {
                definition.timing.initial_delay
            } else {
                Duration::ZERO
            };
            let id = ProbeId {
                pod: name.clone(),
                incarnation: self.incarnations,
                index,
            };
            self.agenda.insert((now.elapsed + delay, id));
        }
        let probes = definitions.into_iter().map(|definition| Probe {
            verdict: Verdict::new(
                definition.thresholds,
                definition.purpose == Purpose::Liveness,
            ),
            definition,
            is_running: false,
        });
        Tracked {
            object: object.clone(),
            shown: object.clone(),
            probes: probes.collect(),
            incarnation: self.incarnations,
            ends: None,
        }
    }

    /// A startup probe has succeeded: the others need not wait for their turn.
    fn open(&mut self, name: &ObjectName, now: Now) {
        let Some(tracked) = self.pods.get(name) else {
            return;
        };
        for (index, probe) in tracked.probes.iter().enumerate() {
            let is_possible = !matches!(probe.definition.check, Check::Impossible { .. });
            if probe.definition.purpose != Purpose::Startup
                && !probe.verdict.has_result()
                && is_possible
            {
                let id = ProbeId {
                    pod: name.clone(),
                    incarnation: tracked.incarnation,
                    index,
                };
                self.agenda.retain(|(_, other)| *other != id);
                self.agenda.insert((now.elapsed, id));
            }
        }
    }

    /// The file of a pod is gone: it terminates for its grace period, and then it is gone too (I4).
    fn end(&mut self, key: ObjectKey, now: Now) -> Event {
        let name = &key.name;
        let grace = self.pods.get(name).map_or(Duration::ZERO, Tracked::grace);
        let Some(tracked) = self.pods.get_mut(name).filter(|_| !grace.is_zero()) else {
            self.forget(name);
            return Event::Remove(key);
        };
        let Spec::Pod(pod) = &tracked.shown.spec else {
            return Event::Remove(key);
        };
        if tracked.ends.is_none() {
            let mut pod = Pod::clone(pod);
            pod.metadata.deletion_timestamp = Some(Time(now.wall));
            tracked.shown.spec = Spec::Pod(Arc::new(pod));
            let ends = now.elapsed + grace;
            tracked.ends = Some(ends);
            self.ends.insert((ends, name.clone()));
            self.impossible.remove(name);
        }
        Event::Put(Box::new(tracked.shown.clone()))
    }

    /// A listing is complete: pods that are not in it end, and those that are ending are part of it.
    fn complete(&mut self, out: &mut Vec<Event>, now: Now) {
        let Some(listing) = self.listing.take() else {
            return;
        };
        let gone: Vec<ObjectName> = self
            .pods
            .keys()
            .filter(|name| !listing.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            out.push(self.end(pod_key(name), now));
        }
    }

    /// Whether a readiness probe that can be carried out has no result yet.
    fn waits_for_results(&self) -> bool {
        self.pods.values().any(|tracked| {
            tracked.decides_readiness()
                && tracked.probes.iter().any(|probe| {
                    let is_possible = !matches!(probe.definition.check, Check::Impossible { .. });
                    is_possible
                        && probe.definition.purpose != Purpose::Liveness
                        && !probe.verdict.has_result()
                })
        })
    }

    /// The end of the first listing, once there is nothing to wait for: until then the maps keep what they have, as
    /// nothing is written before (F1, F4).
    fn release(&mut self, now: Now) -> Option<Event> {
        let until = self.held?;
        if self.waits_for_results() && now.elapsed < until {
            return None;
        }
        self.held = None;
        self.is_synced = true;
        Some(Event::Synced)
    }

    /// A pod as the cluster shall see it, if it is tracked.
    fn show(&mut self, name: &ObjectName) -> Option<Event> {
        let tracked = self.pods.get_mut(name)?;
        if tracked.ends.is_some() {
            return None;
        }
        tracked.shown = tracked.object.clone();
        if tracked.decides_readiness()
            && let Spec::Pod(pod) = &tracked.object.spec
        {
            let mut pod = Pod::clone(pod);
            let status = pod.status.get_or_insert_default();
            let conditions = status.conditions.get_or_insert_default();
            conditions.push(PodCondition {
                type_: READY.to_owned(),
                status: if tracked.is_ready() { "True" } else { "False" }.to_owned(),
                reason: Some("Probed".to_owned()),
                ..PodCondition::default()
            });
            tracked.shown.spec = Spec::Pod(Arc::new(pod));
        }
        Some(Event::Put(Box::new(tracked.shown.clone())))
    }

    fn forget(&mut self, name: &ObjectName) {
        if let Some(ends) = self.pods.remove(name).and_then(|tracked| tracked.ends) {
            self.ends.remove(&(ends, name.clone()));
        }
        self.impossible.remove(name);
    }
}

const READY: &str = "Ready";

impl Tracked {
    /// Whether probes say if the pod is ready: its status does not say it itself.
    fn decides_readiness(&self) -> bool {
        let Spec::Pod(pod) = &self.object.spec else {
            return false;
        };
        let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
        let says_itself = conditions.is_some_and(|all| all.iter().any(|it| it.type_ == READY));
        let is_asked = |probe: &Probe| probe.definition.purpose != Purpose::Liveness;
        !says_itself && self.probes.iter().any(is_asked)
    }

    /// Every container has started, and is ready as far as it has a probe for that (I1).
    fn is_ready(&self) -> bool {
        self.probes
            .iter()
            .filter(|probe| probe.definition.purpose != Purpose::Liveness)
            .all(|probe| probe.verdict.passes())
    }

    /// Whether the container of a probe has started.
    fn is_started(&self, index: usize) -> bool {
        let container = |probe: &Probe| probe.definition.container.clone();
        let own = self.probes.get(index).map(container);
        self.probes
            .iter()
            .filter(|probe| probe.definition.purpose == Purpose::Startup)
            .all(|probe| Some(container(probe)) != own || probe.verdict.passes())
    }

    /// For how long it terminates once its file is gone: not at all if it serves nobody, or terminates already.
    fn grace(&self) -> Duration {
        let Spec::Pod(pod) = &self.object.spec else {
            return Duration::ZERO;
        };
        let status = pod.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        let has_address =
            status.is_some_and(|status| status.pod_ip.is_some() || status.pod_ips.is_some());
        let runs = matches!(phase, None | Some("Running")) && has_address;
        if !runs || pod.metadata.deletion_timestamp.is_some() {
            return Duration::ZERO;
        }
        let seconds = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds)
            .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
        seconds.unwrap_or(DEFAULT_GRACE)
    }
}

fn pod_key(name: ObjectName) -> ObjectKey {
    ObjectKey {
        kind: Kind::Pod,
        name,
    }
}

fn impossible(object: &Object, definition: &Definition) -> Option<Problem> {
    let Check::Impossible { reason } = &definition.check else {
        return None;
    };
    let fault = Fault {
        field: definition.field.to_string(),
        value: String::new(),
        message: format!("is never a success: {reason}"),
    };
    Some(fault.at(&object.key, &object.origin))
}

fn tell(pod: &ObjectName, probe: &Probe, reason: Option<&str>) {
    let Definition {
        container, purpose, ..
    } = &probe.definition;
    let probe_name = purpose.field();
    if probe.verdict.passes() {
        log::info!(pod:% = pod, container:%, probe:% = probe_name; "probe succeeds");
    } else {
        let reason = reason.unwrap_or_default();
        log::warn!(pod:% = pod, container:%, probe:% = probe_name, reason:%; "probe fails");
    }
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
