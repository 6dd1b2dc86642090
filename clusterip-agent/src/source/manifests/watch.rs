//! A directory that is watched.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use notify_debouncer_full::{
    DebounceEventResult, Debouncer, NoCache, new_debouncer_opt,
    notify::{self, RecommendedWatcher, RecursiveMode},
};
use tokio::sync::mpsc;

use super::{DirectoryError, ManifestSource, list};
use crate::model::{event::Event, validate::Rules};

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
    source: ManifestSource,
    first: Vec<Event>,
    debouncer: Debouncer<RecommendedWatcher, NoCache>,
    changes: mpsc::Receiver<()>,
    watched: Option<Identity>,
}

/// Which directory it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Watch {
    /// Begins to watch a directory and reads it.
    ///
    /// # Errors
    /// The directory is not there, or cannot be read or watched.
    pub fn start(directory: &Path, rules: Rules) -> Result<Self, WatchError> {
        // One waiting word is enough: whatever happened, the whole directory is read.
        let (changed, changes) = mpsc::channel(1);
        let handler = move |result: DebounceEventResult| {
            if let Err(errors) = result {
                log::warn!(errors:? = errors; "watching the manifest directory failed; it is read every {POLL:?}");
            }
            drop(changed.try_send(()));
        };
        let config = notify::Config::default();
        let debouncer = new_debouncer_opt(DEBOUNCE, None, handler, NoCache::new(), config)
            .map_err(|source| failed(directory, source))?;
        let mut watch = Self {
            directory: directory.to_owned(),
            source: ManifestSource::new(rules),
            first: Vec::new(),
            debouncer,
            changes,
            watched: None,
        };
        // Watched first, read afterwards: a change between the two is not lost.
        watch.follow()?;
        let listing = list(directory)?;
        watch.first = watch.source.update(listing);
        Ok(watch)
    }

    /// Sends what the directory says until nobody listens.
    pub async fn run(mut self, events: mpsc::Sender<Vec<Event>>) {
        let first = std::mem::take(&mut self.first);
        if events.send(first).await.is_err() {
            return;
        }
        loop {
            let wait = if self.watched.is_some() {
                POLL
            } else {
                POLL_MISSING
            };
            tokio::select! {
                () = events.closed() => return,
                _ = self.changes.recv() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let said = self.read().await;
            if !said.is_empty() && events.send(said).await.is_err() {
                return;
            }
        }
    }

    async fn read(&mut self) -> Vec<Event> {
        if let Err(error) = self.follow() {
            log::warn!(directory:% = self.directory.display(); "{error}; it is read every {POLL_MISSING:?}");
        }
        let directory = self.directory.clone();
        let listing = tokio::task::spawn_blocking(move || list(&directory)).await;
        match listing {
            Ok(Ok(listing)) => self.source.update(listing),
            Ok(Err(error)) => self.source.unreadable(&self.directory, &error),
            // Only at shutdown.
            Err(_) => Vec::new(),
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
