//! Files that are whole whenever this was cut off: one that is replaced at one stroke, of which a reader sees the old text or the
//! new one, and one that only grows.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// What is in the files is nobody else's affair.
const MODE: u32 = 0o600;

/// One step. They are data, so that a test can stop after each.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// Writes the text beside the file.
    Draft { draft: &'a Path, text: &'a [u8] },
    /// The text is on disk before anything leads to it.
    Sync { draft: &'a Path },
    /// The stroke.
    Name { draft: &'a Path, path: &'a Path },
    /// The name is on disk too.
    SyncDirectory { directory: &'a Path },
}

impl Step<'_> {
    fn carry_out(self) -> io::Result<()> {
        match self {
            Self::Draft { draft, text } => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(MODE);
                options.open(draft)?.write_all(text)
            }
            Self::Sync { draft } => File::open(draft)?.sync_all(),
            Self::Name { draft, path } => fs::rename(draft, path),
            Self::SyncDirectory { directory } => File::open(directory)?.sync_all(),
        }
    }
}

/// Its name is hidden, and always the same: what a crash leaves is overwritten.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn steps<'a>(path: &'a Path, draft: &'a Path, text: &'a [u8]) -> [Step<'a>; 4] {
    let directory = path.parent().unwrap_or(Path::new("/"));
    [
        Step::Draft { draft, text },
        Step::Sync { draft },
        Step::Name { draft, path },
        Step::SyncDirectory { directory },
    ]
}

/// Replaces a file, so that it survives a crash of the machine.
///
/// # Errors
/// What failed; the former text is whole then.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    carry_out(path, &steps(path, &draft_of(path), text))
}

/// Replaces a file, so that it survives a crash of this process; that of the machine may leave it empty.
///
/// # Errors
/// As for [`replace`].
pub fn replace_soon(path: &Path, text: &[u8]) -> io::Result<()> {
    let draft = draft_of(path);
    let [write, _, name, _] = steps(path, &draft, text);
    carry_out(path, &[write, name])
}

/// A file that only grows. It is open no longer than it takes: its file system may be made read-only at any time.
#[derive(Debug)]
pub struct Growing {
    path: PathBuf,
    /// As far as it is known to be good.
    length: u64,
}

impl Growing {
    /// Begins one with a text, in the place of another file of that name.
    ///
    /// # Errors
    /// As for [`replace`].
    pub fn begin(path: &Path, text: &[u8]) -> io::Result<Self> {
        replace(path, text)?;
        Ok(Self {
            path: path.to_owned(),
            length: size(text),
        })
    }

    /// Its name.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long it is, in bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Adds a text, so that it survives a crash of the machine.
    ///
    /// # Errors
    /// What failed; a part of the text may be there until the next one, which takes its place.
    pub fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path)?;
        file.set_len(self.length)?;
        file.write_all_at(text, self.length)?;
        file.sync_data()?;
        self.length += size(text);
        Ok(())
    }
}

fn size(text: &[u8]) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn carry_out(path: &Path, steps: &[Step<'_>]) -> io::Result<()> {
    let done = steps.iter().try_for_each(|step| step.carry_out());
    if done.is_err() {
        // It may be what fills the disk. That it cannot be removed is no news.
        drop(fs::remove_file(draft_of(path)));
    }
    done
}

/// Replaces a file and is cut off: after `count` steps, and after `length` bytes of the text if only that step was begun.
#[cfg(test)]
pub(crate) fn replace_in_part(path: &Path, text: &[u8], count: usize, length: usize) {
    let draft = draft_of(path);
    if count == 0 {
        let text = &text[..length.min(text.len())];
        Step::Draft {
            draft: &draft,
            text,
        }
        .carry_out()
        .unwrap();
    }
    for step in steps(path, &draft, text).iter().take(count) {
        step.carry_out().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept.json");
        for replace in [replace, replace_soon] {
            for text in ["one", "two, which is longer", ""] {
                replace(&path, text.as_bytes()).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
            }
        }
        let count = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(count, 1);
    }

    #[test]
    fn a_failure_leaves_the_former_text_and_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kept.json");
        // A name that is a folder with something in it cannot be taken.
        fs::create_dir_all(path.join("in the way")).unwrap();
        replace(&path, b"text").unwrap_err();
        assert!(path.join("in the way").exists());
        assert!(!draft_of(&path).exists());
    }
}
