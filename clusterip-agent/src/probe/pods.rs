//! The pods as a kubelet sees them: told the time and the results, it says what the cluster shall see.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    agenda::{Agenda, ProbeId, again},
    definition::{Check, Definition, Purpose, definitions},
    leaving::{Leaver, Leavers},
    results::Results,
    standings::{self, Standings},
    tracked::{Probe, Tracked},
};
use crate::{
    clock::Now,
    model::{
        event::Event,
        facts::Pod,
        object::{Kind, Object, ObjectKey, ObjectName, Spec},
        problem::{Fault, Problem},
    },
};

/// The first listing is held back until every readiness probe has a result, but no longer than this.
const FIRST_RESULTS: Duration = Duration::from_secs(5);

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

/// The pods, their probes and what is to come.
#[derive(Debug)]
pub struct Pods {
    node: Arc<str>,
    results: Results,
    tracked: BTreeMap<ObjectName, Tracked>,
    /// What was put since `Reset`.
    listing: Option<BTreeSet<ObjectName>>,
    /// The end of the first listing, while it is held back; and until when.
    held: Option<Duration>,
    is_synced: bool,
    agenda: Agenda<ProbeId>,
    ends: Agenda<ObjectName>,
    /// The pods in it.
    leaving: Leavers,
    /// Pods that terminated when an earlier agent ended, until the first listing is complete.
    expected: Leavers,
    incarnations: u64,
    /// What the source said last.
    problems: Vec<Problem>,
    /// Pods with probes that cannot be carried out.
    impossible: BTreeMap<ObjectName, Vec<Problem>>,
    standings: Standings,
}

impl Pods {
    /// No pod yet; `node` is where this is, and `results` are what is counted.
    #[must_use]
    pub fn new(node: &str, results: Results) -> Self {
        Self {
            node: node.into(),
            results,
            tracked: BTreeMap::new(),
            listing: None,
            held: None,
            is_synced: false,
            agenda: Agenda::new(),
            ends: Agenda::new(),
            leaving: Leavers::new(),
            expected: Leavers::new(),
            incarnations: 0,
            problems: Vec::new(),
            impossible: BTreeMap::new(),
            standings: Standings::default(),
        }
    }

    /// The same, after an agent under which these terminated.
    #[must_use]
    pub fn after(mut self, leaving: Leavers) -> Self {
        self.expected = leaving;
        self
    }

