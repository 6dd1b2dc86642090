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
mod lease;
mod reader;
mod scalar;
mod tree;
mod typed;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher as _,
    path::Path,
    sync::Arc,
};

use file::{Content, Found};
use siphasher::sip128::{Hasher128 as _, SipHasher24};

pub use directory::{DirectoryError, Listing, Scan, Stamps, list};
pub use kept::Kept;
pub use watch::{Reload, Watch, WatchError};

use crate::model::{
    event::Event,
    facts::Names,
    object::{Object, ObjectKey, Spec},
    problem::{Fault, Problem, Shapes},
    validate::{self, Rules},
};

/// Turns successive contents of a directory into events.
#[derive(Debug)]
pub struct ManifestSource {
    rules: Rules,
    shared: Shared,
    files: BTreeMap<Arc<str>, File>,
    objects: BTreeMap<ObjectKey, Known>,
    /// Objects that are held though no file defines them any more.
    orphans: BTreeSet<ObjectKey>,
    /// What is wrong with definitions beside others, and with changes.
    conflicts: BTreeMap<ObjectKey, Vec<Problem>>,
    /// What was said last; none before the first listing.
    problems: Option<Vec<Problem>>,
}

/// What objects share with each other.
#[derive(Default, Debug)]
struct Shared {
    shapes: Shapes,
    names: Names,
}

#[derive(Debug)]
struct File {
    text: Result<Digest, String>,
    content: Content,
}

/// What is known of an object.
#[derive(Default, Debug)]
struct Known {
    /// The files that define it, by name.
    files: Vec<Arc<str>>,
    /// Its last good state, which says which file it is from.
    held: Option<Arc<Object>>,
}

/// What a text is known by again: the text itself would be a second copy of everything.
type Digest = (u64, u64);

fn digest(text: &str) -> Digest {
    let mut hasher = SipHasher24::new();
    hasher.write(text.as_bytes());
    hasher.finish128().as_u64()
}

