//! A watch: what happens, line by line, for as long as the client likes.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream::{Stream, unfold};
use serde_json::{Value, json};
use tokio::{sync::watch, time::timeout_at};

use super::{Shared, selector::Selector, store::Change};

/// What a watch is about, and how far it has come.
pub(super) struct Watcher {
    pub(super) shared: Arc<Shared>,
    pub(super) resource: String,
    pub(super) kind: &'static str,
    pub(super) api_version: &'static str,
    pub(super) namespace: Option<String>,
    pub(super) selector: Selector,
    /// What the client knows.
    pub(super) version: u64,
    /// Lines that are ready.
    pub(super) ready: std::collections::VecDeque<String>,
    pub(super) signals: watch::Receiver<Signals>,
    pub(super) end: tokio::time::Instant,
    pub(super) pause: Option<Duration>,
}

/// What all watches are told.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Signals {
    /// Something happened.
    pub(super) version: u64,
    /// Watches that began before end now; those that broke off, and those that ended as they should.
    pub(super) cuts: u64,
    pub(super) ends: u64,
}

/// A line with an object.
pub(super) fn line(event: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": event, "object": object}))
}

impl Watcher {
    /// A bookmark of the version that the client has come to; `ends_list` is whether the list is complete with it.
    pub(super) fn bookmark(&self, ends_list: bool) -> String {
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if ends_list {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object =
            json!({"kind": self.kind, "apiVersion": self.api_version, "metadata": metadata});
        line("BOOKMARK", &object)
    }

    /// What a change is to this watch.
    fn lines(&self, change: &Change) -> Option<String> {
        match change {
            Change::Bookmark => Some(self.bookmark(false)),
            Change::Line { resource, text } => {
                (*resource == self.resource).then(|| format!("{text}\n"))
            }
            Change::Object {
                resource,
                old,
                new,
                last,
            } => {
                if *resource != self.resource {
                    return None;
                }
                let is_mine = |object: &Option<Arc<Value>>| {
                    object.as_ref().is_some_and(|object| {
                        let namespace = object["metadata"]["namespace"].as_str();
                        let here = self.namespace.as_deref();
                        (here.is_none() || here == namespace) && self.selector.selects(object)
                    })
                };
                let current = new.as_ref().or(last.as_ref())?;
                match (is_mine(old), is_mine(new)) {
                    (false, false) => None,
                    (false, true) => Some(line("ADDED", current)),
                    (true, true) => Some(line("MODIFIED", current)),
                    (true, false) => Some(line("DELETED", current)),
                }
            }
        }
    }

    /// Takes in what happened since.
    fn catch_up(&mut self) {
        let shared = self.shared.clone();
        let store = shared.store();
        while let Some(change) = store.after(self.version) {
            self.version += 1;
            let lines = self.lines(change);
            self.ready.extend(lines);
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, io::Error>> {
        let begun = *self.signals.borrow();
        loop {
            self.catch_up();
            if let Some(pause) = self.pause
                && !self.ready.is_empty()
            {
                tokio::time::sleep(pause).await;
                return self.ready.pop_front().map(|line| Ok(line.into()));
            }
            if !self.ready.is_empty() {
                let all: String = self.ready.drain(..).collect();
                return Some(Ok(all.into()));
            }
            let changed = timeout_at(self.end, self.signals.changed()).await;
            let now = *self.signals.borrow_and_update();
            if now.cuts != begun.cuts {
                return Some(Err(io::Error::other("cut off")));
            }
            if !matches!(changed, Ok(Ok(()))) || now.ends != begun.ends {
                return None;
            }
        }
    }

    /// The body of the answer.
    pub(super) fn stream(self) -> impl Stream<Item = Result<Bytes, io::Error>> {
        unfold(Some(self), async |watcher| {
            let mut watcher = watcher?;
            let next = watcher.next().await?;
            let goes_on = next.is_ok();
            Some((next, goes_on.then_some(watcher)))
        })
    }
}