    /// The pods that terminate.
    #[must_use]
    pub const fn leaving(&self) -> &Leavers {
        &self.leaving
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
                    self.resume(&mut out, now);
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
                Event::Changed(when) => out.push(Event::Changed(when)),
                Event::Machine(addresses) => out.push(Event::Machine(addresses)),
                Event::Conflicts(conflicts) => out.push(Event::Conflicts(conflicts)),
                Event::Unprovided(faults) => out.push(Event::Unprovided(faults)),
            }
        }
        if says_problems || self.impossible != before {
            let own = self.impossible.values().flatten();
            let all = self.problems.iter().chain(own).cloned().collect();
            out.push(Event::Problems(all));
        }
        out
    }

    /// What the probes found so far.
    #[must_use]
    pub const fn standings(&self) -> &Standings {
        &self.standings
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let all = [self.agenda.next(), self.ends.next(), self.held];
        all.into_iter().flatten().min()
    }

    /// The probes that are due. Each is due again a period later, whether it has ended by then or not.
    pub fn due(&mut self, now: Now) -> Vec<Job> {
        let mut jobs = Vec::new();
        while let Some((at, id)) = self.agenda.take(now.elapsed) {
            let Some(tracked) = self.tracked.get_mut(&id.pod) else {
                continue;
            };
            let has_started = tracked.is_started(id.index);
            let is_current = tracked.incarnation == id.incarnation && tracked.ends.is_none();
            let Some(probe) = tracked.probes.get_mut(id.index).filter(|_| is_current) else {
                continue;
            };
            let is_startup = probe.is_for(Purpose::Startup);
            if is_startup && probe.verdict.passes() {
                // It has done its work.
                continue;
            }
            if !is_startup && !has_started {
                // Its turn comes when the container has started.
                probe.waits_for_startup = true;
                continue;
            }
            let next = again(at, now.elapsed, &id, &probe.definition);
            self.agenda.add(next, id.clone());
            if probe.is_running {
                continue;
            }
            probe.is_running = true;
            jobs.push(Job {
                id,
                check: probe.definition.check.clone(),
                timeout: probe.definition.timing.timeout,
            });
        }
        jobs
    }

    /// What the cluster shall see of a result.
    pub fn observe(&mut self, id: &ProbeId, result: Result<(), String>, now: Now) -> Vec<Event> {
        let mut out = Vec::new();
        if let Some(tracked) = self.tracked.get_mut(&id.pod)
            && tracked.incarnation == id.incarnation
            && let Some(probe) = tracked.probes.get_mut(id.index)
        {
            probe.is_running = false;
            let reason = result.as_ref().err();
            probe.reason = reason.map(String::as_str).unwrap_or_default().into();
            self.results
                .count(&id.pod, &probe.definition, result.is_ok());
            if probe.verdict.observe(result.is_ok()) {
                probe.tell(&id.pod, result.err().as_deref());
                if probe.is_for(Purpose::Startup) {
                    self.open(&id.pod, now);
                }
                let before = self
                    .tracked
                    .get(&id.pod)
                    .map(|tracked| tracked.shown().clone());
                let after = self.show(&id.pod);
                let is_new = self.tracked.get(&id.pod).map(Tracked::shown) != before.as_ref();
                out.extend(after.filter(|_| is_new));
            }
        }
        self.note_standing(&id.pod);
        out.extend(self.release(now));
        out
    }

    /// What the cluster shall see as time goes by.
    pub fn expire(&mut self, now: Now) -> Vec<Event> {
        let mut out = Vec::new();
        while let Some((_, name)) = self.ends.take(now.elapsed) {
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
        let known = self.tracked.remove(&name);
        if let Some(ends) = known.as_ref().and_then(|known| known.ends) {
            self.ends.remove(ends, name.clone());
            self.leaving.remove(&name);
        }
        let is_same = known.as_ref().is_some_and(|known| {
            let uid = |object: &Object| match &object.spec {
                Spec::Pod(pod) => pod.uid.clone(),
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
            known => {
                self.end_series(&name, known.as_ref());
                self.begin(&object, definitions, now)
            }
        };
        self.tracked.insert(name.clone(), tracked);
        self.note_standing(&name);
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
            self.agenda.add(now.elapsed + delay, id);
        }
        Tracked {
            object: object.clone(),
            changed: None,
            probes: definitions.into_iter().map(Probe::new).collect(),
            incarnation: self.incarnations,
            ends: None,
        }
    }

    /// A container has started: the probes that waited for it need not wait for another turn.
    fn open(&mut self, name: &ObjectName, now: Now) {
        let Some(tracked) = self.tracked.get_mut(name) else {
            return;
        };
        for index in 0..tracked.probes.len() {
            let has_started = tracked.is_started(index);
            if let Some(probe) = tracked.probes.get_mut(index)
                && has_started
                && std::mem::take(&mut probe.waits_for_startup)
            {
                let id = ProbeId {
                    pod: name.clone(),
                    incarnation: tracked.incarnation,
                    index,
                };
                self.agenda.add(now.elapsed, id);
            }
        }
    }

    /// The file of a pod is gone: it terminates for its grace period, and then it is gone too (I4).
    fn end(&mut self, key: ObjectKey, now: Now) -> Event {
        let name = &key.name;
        let grace = self
            .tracked
            .get(name)
            .map_or(Duration::ZERO, Tracked::grace);
        let Some(tracked) = self.tracked.get_mut(name).filter(|_| !grace.is_zero()) else {
            self.forget(name);
            return Event::Remove(key);
        };
        if tracked.ends.is_none() {
            tracked.terminates(now.wall);
            let ends = now.elapsed + grace;
            tracked.ends = Some(ends);
            self.ends.add(ends, name.clone());
            let leaver = Leaver::new(tracked.shown(), ends, now);
            self.leaving.insert(name.clone(), leaver);
            self.impossible.remove(name);
        }
        Event::Put(Box::new(tracked.shown().clone()))
    }

    /// A listing is complete: pods that are not in it end, and those that are ending are part of it.
    fn complete(&mut self, out: &mut Vec<Event>, now: Now) {
        let Some(listing) = self.listing.take() else {
            return;
        };
        let gone: Vec<ObjectName> = self
            .tracked
            .keys()
            .filter(|name| !listing.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            out.push(self.end(pod_key(name), now));
        }
    }

    /// Pods that an earlier agent saw end, and that are not back, go on ending.
    fn resume(&mut self, out: &mut Vec<Event>, now: Now) {
        for (name, leaver) in std::mem::take(&mut self.expected) {
            if self.tracked.contains_key(&name) {
                continue;
            }
            self.incarnations += 1;
            let tracked = Tracked::leaving(&leaver.object, self.incarnations);
            let Some(ends) = leaver.ends(tracked.grace(), now) else {
                continue;
            };
            self.ends.add(ends, name.clone());
            let ends = Some(ends);
            self.tracked
                .insert(name.clone(), Tracked { ends, ..tracked });
            out.push(Event::Put(Box::new(leaver.object.clone())));
            self.leaving.insert(name, leaver);
        }
    }

    fn waits_for_results(&self) -> bool {
        self.tracked.values().any(Tracked::waits_for_result)
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
        let tracked = self.tracked.get_mut(name)?;
        if tracked.ends.is_some() {
            return None;
        }
        tracked.probed();
        Some(Event::Put(Box::new(tracked.shown().clone())))
    }

    /// Keeps what is shown of a pod's probes up to date.
    fn note_standing(&mut self, name: &ObjectName) {
        let now = self
            .tracked
            .get(name)
            .map(standings::of)
            .unwrap_or_default();
        if now.is_empty() {
            if self.standings.contains_key(name) {
                self.standings.remove_mut(name);
            }
        } else if self
            .standings
            .get(name)
            .is_none_or(|before| **before != *now)
        {
            self.standings.insert_mut(name.clone(), now.into());
        }
    }

    fn forget(&mut self, name: &ObjectName) {
        let known = self.tracked.remove(name);
        self.end_series(name, known.as_ref());
        if let Some(ends) = known.and_then(|tracked| tracked.ends) {
            self.ends.remove(ends, name.clone());
        }
        self.leaving.remove(name);
        self.impossible.remove(name);
        self.note_standing(name);
    }

    fn end_series(&self, name: &ObjectName, pod: Option<&Tracked>) {
        for probe in pod.into_iter().flat_map(|pod| &pod.probes) {
            self.results.forget(name, &probe.definition);
        }
    }
}

const fn pod_key(name: ObjectName) -> ObjectKey {
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