impl ManifestSource {
    /// A source that has said nothing yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            shared: Shared::default(),
            files: BTreeMap::new(),
            objects: BTreeMap::new(),
            orphans: BTreeSet::new(),
            conflicts: BTreeMap::new(),
            problems: None,
        }
    }

    /// Before the first update: the last good texts of an earlier agent. What is bad now has its last good state from
    /// them; what is good now counts as it is, whatever it was before.
    pub fn remember(&mut self, kept: Listing) {
        for key in self.read(kept.into()) {
            // Nobody has seen it yet: the first update tells it.
            let _event = self.settle(&key);
        }
    }

    /// Whether there is a file of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Of the files that the last update read, those with which no last good state would be lost: their texts are to be
    /// kept. A file that is not among them had better be remembered as it was.
    pub fn good(&self, read: Listing) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        read.into_iter().filter_map(|(name, text)| {
            let content = &self.files.get(&name)?.content;
            // What was never good is not lost with this text.
            let is_lost = |found: &Found| {
                let held = self.objects.get(&found.key).and_then(|it| it.held.as_ref());
                found.object.is_none() && held.is_some_and(|held| held.origin.file == name)
            };
            let loses = content.has_unidentified || content.found.iter().any(is_lost);
            text.ok().filter(|_| !loses).map(|text| (name, text))
        })
    }

    /// What the directory's content means. The first time: `Reset`, all objects, `Synced`, `Problems`. Later: what is
    /// different, and `Problems` if they are. Only what the changed files define is looked at.
    pub fn update(&mut self, found: impl Into<Scan>) -> Vec<Event> {
        let is_first = self.problems.is_none();
        let mut events = Vec::new();
        if is_first {
            events.push(Event::Reset);
        }
        // The first time all is told, also what is as it was before an earlier agent ended.
        let touched = self.read(found.into());
        let told = if is_first {
            self.objects.keys().cloned().collect()
        } else {
            touched
        };
        let mut gone = Vec::new();
        for key in told {
            match self.settle(&key) {
                Some(event @ Event::Remove(_)) => gone.push(event),
                event => events.extend(event),
            }
        }
        events.extend(gone);
        if is_first {
            events.push(Event::Synced);
        }
        let mut problems: Vec<Problem> = self
            .files
            .values()
            .flat_map(|file| &file.content.problems)
            .chain(self.conflicts.values().flatten())
            .cloned()
            .collect();
        problems.sort();
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

    /// Reads the files that are not as they were; the objects that this may concern.
    fn read(&mut self, found: Scan) -> BTreeSet<ObjectKey> {
        let Scan {
            read,
            same,
            again: _,
        } = found;
        let gone: Vec<Arc<str>> = self
            .files
            .keys()
            .filter(|name| !read.contains_key(*name) && !same.contains(*name))
            .cloned()
            .collect();
        let mut touched = BTreeSet::new();
        for name in gone {
            self.forget(&name, &mut touched);
        }
        for (name, text) in read {
            let known = text.as_ref().map(|text| digest(text));
            let known = known.map_err(String::clone);
            if self.files.get(&name).is_some_and(|file| file.text == known) {
                continue;
            }
            self.forget(&name, &mut touched);
            let content = match text {
                Ok(text) => file::read(&name, &text, &self.rules, &mut self.shared),
                Err(message) => file::unreadable(&name, message),
            };
            for ignored in &content.ignored {
                let file::Ignored { line, kind } = ignored;
                log::info!(file:% = name, line, kind:% = kind; "ignored: this kind has no effect on services");
            }
            for Found { key, .. } in &content.found {
                let files = &mut self.objects.entry(key.clone()).or_default().files;
                if let Err(place) = files.binary_search(&name) {
                    // Nearly always one.
                    files.reserve_exact(1);
                    files.insert(place, name.clone());
                }
                touched.insert(key.clone());
            }
            self.files.insert(
                name,
                File {
                    text: known,
                    content,
                },
            );
        }
        touched
    }

    /// Takes a file out, and its name from what it defined.
    fn forget(&mut self, name: &Arc<str>, touched: &mut BTreeSet<ObjectKey>) {
        let Some(file) = self.files.remove(name) else {
            return;
        };
        for Found { key, .. } in file.content.found {
            if let Some(known) = self.objects.get_mut(&key) {
                known.files.retain(|file| file != name);
            }
            touched.insert(key);
        }
        let is_from = |key: &&ObjectKey| {
            let held = self.objects.get(*key).and_then(|it| it.held.as_ref());
            held.is_some_and(|held| held.origin.file == *name)
        };
        touched.extend(self.orphans.iter().filter(is_from).cloned());
    }

    /// Which definition of an object counts, and what is wrong with the others.
    fn settle(&mut self, key: &ObjectKey) -> Option<Event> {
        // Nobody has seen yet what an earlier agent saw.
        let is_first = self.problems.is_none();
        let known = self.objects.get(key)?;
        let before = known.held.as_ref();
        let claims: Vec<(&Arc<str>, &Found)> = known
            .files
            .iter()
            .filter_map(|name| Some((name, self.files.get(name)?)))
            .flat_map(|(name, file)| file.content.of(key).map(move |found| (name, found)))
            .collect();
        let mut problems = Vec::new();
        let after = if let Some((file, found)) = winner(&claims, before) {
            problems.extend(duplicates(&claims, file, found));
            let faults = if is_first {
                Vec::new()
            } else {
                changes(before, found)
            };
            let good = found.object.clone().filter(|_| faults.is_empty());
            if let Some(object) = &found.object {
                let faults = faults.into_iter();
                problems.extend(faults.map(|fault| fault.at(key, &object.origin)));
            }
            good.or_else(|| before.cloned())
        } else {
            // What a file no longer shows may be in the part of it that cannot be read.
            let may_be_meant = |held: &&Arc<Object>| {
                let file = self.files.get(&held.origin.file);
                file.is_some_and(|file| file.content.has_unidentified)
            };
            before.filter(may_be_meant).cloned()
        };
        let event = match (before.filter(|_| !is_first), &after) {
            (Some(before), Some(after)) if Arc::ptr_eq(before, after) || before == after => None,
            (_, Some(after)) => Some(Event::Put(Box::new(after.as_ref().clone()))),
            (Some(_), None) => Some(Event::Remove(key.clone())),
            (None, None) => None,
        };
        if claims.is_empty() && after.is_some() {
            self.orphans.insert(key.clone());
        } else {
            self.orphans.remove(key);
        }
        let is_known = !claims.is_empty() || after.is_some();
        if problems.is_empty() {
            self.conflicts.remove(key);
        } else {
            self.conflicts.insert(key.clone(), problems);
        }
        if !is_known {
            self.objects.remove(key);
        } else if let Some(known) = self.objects.get_mut(key) {
            known.held = after;
        }
        event
    }
}

/// Who had the object keeps it; else the first good definition by file name and place, else the first.
fn winner<'a>(
    claims: &[(&'a Arc<str>, &'a Found)],
    before: Option<&Arc<Object>>,
) -> Option<(&'a Arc<str>, &'a Found)> {
    claims
        .iter()
        .find(|(file, _)| before.is_some_and(|held| held.origin.file == **file))
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
fn changes(before: Option<&Arc<Object>>, found: &Found) -> Vec<Fault> {
    let before = before.map(|held| &held.spec);
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
