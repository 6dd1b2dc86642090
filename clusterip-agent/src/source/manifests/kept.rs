//! Copies of the files as they were when all was well, so that an object that turns bad keeps its last good state over
//! a restart too.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Listing, list};
use crate::durable;

/// What becomes of the copy of a file that is in the directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Copy {
    /// This is its last good text.
    Good(Arc<str>),
    /// Something in it is bad: the copy stays.
    Former,
}

/// The copies, in a directory of their own. Without one nothing is kept.
#[derive(Debug, Default)]
pub struct Kept {
    directory: Option<PathBuf>,
    copies: Listing,
    /// The last attempt to write one failed: said once.
    failed: bool,
}

impl Kept {
    /// The copies that an earlier agent left in a directory, which need not be there.
    #[must_use]
    pub fn open(directory: &Path) -> Self {
        let copies = list(directory).unwrap_or_default();
        Self {
            directory: Some(directory.to_owned()),
            copies,
            failed: false,
        }
    }

    /// What they say.
    #[must_use]
    pub fn listing(&self) -> Listing {
        self.copies.clone()
    }

    /// Makes the copies those of the files that there are. Failures are said, and tried again the next time.
    pub fn follow(&mut self, files: Vec<(Arc<str>, Copy)>) {
        let Some(directory) = self.directory.clone() else {
            return;
        };
        let mut result = Ok(());
        let mut gone = std::mem::take(&mut self.copies);
        for (name, copy) in files {
            let before = gone.remove(&name);
            let path = directory.join(&*name);
            let after = match (copy, before) {
                (Copy::Former, before) => before,
                (Copy::Good(text), Some(Ok(before))) if before == text => Some(Ok(text)),
                (Copy::Good(text), before) => {
                    let mut builder = fs::DirBuilder::new();
                    let made = builder.recursive(true).mode(0o700).create(&directory);
                    match made.and_then(|()| durable::replace_soon(&path, text.as_bytes())) {
                        Ok(()) => Some(Ok(text)),
                        Err(error) => {
                            result = Err((path, error));
                            before
                        }
                    }
                }
            };
            if let Some(after) = after {
                self.copies.insert(name, after);
            }
        }
        for name in gone.into_keys() {
            let path = directory.join(&*name);
            if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                result = Err((path, error));
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

    fn good(name: &str, text: &str) -> (Arc<str>, Copy) {
        (name.into(), Copy::Good(text.into()))
    }

    fn texts(directory: &Path) -> Vec<(String, String)> {
        let all = Kept::open(directory).listing().into_iter();
        all.map(|(name, text)| (name.to_string(), text.unwrap().to_string()))
            .collect()
    }

    #[test]
    fn copies_follow_the_good_texts_and_go_with_their_files() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("made/when/needed");
        let mut kept = Kept::open(&directory);
        kept.follow(vec![good("a.yaml", "one"), good("b.yaml", "two")]);
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(
            texts(&directory),
            [pair("a.yaml", "one"), pair("b.yaml", "two")]
        );
        let mut kept = Kept::open(&directory);
        kept.follow(vec![
            ("a.yaml".into(), Copy::Former),
            good("c.yaml", "three"),
        ]);
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
        kept.follow(vec![good("a.yaml", "one")]);
        assert!(kept.failed);
        fs::remove_file(&directory).unwrap();
        kept.follow(vec![good("a.yaml", "one")]);
        assert!(!kept.failed);
        assert_eq!(texts(&directory).len(), 1);
    }
}
