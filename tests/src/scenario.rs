//! Scenarios: objects in, map dump out, as text files.
//!
//! A line that begins at the margin is a directive, the indented lines below it belong to it:
//!
//! ```text
//! # a comment
//! limits services=8 backends=4     before anything else; default 64 and 256
//! range 10.96.0.0/24               the service range, before anything else
//! node node-a                      the node this is for, before anything else
//! put                              objects come or change; the first time that is a full listing
//!   {apiVersion: v1, kind: Service, ...}
//! put web.yaml                     the same from a file beside the scenario
//! list                             a full listing: what is not in it is gone
//! remove Pod default/web-1, Service default/web
//! advance 2                        time passes
//! stop / start                     the agent; in between objects change unseen
//! maps / problems / plan           what is expected; `UPDATE_EXPECT=1` rewrites it
//! ```

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, bail, ensure};
use clusterip_agent::{
    command::plan::Plan,
    dataplane::{Dataplane, DataplaneError},
    model::{
        event::Event,
        object::{Kind, Object, ObjectKey, ObjectName},
        range::ServiceRange,
        resolver::Resolver,
        service::Algorithm,
        validate::Rules,
    },
    plan::{Limits, Op, Tables},
    reconcile::Reconciler,
    source::manifests,
    state::Store,
};

/// A dataplane that looks at the tables after every single operation: no reader may meet what is not sound (F2).
#[derive(Debug)]
pub struct Checked<D>(pub D);

impl<D: Dataplane> Dataplane for Checked<D> {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        self.0.dump()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            self.0.apply(std::slice::from_ref(op))?;
            let tables = self.0.dump()?;
            if let Err(reason) = tables.soundness() {
                panic!("after {op:?}: {reason}\n{tables}");
            }
        }
        Ok(())
    }
}

/// A directive and its block.
struct Step<'a> {
    line: usize,
    directive: &'a str,
    block: Vec<&'a str>,
}

fn steps(text: &str) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("  ") {
            Some(content) => {
                if let Some(step) = steps.last_mut() {
                    step.block.push(content);
                }
            }
            None => steps.push(Step {
                line: index + 1,
                directive: line,
                block: Vec::new(),
            }),
        }
    }
    steps
}

/// Runs a scenario over a dataplane that `make` gives for its limits; returns its text with the expectations as they
/// turned out.
///
/// # Errors
/// A directive that makes no sense, or a dataplane that never comes to hold what it should.
pub fn run<D: Dataplane>(
    path: &Path,
    text: &str,
    make: impl FnOnce(Limits) -> anyhow::Result<D>,
) -> anyhow::Result<String> {
    let mut world = World::new(path, text, make)?;
    let mut out = String::new();
    for step in steps(text) {
        let produced = world
            .step(&step)
            .with_context(|| format!("{}:{}: {}", path.display(), step.line, step.directive))?;
        writeln!(out, "{}", step.directive)?;
        match produced {
            Some(lines) => {
                for line in lines.lines() {
                    writeln!(out, "  {line}")?;
                }
                // An empty line after a block belongs to the text, not to the expectation.
            }
            None => {
                for line in step.block {
                    writeln!(out, "  {line}")?;
                }
            }
        }
    }
    Ok(out)
}

struct World<D: Dataplane> {
    folder: std::path::PathBuf,
    state: tempfile::TempDir,
    limits: Limits,
    ranges: Vec<ServiceRange>,
    node: String,
    objects: BTreeMap<ObjectKey, Object>,
    agent: Option<Reconciler<D>>,
    /// While the agent is stopped.
    dataplane: Option<D>,
    has_listed: bool,
}

impl<D: Dataplane> World<D> {
    fn new(
        path: &Path,
        text: &str,
        make: impl FnOnce(Limits) -> anyhow::Result<D>,
    ) -> anyhow::Result<Self> {
        let mut limits = Limits::new(64, 256);
        let mut nets = vec!["10.96.0.0/16".to_owned(), "fd00:10:96::/112".to_owned()];
        let mut node = "node-a".to_owned();
        for step in steps(text) {
            let mut words = step.directive.split_whitespace();
            match words.next() {
                Some("limits") => {
                    for word in words {
                        match word.split_once('=') {
                            Some(("services", count)) => limits.services = count.parse()?,
                            Some(("backends", count)) => limits.backends = count.parse()?,
                            _ => bail!("unknown limit {word}"),
                        }
                    }
                    limits = Limits::new(limits.services, limits.backends);
                }
                Some("range") => nets = words.map(str::to_owned).collect(),
                Some("node") => words.next().unwrap_or_default().clone_into(&mut node),
                _ => {}
            }
        }
        let ranges = nets
            .iter()
            .map(|net| Ok(ServiceRange::new(net.parse().with_context(|| net.clone())?)))
            .collect::<anyhow::Result<_>>()?;
        let mut world = Self {
            folder: path.parent().unwrap_or(Path::new(".")).to_owned(),
            state: tempfile::tempdir()?,
            limits,
            ranges,
            node,
            objects: BTreeMap::new(),
            agent: None,
            dataplane: Some(make(limits)?),
            has_listed: false,
        };
        world.start()?;
        Ok(world)
    }

