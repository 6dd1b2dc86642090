//! A directory that is watched.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use notify_debouncer_full::{
    DebounceEventResult, Debouncer, NoCache, new_debouncer_opt,
    notify::{
        self, EventKind, RecommendedWatcher, RecursiveMode,
        event::{AccessKind, AccessMode},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{DirectoryError, Kept, ManifestSource, Scan, Stamps};
use crate::{
    clock::timestamp,
    model::{event::Event, object::Spec, validate::Rules},
};

/// How long a directory must be quiet before it is read: an editor writes, renames and removes in one go.
const DEBOUNCE: Duration = Duration::from_millis(60);
/// How often it is read without being told, for what inotify does not see (a link to a file elsewhere, a network file
/// system).
const POLL: Duration = Duration::from_secs(30);
/// The same while it is not there: nothing tells of its return.
const POLL_MISSING: Duration = Duration::from_secs(1);

/// A directory that could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It cannot be read.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The kernel refuses to watch it.
    #[error("watch manifest directory {}", .directory.display())]
    Watch {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: notify::Error,
    },
}

/// A directory that is watched, and what it has said so far.
pub struct Watch {
    directory: PathBuf,
    stamps: Stamps,
    source: ManifestSource,
    kept: Kept,
    /// Texts that are to be kept.
    good: Vec<(Arc<str>, Arc<str>)>,
    first: Vec<Event>,
    debouncer: Debouncer<RecommendedWatcher, NoCache>,
    changes: mpsc::Receiver<()>,
    watched: Option<Identity>,
    /// See [`Scan::again`].
    again: Option<Duration>,
    reload: mpsc::Sender<oneshot::Sender<()>>,
    reloads: mpsc::Receiver<oneshot::Sender<()>>,
}

/// Makes a directory be read at once, whatever the kernel tells of it.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<oneshot::Sender<()>>);

impl Reload {
    /// Returns when it has been read and what it says was passed on, or nobody watches any more.
    pub async fn now(&self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            is_done.await.ok();
        }
    }
}

