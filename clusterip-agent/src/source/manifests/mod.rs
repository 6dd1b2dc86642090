//! Objects from a directory of YAML and JSON files.
//!
//! ```text
//! directory --list--> texts --file::read--> objects and problems --ManifestSource--> Events
//!                             document: a file as a row of documents
//!                             build:    a document as a tree with positions
//!                             typed:    a tree as an object of the API
//! ```
//! Bad input never stops good input: a broken document hides no other, an object that turns bad keeps its last good
//! state, and a file that can no longer be read keeps the objects it had.

mod build;
mod directory;
mod document;
mod file;
mod kept;
mod kinds;
mod reader;
mod scalar;
mod tree;
mod typed;
mod watch;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::Path,
    sync::Arc,
};

use file::{Content, Found};

pub use directory::{DirectoryError, Listing, list};
pub use kept::{Copy, Kept};
pub use watch::{Watch, WatchError};

use crate::model::{
    event::Event,
    object::{Object, ObjectKey, Spec},
    problem::{Fault, Problem},
    validate::{self, Rules},
};

/// Turns successive contents of a directory into events.
#[derive(Debug)]
pub struct ManifestSource {
    rules: Rules,
    files: BTreeMap<Arc<str>, File>,
    held: BTreeMap<ObjectKey, Held>,
    /// What was said last; none before the first listing.
    problems: Option<Vec<Problem>>,
}

#[derive(Debug)]
struct File {
    text: Result<Arc<str>, String>,
    content: Content,
}

/// The last good state of an object, and the file that it is from.
#[derive(Clone, PartialEq, Debug)]
struct Held {
    file: Arc<str>,
    object: Arc<Object>,
}

impl ManifestSource {
    /// A source that has said nothing yet.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self {
            rules,
            files: BTreeMap::new(),
            held: BTreeMap::new(),
            problems: None,
        }
    }

    /// Before the first update: the last good texts of an earlier agent. What is bad now has its last good state from
    /// them; what is good now counts as it is, whatever it was before.
    pub fn remember(&mut self, kept: Listing) {
        self.read(kept);
        let (held, _problems) = self.resolve();
        self.held = held;
    }

    /// For each file what is to be kept of it.
    #[must_use]
    pub fn copies(&self) -> Vec<(Arc<str>, Copy)> {
        let copies = self.files.iter().map(|(name, File { text, content })| {
            // What was never good is not lost with this text.
            let is_lost = |found: &Found| {
                let held = self.held.get(&found.key);
                found.object.is_none() && held.is_some_and(|held| held.file == *name)
            };
            let copy = match text {
                Ok(text) if !content.has_unidentified && !content.found.iter().any(is_lost) => {
                    Copy::Good(text.clone())
                }
                _ => Copy::Former,
            };
            (name.clone(), copy)
        });
        copies.collect()
    }

    /// What the directory's content means. The first time: `Reset`, all objects, `Synced`, `Problems`. Later: what is
    /// different, and `Problems` if they are.
    pub fn update(&mut self, listing: Listing) -> Vec<Event> {
        self.read(listing);
        let (next, problems) = self.resolve();
        let is_first = self.problems.is_none();
        let mut events = Vec::new();
        if is_first {
            events.push(Event::Reset);
        }
        for (key, held) in &next {
            let is_same = self.held.get(key).is_some_and(|before| {
                Arc::ptr_eq(&before.object, &held.object) || before.object == held.object
            });
            if is_first || !is_same {
                events.push(Event::Put(Box::new(held.object.as_ref().clone())));
            }
        }
        let gone = self.held.keys().filter(|key| !next.contains_key(key));
        events.extend(
            gone.filter(|_| !is_first)
                .map(|key| Event::Remove(key.clone())),
        );
        if is_first {
            events.push(Event::Synced);
        }
        self.held = next;
        events.extend(self.tell(problems));
        events
    }

    /// The directory cannot be read: a problem, and everything stays as it is.
    pub fn unreadable(&mut self, directory: &Path, error: &DirectoryError) -> Vec<Event> {
        let problem = Problem {
            file: directory.display().to_string().into(),
            line: 0,
            column: 0,
            object: String::new(),
            field: String::new(),
            value: String::new(),
            message: format!("{error}; what it defined stays in force until it is back"),
        };
        self.tell(vec![problem]).into_iter().collect()
    }

    fn tell(&mut self, problems: Vec<Problem>) -> Option<Event> {
        if self.problems.as_ref() == Some(&problems) {
            return None;
        }
        self.problems = Some(problems.clone());
        Some(Event::Problems(problems))
    }

    /// Reads the files that are not as they were.
    fn read(&mut self, listing: Listing) {
        self.files.retain(|name, _| listing.contains_key(name));
        for (name, text) in listing {
            let slot = match self.files.entry(name.clone()) {
                Entry::Occupied(same) if same.get().text == text => continue,
                slot => slot,
            };
            let content = match &text {
                Ok(text) => file::read(&name, text, &self.rules),
                Err(message) => file::unreadable(&name, message.clone()),
            };
            for ignored in &content.ignored {
                let file::Ignored { line, kind } = ignored;
                log::info!(file:% = name, line, kind:% = kind; "ignored: this kind has no effect on services");
            }
            slot.insert_entry(File { text, content });
        }
    }

    /// Which definition of each object counts, and all that is wrong.
    fn resolve(&self) -> (BTreeMap<ObjectKey, Held>, Vec<Problem>) {
        let mut problems: Vec<Problem> = Vec::new();
        let mut claims: BTreeMap<&ObjectKey, Vec<(&Arc<str>, &Found)>> = BTreeMap::new();
        for (name, File { text: _, content }) in &self.files {
            problems.extend(content.problems.iter().cloned());
            for found in &content.found {
                claims.entry(&found.key).or_default().push((name, found));
            }
        }
        let mut next = BTreeMap::new();
        for (key, claims) in &claims {
            let before = self.held.get(*key);
            let Some((file, found)) = winner(claims, before) else {
                continue;
            };
            problems.extend(duplicates(claims, file, found));
            // Nobody has seen yet what an earlier agent saw.
            let faults = if self.problems.is_some() {
                changes(before, found)
            } else {
                Vec::new()
            };
            if let Some(object) = found.object.clone().filter(|_| faults.is_empty()) {
                let file = file.clone();
                next.insert((*key).clone(), Held { file, object });
            } else if let Some(before) = before {
                next.insert((*key).clone(), before.clone());
            }
            if let Some(object) = &found.object {
                let faults = faults.into_iter();
                problems.extend(faults.map(|fault| fault.at(key, &object.origin)));
            }
        }
        // What a file no longer shows may be in the part of it that cannot be read.
        for (key, held) in &self.held {
            let may_be_meant = || {
                let file = self.files.get(&held.file);
                file.is_some_and(|file| file.content.has_unidentified)
            };
            if !claims.contains_key(key) && may_be_meant() {
                next.insert(key.clone(), held.clone());
            }
        }
        problems.sort();
        (next, problems)
    }
}

