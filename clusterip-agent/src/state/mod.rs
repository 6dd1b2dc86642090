//! What is kept across restarts: which service has which address and node ports.
//!
//! All of it is in one file that is replaced at one stroke; what changed since then is in a journal beside it, so that a change
//! costs no more where there are many services.

mod journal;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use journal::Journal;

use crate::{
    durable,
    model::allocate::{Allocations, Changes},
};

const FILE: &str = "allocations.json";
const JOURNAL: &str = "allocations.journal";

/// Failure to keep or find allocations.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be made.
    #[error("make state directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is there and cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The state directory (`--state-dir`).
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// None before the first time that all was written.
    journal: Option<Journal>,
}

impl Store {
    /// The state directory of that path; it is made when something is kept.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            journal: None,
        }
    }

    /// What was kept; nothing if nothing was, or if that is damaged: then it is set aside and the log says so.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn load(&self) -> Result<Allocations, StateError> {
        let (whole, journal) = (self.path(FILE), self.path(JOURNAL));
        let Some(bytes) = read(&whole)? else {
            // Nobody knows what its changes were made to.
            return Ok(Allocations::new());
        };
        let mut allocations = match text::parse(&String::from_utf8_lossy(&bytes)) {
            Ok(allocations) => allocations,
            Err(reason) => {
                set_aside(&whole, &reason);
                return Ok(Allocations::new());
            }
        };
        let Some(changes) = read(&journal)? else {
            return Ok(allocations);
        };
        let journal::Read { changes, damage } = journal::read(&changes, &journal::checksum(&bytes));
        if let Some(reason) = &damage {
            copy_aside(&journal, reason);
        }
        for change in changes {
            if damage.is_some() {
                // That somebody gave it back may be in the part that is lost.
                take_over(&mut allocations, &change);
            }
            allocations.apply(change);
        }
        if let Some(twice) = allocations.twice() {
            copy_aside(&journal, &format!("{twice} is there twice"));
            return Ok(Allocations::new());
        }
        Ok(allocations)
    }

    /// Keeps changes: after this they survive a crash of the machine. `whole` is asked for all that there is now, if it is time to
    /// write that.
    ///
    /// # Errors
    /// What could not be written; the former state is whole then.
    pub fn save(
        &mut self,
        changes: &Changes,
        whole: impl FnOnce() -> Allocations,
    ) -> Result<(), StateError> {
        let path = self.path(JOURNAL);
        let failed = |source| StateError::Write { path, source };
        let line = match text::changes_text(changes) {
            Ok(text) => journal::line(&text),
            Err(error) => return Err(failed(error.into())),
        };
        match &mut self.journal {
            Some(journal) if journal.takes(&line) => journal.add(&line).map_err(failed),
            _ => self.save_whole(&whole()),
        }
    }

    /// Keeps all allocations.
    fn save_whole(&mut self, allocations: &Allocations) -> Result<(), StateError> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(|source| StateError::Directory {
            path: directory.clone(),
            source,
        })?;
        let (path, journal) = (self.path(FILE), self.path(JOURNAL));
        self.journal = None;
        let bytes = text::text(allocations).map_err(io::Error::from);
        let written = bytes.and_then(|bytes| durable::replace(&path, &bytes).map(|()| bytes));
        let bytes = written.map_err(|source| StateError::Write {
            path: path.clone(),
            source,
        })?;
        // An earlier journal is none of this file. Without a new one all is written the next time, too.
        self.journal = Journal::begin(&journal, &path, &bytes).ok();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Where a damaged file is kept for whoever wants to know the cause.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

fn set_aside(path: &Path, reason: &str) {
    match fs::rename(path, aside(path)) {
        Ok(()) => log::error!(
            file:% = aside(path).display(), reason:%;
            "allocations are damaged: set aside, addresses come from the dataplane or are allocated anew"
        ),
        // Nor can it be written then, which is said each time it fails.
        Err(error) => log::error!(
            file:% = path.display(), reason:%, error:err;
            "allocations are damaged, and cannot be set aside"
        ),
    }
}

/// What is whole of it is still needed, until all is written anew.
fn copy_aside(path: &Path, reason: &str) {
    match fs::copy(path, aside(path)) {
        Ok(_) => log::error!(
            file:% = aside(path).display(), reason:%;
            "changes of allocations are damaged: copied aside, what is whole counts"
        ),
        Err(error) => log::error!(
            file:% = path.display(), reason:%, error:err;
            "changes of allocations are damaged, and cannot be copied aside: what is whole counts"
        ),
    }
}

/// Takes the addresses that a change gives from whoever has them.
fn take_over(allocations: &mut Allocations, change: &Changes) {
    let given: Vec<_> = change.addresses.values().flatten().collect();
    allocations.addresses.retain(|_, held| {
        held.retain(|address| !given.contains(&address));
        !held.is_empty()
    });
}
