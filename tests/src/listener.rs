//! `clusterip monitor` in a node, and what it has said so far.

use std::{fs::File, os::unix::fs::FileExt as _};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    Namespace, agent,
    process::{self, Process},
    schema, wait,
};

/// A listener. Killed when dropped.
#[derive(Debug)]
pub struct Listener {
    out: File,
    error: File,
    process: Process,
}

impl Listener {
    /// Starts one with these arguments, and waits until the programs tell it what it wants.
    ///
    /// # Errors
    /// It could not be started, or is not served: the error has its words.
    pub fn start(node: &Namespace, arguments: &[&str]) -> Result<Self> {
        let mut listener = Self::begin(node, arguments)?;
        let is_table = !arguments.contains(&"json");
        wait::until("the listener is served", || {
            let ended = listener.process.ended().ok().flatten().is_some();
            let text = listener.text();
            (ended || text.contains("\"begin\"") || is_table && text.contains("OUTCOME"))
                .then_some(())
        })
        .with_context(|| listener.errors())?;
        ensure!(listener.process.ended()?.is_none(), "{}", listener.errors());
        Ok(listener)
    }

    /// Starts one and waits for nothing.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin(node: &Namespace, arguments: &[&str]) -> Result<Self> {
        let (out, error) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = node.command(agent::binary()?);
        command
            .arg("monitor")
            .args(arguments)
            .stdout(out.try_clone()?)
            .stderr(error.try_clone()?);
        Ok(Self {
            process: process::spawn(command).context("start the listener")?,
            out,
            error,
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// All it has said.
    #[must_use]
    pub fn text(&self) -> String {
        read(&self.out)
    }

    /// All it has complained of.
    #[must_use]
    pub fn errors(&self) -> String {
        read(&self.error)
    }

    /// The events so far, and the lines about the stream; each is what the schema says.
    ///
    /// # Errors
    /// A line that is not.
    pub fn lines(&self) -> Result<Vec<Value>> {
        let schema = schema::read("event")?;
        let text = self.text();
        // The last line may be half of one.
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let line = |text: &str| {
            let line = serde_json::from_str(text).with_context(|| text.to_owned())?;
            schema::check(&schema, &line).with_context(|| text.to_owned())?;
            Ok(line)
        };
        complete.lines().map(line).collect()
    }

    /// Waits for an event of a kind and an outcome, and that `fits`.
    ///
    /// # Errors
    /// None came: the error has those that did.
    pub fn await_event(
        &self,
        kind: &str,
        outcome: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let what = format!("{kind} {outcome} is told");
        wait::until(&what, || {
            let lines = self.lines().ok()?;
            lines
                .into_iter()
                .find(|line| is(line, "kind", kind) && is(line, "outcome", outcome) && fits(line))
        })
        .with_context(|| format!("{}{}", self.text(), self.errors()))
    }

    /// How many lines of a kind there are.
    ///
    /// # Errors
    /// As [`Listener::lines`].
    pub fn count(&self, kind: &str) -> Result<usize> {
        Ok(self
            .lines()?
            .iter()
            .filter(|line| is(line, "kind", kind))
            .count())
    }
}

/// How many events of a kind a text has, and how many are missing in it.
#[must_use]
pub fn told(text: &str, kind: &str) -> (u64, u64) {
    let events = text.matches(&format!("\"kind\":\"{kind}\"")).count();
    let lost = text.split("\"lost\":").skip(1).filter_map(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse::<u64>().ok()
    });
    (u64::try_from(events).unwrap_or_default(), lost.sum())
}

/// Whether a field of an object is this text.
#[must_use]
pub fn is(object: &Value, field: &str, text: &str) -> bool {
    object.get(field).and_then(Value::as_str) == Some(text)
}

fn read(file: &File) -> String {
    let mut text = Vec::new();
    let mut part = vec![0; 65_536];
    // By offset: the listener writes at the place that its file and this one share.
    while let Ok(length @ 1..) = file.read_at(&mut part, text.len() as u64) {
        text.extend_from_slice(part.get(..length).unwrap_or_default());
    }
    String::from_utf8_lossy(&text).into_owned()
}
