//! Copies of the files as they were when all was well, so that an object that turns bad keeps its last good state over
//! a restart too.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Digest, Listing, digest, list};
use crate::durable;

/// The copies, in a directory of their own. Without one nothing is kept.
#[derive(Debug, Default)]
pub struct Kept {
    directory: Option<PathBuf>,
    /// What an earlier agent left, until somebody takes it.
    left: Listing,
    /// The copies that there are; none of one that cannot be read.
    copies: BTreeMap<Arc<str>, Option<Digest>>,
    /// Texts that could not be written.
    waiting: BTreeMap<Arc<str>, Arc<str>>,
    /// The last attempt to write one failed: said once.
    failed: bool,
}

impl Kept {
    /// The copies that an earlier agent left in a directory, which need not be there.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let left = list(directory).unwrap_or_default();
        let copy = |(name, text): (&Arc<str>, &Result<Arc<str>, String>)| {
            (name.clone(), text.as_deref().ok().map(digest))
        };
        Self {
            directory: Some(directory.to_owned()),
            copies: left.iter().map(copy).collect(),
            left,
            ..Self::default()
        }
    }

    /// What an earlier agent left, the first time.
    #[must_use]
    pub fn take(&mut self) -> Listing {
        std::mem::take(&mut self.left)
    }

    /// The names of copies whose files are not there.
    #[must_use]
    pub fn without(&self, is_there: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let names = self.copies.keys().chain(self.waiting.keys());
        names.filter(|name| !is_there(name)).cloned().collect()
    }

    /// Keeps the texts of files that are good, and no copy of those that are gone. Failures are said, and tried again the
    /// next time.
    pub fn follow(&mut self, good: Vec<(Arc<str>, Arc<str>)>, gone: Vec<Arc<str>>) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        let mut result = Ok(());
        for name in gone {
            self.waiting.remove(&name);
            let path = directory.join(&*name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    result = Err((path, error));
                }
                _ => drop(self.copies.remove(&name)),
            }
        }
        self.waiting.extend(good);
        for (name, text) in std::mem::take(&mut self.waiting) {
            let new = Some(digest(&text));
            if self.copies.get(&name) == Some(&new) {
                continue;
            }
            let path = directory.join(&*name);
            let mut builder = fs::DirBuilder::new();
            let made = builder.recursive(true).mode(0o700).create(&directory);
            match made.and_then(|()| durable::replace_soon(&path, text.as_bytes())) {
                Ok(()) => drop(self.copies.insert(name, new)),
                Err(error) => {
                    result = Err((path, error));
                    self.waiting.insert(name, text);
                }
            }
        }
        match result {
            Ok(()) => self.failed = false,
            Err((path, error)) => {
                if !std::mem::replace(&mut self.failed, true) {
                    log::error!(
                        file:% = path.display(), error:err;
                        "the last good state of manifests is not kept: what turns bad may be lost at the next start"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str, text: &str) -> (Arc<str>, Arc<str>) {
        (name.into(), text.into())
    }

    fn texts(directory: &Path) -> Vec<(String, String)> {
        let all = Kept::open(directory).take().into_iter();
        all.map(|(name, text)| (name.to_string(), text.unwrap().to_string()))
            .collect()
    }

    #[test]
    fn copies_follow_the_good_texts_and_go_with_their_files() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("made/when/needed");
        let mut kept = Kept::open(&directory);
        kept.follow(
            vec![good("a.yaml", "one"), good("b.yaml", "two")],
            Vec::new(),
        );
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            texts(&directory),
            [pair("a.yaml", "one"), pair("b.yaml", "two")]
        );
        let mut kept = Kept::open(&directory);
        let gone = kept.without(|name| name == "a.yaml");
        kept.follow(vec![good("c.yaml", "three")], gone);
        assert_eq!(
            texts(&directory),
            [pair("a.yaml", "one"), pair("c.yaml", "three")]
        );
    }

    #[test]
    fn what_cannot_be_written_is_tried_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("kept");
        fs::write(&directory, "in the way").unwrap();
        let mut kept = Kept::open(&directory);
        kept.follow(vec![good("a.yaml", "one")], Vec::new());
        assert!(kept.failed);
        fs::remove_file(&directory).unwrap();
        kept.follow(Vec::new(), Vec::new());
        assert!(!kept.failed);
        assert_eq!(texts(&directory).len(), 1);
    }
}