/// Which directory it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Watch {
    /// Begins to watch a directory and reads it. `kept` are the last good texts of its files.
    ///
    /// # Errors
    /// The directory is not there, or cannot be read or watched.
    pub fn start(directory: &Path, rules: Rules, mut kept: Kept) -> Result<Self, WatchError> {
        // One waiting word is enough: whatever happened, the whole directory is read.
        let (nudge, changes) = mpsc::channel(1);
        let (reload, reloads) = mpsc::channel(1);
        let handler = move |result: DebounceEventResult| {
            match result {
                Ok(events) if events.iter().all(|event| is_a_look(event.kind)) => return,
                Ok(_) => {}
                Err(errors) => {
                    log::warn!(errors:? = errors; "watching the manifest directory failed; it is read every {POLL:?}");
                }
            }
            // Full means that the reading to come will see this too.
            nudge.try_send(()).ok();
        };
        let config = notify::Config::default();
        let debouncer = new_debouncer_opt(DEBOUNCE, None, handler, NoCache::new(), config)
            .map_err(|source| failed(directory, source))?;
        let mut source = ManifestSource::new(rules);
        source.remember(kept.take());
        let mut watch = Self {
            directory: directory.to_owned(),
            stamps: Stamps::default(),
            source,
            kept,
            good: Vec::new(),
            first: Vec::new(),
            debouncer,
            changes,
            watched: None,
            again: None,
            reload,
            reloads,
        };
        // Watched first, read afterwards: a change between the two is not lost.
        watch.follow()?;
        let scan = watch.stamps.scan(directory, SystemTime::now())?;
        watch.first = watch.take(scan);
        Ok(watch)
    }

    /// What makes it be read at once.
    #[must_use]
    pub fn reload(&self) -> Reload {
        Reload(self.reload.clone())
    }

    /// Sends what the directory says until nobody listens.
    pub async fn run(mut self, events: mpsc::Sender<Vec<Event>>) {
        let first = std::mem::take(&mut self.first);
        if events.send(first).await.is_err() {
            return;
        }
        self.keep().await;
        loop {
            let wait = match self.again {
                _ if self.watched.is_none() => POLL_MISSING,
                Some(again) => again,
                None => POLL,
            };
            let mut asked = None;
            tokio::select! {
                () = events.closed() => return,
                _ = self.changes.recv() => {}
                done = self.reloads.recv() => asked = done,
                () = tokio::time::sleep(wait) => {}
            }
            let said = self.read().await;
            if !said.is_empty() && events.send(said).await.is_err() {
                return;
            }
            if let Some(done) = asked {
                done.send(()).ok();
            }
            self.keep().await;
        }
    }

    /// What a look into the directory says.
    fn take(&mut self, scan: Scan) -> Vec<Event> {
        self.again = scan.again;
        let read = scan.read.clone();
        let events = self.source.update(scan);
        self.good.extend(self.source.good(read));
        events
    }

    /// After what was read has been told: nobody waits for this.
    async fn keep(&mut self) {
        let good = std::mem::take(&mut self.good);
        let gone = self.kept.without(|name| self.source.has(name));
        let mut kept = std::mem::take(&mut self.kept);
        let done = tokio::task::spawn_blocking(move || {
            kept.follow(good, gone);
            kept
        });
        // An error only at shutdown.
        self.kept = done.await.unwrap_or_default();
    }

    async fn read(&mut self) -> Vec<Event> {
        if let Err(error) = self.follow() {
            log::warn!(directory:% = self.directory.display(); "{error}; it is read every {POLL_MISSING:?}");
        }
        let directory = self.directory.clone();
        let mut stamps = std::mem::take(&mut self.stamps);
        let work = tokio::task::spawn_blocking(move || {
            let scan = stamps.scan(&directory, SystemTime::now());
            (stamps, scan)
        });
        // Fails only at shutdown.
        let Ok((stamps, scan)) = work.await else {
            return Vec::new();
        };
        self.stamps = stamps;
        match scan {
            Ok(scan) => {
                let mut events = self.take(scan);
                events.extend(changes(&self.directory, &events));
                events
            }
            Err(error) => self.source.unreadable(&self.directory, &error),
        }
    }

    /// Watches the directory that has the name now: it may have been taken away and made again.
    fn follow(&mut self) -> Result<(), WatchError> {
        let now = identity(&self.directory);
        if now == self.watched {
            return Ok(());
        }
        if self.watched.take().is_some() {
            // Fails if the kernel has dropped the watch together with the directory.
            drop(self.debouncer.unwatch(&self.directory));
        }
        if now.is_some() {
            self.debouncer
                .watch(&self.directory, RecursiveMode::NonRecursive)
                .map_err(|source| failed(&self.directory, source))?;
            self.watched = now;
        }
        Ok(())
    }
}

/// Whether it tells of somebody who reads: this agent above all, which would be told of itself for ever.
const fn is_a_look(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

/// When the files behind events were written (F8); for what is gone, when the directory was. A slice says itself when
/// its endpoints changed.
fn changes(directory: &Path, events: &[Event]) -> Vec<Event> {
    let mut files = BTreeSet::new();
    for event in events {
        match event {
            Event::Put(object) if !says_when(&object.spec) => {
                files.insert(directory.join(&*object.origin.file));
            }
            Event::Remove(_) => {
                files.insert(directory.to_owned());
            }
            _ => {}
        }
    }
    let written = |path: PathBuf| std::fs::metadata(path).ok()?.modified().ok();
    let times = files.into_iter().filter_map(written);
    times.map(|time| Event::Changed(timestamp(time))).collect()
}

fn says_when(spec: &Spec) -> bool {
    let Spec::EndpointSlice(slice) = spec else {
        return false;
    };
    slice.says_when
}

fn identity(directory: &Path) -> Option<Identity> {
    let metadata = std::fs::metadata(directory).ok()?;
    Some(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

fn failed(directory: &Path, source: notify::Error) -> WatchError {
    WatchError::Watch {
        directory: directory.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