    fn step(&mut self, step: &Step<'_>) -> anyhow::Result<Option<String>> {
        let (verb, rest) = step
            .directive
            .split_once(' ')
            .unwrap_or((step.directive, ""));
        match verb {
            "" | "limits" | "range" | "node" => {}
            comment if comment.starts_with('#') => {}
            "put" => {
                let objects = self.objects_of(step, rest)?;
                for object in &objects {
                    self.objects.insert(object.key.clone(), object.clone());
                }
                let puts = objects.into_iter().map(put).collect();
                self.tell(puts)?;
            }
            "list" => {
                let objects = self.objects_of(step, rest)?;
                self.objects = objects
                    .into_iter()
                    .map(|object| (object.key.clone(), object))
                    .collect();
                let events = self.listing();
                self.tell(events)?;
            }
            "remove" => {
                let mut events = Vec::new();
                for text in rest.split(',') {
                    let key = key_of(text.trim())?;
                    ensure!(self.objects.remove(&key).is_some(), "there is no {key}");
                    events.push(Event::Remove(key));
                }
                self.tell(events)?;
            }
            "advance" => {
                let count = if rest.is_empty() { 1 } else { rest.parse()? };
                for _ in 0..count {
                    self.agent()?.advance();
                    self.converge()?;
                }
            }
            "stop" => {
                let agent = self.agent.take().context("it is stopped already")?;
                self.dataplane = Some(agent.into_dataplane());
            }
            "start" => {
                self.start()?;
                let events = self.listing();
                self.tell(events)?;
            }
            "maps" => return Ok(Some(self.dump()?)),
            "problems" => {
                let mut text = String::new();
                for problem in self.agent()?.published().snapshot.problems() {
                    writeln!(text, "{problem}")?;
                }
                return Ok(Some(text));
            }
            "plan" => {
                let snapshot = self.agent()?.published().snapshot.clone();
                return Ok(Some(Plan::of(&snapshot).table(rest == "wide")));
            }
            other => bail!("unknown directive {other:?}"),
        }
        Ok(None)
    }

    fn agent(&mut self) -> anyhow::Result<&mut Reconciler<D>> {
        self.agent.as_mut().context("the agent is stopped")
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let store = Store::new(self.state.path());
        let resolver = Resolver::new(
            &self.node,
            Algorithm::default(),
            self.ranges.clone(),
            store.load()?,
        );
        let dataplane = self.dataplane.take().context("it runs already")?;
        self.agent = Some(Reconciler::new(
            dataplane,
            resolver,
            Some(store),
            self.limits,
        ));
        Ok(())
    }

    fn listing(&self) -> Vec<Event> {
        let puts = self.objects.values().cloned().map(put);
        std::iter::once(Event::Reset)
            .chain(puts)
            .chain(std::iter::once(Event::Synced))
            .collect()
    }

    fn tell(&mut self, events: Vec<Event>) -> anyhow::Result<()> {
        let events = if std::mem::replace(&mut self.has_listed, true) {
            events
        } else {
            self.listing()
        };
        if let Some(agent) = &mut self.agent {
            agent.handle(events);
            self.converge()?;
        }
        Ok(())
    }

    /// Until everything is written; then the difference of everything must be empty (F6).
    fn converge(&mut self) -> anyhow::Result<()> {
        let agent = self.agent()?;
        for _ in 0..1000 {
            let report = if agent.needs_retry() {
                agent.resync()
            } else {
                let report = agent.resync();
                ensure!(report.ops == 0, "{} operations were left over", report.ops);
                report
            };
            if report.failure.is_none() && report.ops == 0 {
                return Ok(());
            }
        }
        bail!("it never comes to an end")
    }

    fn dump(&mut self) -> anyhow::Result<String> {
        let tables = match (&mut self.agent, &mut self.dataplane) {
            (Some(agent), _) => agent.dataplane().dump()?,
            (None, Some(dataplane)) => dataplane.dump()?,
            (None, None) => bail!("there is no dataplane"),
        };
        if let Err(reason) = tables.soundness() {
            bail!("{reason}\n{tables}");
        }
        Ok(tables.to_string())
    }

    /// The objects of a block and of files beside the scenario, as the agent reads and judges them.
    fn objects_of(&self, step: &Step<'_>, files: &str) -> anyhow::Result<Vec<Object>> {
        let folder = tempfile::tempdir()?;
        for file in files.split_whitespace() {
            std::fs::copy(self.folder.join(file), folder.path().join(file))
                .with_context(|| file.to_owned())?;
        }
        std::fs::write(folder.path().join("block.yaml"), step.block.join("\n"))?;
        let mut objects = Vec::new();
        for event in manifests::once(folder.path(), Rules::default())? {
            match event {
                Event::Put(object) => objects.push(*object),
                Event::Problems(problems) => {
                    if let Some(problem) = problems.first() {
                        bail!("{problem}");
                    }
                }
                Event::Reset
                | Event::Remove(_)
                | Event::Synced
                | Event::Changed(_)
                | Event::Machine(_)
                | Event::Conflicts(_)
                | Event::Unprovided(_) => {}
            }
        }
        Ok(objects)
    }
}

fn put(object: Object) -> Event {
    Event::Put(Box::new(object))
}

fn key_of(text: &str) -> anyhow::Result<ObjectKey> {
    let (kind, name) = text.split_once(' ').context("Kind namespace/name")?;
    let kind = match kind {
        "Namespace" => Kind::Namespace,
        "Node" => Kind::Node,
        "Service" => Kind::Service,
        "EndpointSlice" => Kind::EndpointSlice,
        "Pod" => Kind::Pod,
        other => bail!("unknown kind {other}"),
    };
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    Ok(ObjectKey {
        kind,
        name: ObjectName::new(namespace, name),
    })
}