/// Who had the object keeps it; else the first good definition by file name and place, else the first.
fn winner<'a>(
    claims: &[(&'a Arc<str>, &'a Found)],
    before: Option<&Held>,
) -> Option<(&'a Arc<str>, &'a Found)> {
    claims
        .iter()
        .find(|(file, _)| before.is_some_and(|held| held.file == **file))
        .or_else(|| claims.iter().find(|(_, found)| found.object.is_some()))
        .or_else(|| claims.first())
        .copied()
}

fn duplicates<'a>(
    claims: &'a [(&'a Arc<str>, &'a Found)],
    file: &'a Arc<str>,
    winner: &'a Found,
) -> impl Iterator<Item = Problem> + 'a {
    claims
        .iter()
        .filter(|(_, found)| !std::ptr::eq(*found, winner))
        .map(move |(other, found)| Problem {
            file: (*other).clone(),
            line: found.position.line,
            column: found.position.column,
            object: found.key.to_string(),
            field: String::new(),
            value: String::new(),
            message: format!(
                "defined twice: {file}, line {}, has it and counts; take one of them away or give this one another name",
                winner.position.line
            ),
        })
}

/// What may not change while an object lives.
fn changes(before: Option<&Held>, found: &Found) -> Vec<Fault> {
    let before = before.map(|held| &held.object.spec);
    let after = found.object.as_ref().map(|object| &object.spec);
    match (before, after) {
        (Some(Spec::Service(before)), Some(Spec::Service(after))) => {
            validate::service_change(before, after)
        }
        (Some(Spec::EndpointSlice(before)), Some(Spec::EndpointSlice(after))) => {
            validate::endpoint_slice_change(before, after)
        }
        _ => Vec::new(),
    }
}

/// Reads a directory once, for `check` and `plan`.
///
/// # Errors
/// The directory could not be read.
pub fn once(directory: &Path, rules: Rules) -> Result<Vec<Event>, DirectoryError> {
    let listing = list(directory)?;
    Ok(ManifestSource::new(rules).update(listing))
}

#[cfg(test)]
mod tests;
