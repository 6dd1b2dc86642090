//! What is in a manifest directory now.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Bytes of a file above which it is surely no manifest.
const MAX_BYTES: u64 = 64 << 20;

/// A file that changed so shortly before it was read may change again without a new time: some file systems count in steps of
/// two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// The files of a directory by name: the text, or why it could not be read.
pub type Listing = BTreeMap<Arc<str>, Result<Arc<str>, String>>;

/// A directory that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not there.
    #[error("manifest directory {} does not exist; create it, or name another with --manifests", .0.display())]
    Missing(PathBuf),
    /// It is something else.
    #[error("{} is not a directory; --manifests takes the directory that holds the files", .0.display())]
    NotADirectory(PathBuf),
    /// It cannot be read.
    #[error("read manifest directory {}", .directory.display())]
    Read {
        /// Which.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a look into a directory found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// The files that were read.
    pub read: Listing,
    /// The files that are as they were the last time.
    pub same: BTreeSet<Arc<str>>,
}

impl From<Listing> for Scan {
    fn from(read: Listing) -> Self {
        Self {
            read,
            same: BTreeSet::new(),
        }
    }
}

/// By what it is seen that a file is as it was, without a look into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that is read now; none if it could change without being noticed.
    fn of(metadata: &Metadata, now: SystemTime) -> Option<Self> {
        let stamp = Self::new(metadata);
        let (seconds, _) = stamp.changed;
        let changed = Duration::from_secs(u64::try_from(seconds).ok()?);
        let age = now.duration_since(SystemTime::UNIX_EPOCH + changed).ok()?;
        (age > SETTLED).then_some(stamp)
    }

    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The files that need not be read again.
#[derive(Clone, Debug, Default)]
pub struct Stamps(BTreeMap<Arc<str>, Stamp>);

impl Stamps {
    /// Reads what is new in a directory: of its `*.yaml`, `*.yml` and `*.json`, but not of the directories in it, and no
    /// hidden file (editors and `ConfigMap` volumes keep their own there).
    ///
    /// # Errors
    /// The directory could not be read. A file that could not be read is part of the answer.
    pub fn scan(&mut self, directory: &Path, now: SystemTime) -> Result<Scan, DirectoryError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DirectoryError::Missing(directory.to_owned()),
            io::ErrorKind::NotADirectory => DirectoryError::NotADirectory(directory.to_owned()),
            _ => DirectoryError::Read {
                directory: directory.to_owned(),
                source,
            },
        };
        let mut scan = Scan::default();
        let mut stamps = BTreeMap::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if !is_manifest(&name) {
                continue;
            }
            let known = self.0.get_key_value(&*name);
            match look(&entry.path(), known.map(|(_, stamp)| *stamp), now) {
                Look::Absent => {}
                Look::Same => {
                    if let Some((name, stamp)) = known {
                        stamps.insert(name.clone(), *stamp);
                        scan.same.insert(name.clone());
                    }
                }
                Look::Unreadable(why) => {
                    scan.read.insert(name.as_ref().into(), Err(why));
                }
                Look::Text(text, stamp) => {
                    let name: Arc<str> = name.as_ref().into();
                    stamps.extend(stamp.map(|stamp| (name.clone(), stamp)));
                    scan.read.insert(name, Ok(text.into()));
                }
            }
        }
        self.0 = stamps;
        Ok(scan)
    }
}

/// Reads every manifest of a directory.
///
/// # Errors
/// The directory could not be read. A file that could not be read is part of the answer.
pub fn list(directory: &Path) -> Result<Listing, DirectoryError> {
    let scan = Stamps::default().scan(directory, SystemTime::UNIX_EPOCH)?;
    Ok(scan.read)
}

fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    !name.starts_with('.')
        && extension.is_some_and(|e| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| e.eq_ignore_ascii_case(known))
        })
}

/// What a look at a file found.
enum Look {
    /// A directory, or a file that was taken away in this moment.
    Absent,
    Same,
    Unreadable(String),
    Text(String, Option<Stamp>),
}

fn look(path: &Path, known: Option<Stamp>, now: SystemTime) -> Look {
    let failed = |error: &io::Error| {
        let is_gone =
            error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err();
        if is_gone {
            Look::Absent
        } else {
            Look::Unreadable(cannot_read(error))
        }
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return failed(&error),
    };
    if metadata.is_dir() {
        return Look::Absent;
    }
    // Reading a pipe would wait for a writer.
    if !metadata.is_file() {
        let why = "not a regular file; put a file or a link to one here";
        return Look::Unreadable(why.to_owned());
    }
    if metadata.len() > MAX_BYTES {
        return Look::Unreadable(format!(
            "{} bytes; a manifest may have {MAX_BYTES}, divide it",
            metadata.len()
        ));
    }
    if known == Some(Stamp::new(&metadata)) {
        return Look::Same;
    }
    match read(path) {
        Ok((bytes, metadata)) => match String::from_utf8(bytes) {
            // Of the file that was opened, before it was read: what changes meanwhile is seen the next time.
            Ok(text) => Look::Text(text, Stamp::of(&metadata, now)),
            Err(error) => Look::Unreadable(not_utf8(&error)),
        },
        Err(error) => failed(&error),
    }
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

fn cannot_read(error: &io::Error) -> String {
    format!(
        "cannot be read: {error}; what it defined before stays in force, make it readable for the user the agent runs as"
    )
}

fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    let good = error.utf8_error().valid_up_to();
    let line = 1 + error
        .as_bytes()
        .iter()
        .take(good)
        .filter(|b| **b == b'\n')
        .count();
    format!("not UTF-8: byte {good} in line {line}; save it as UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "kind: Service\n";

    fn later() -> SystemTime {
        SystemTime::now() + SETTLED * 2
    }

    #[test]
    fn a_file_that_is_as_it_was_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for name in ["a.yaml", "b.yaml", "notes.txt"] {
            fs::write(path.join(name), WEB).unwrap();
        }
        let mut stamps = Stamps::default();
        let first = stamps.scan(path, later()).unwrap();
        assert_eq!((first.read.len(), first.same.len()), (2, 0));
        let second = stamps.scan(path, later()).unwrap();
        assert_eq!((second.read.len(), second.same.len()), (0, 2));
        // Of the same size, and put in its place by a rename as editors do it.
        fs::write(path.join(".new"), WEB.to_uppercase()).unwrap();
        fs::rename(path.join(".new"), path.join("b.yaml")).unwrap();
        fs::remove_file(path.join("a.yaml")).unwrap();
        let third = stamps.scan(path, later()).unwrap();
        assert_eq!(
            third.read.get("b.yaml"),
            Some(&Ok(WEB.to_uppercase().into()))
        );
        assert_eq!((third.read.len(), third.same.len()), (1, 0));
    }

    #[test]
    fn a_file_that_was_just_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.yaml"), WEB).unwrap();
        let mut stamps = Stamps::default();
        for now in [SystemTime::now(), SystemTime::UNIX_EPOCH] {
            for _ in 0..2 {
                let scan = stamps.scan(folder.path(), now).unwrap();
                assert_eq!(
                    scan.read.len(),
                    1,
                    "it may have been written in this very moment"
                );
            }
        }
    }

    #[test]
    fn a_file_whose_time_was_set_back_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, WEB).unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        let mut stamps = Stamps::default();
        stamps.scan(folder.path(), later()).unwrap();
        let ctime = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let first = ctime(&path);
        // The kernel's clock for files goes in steps.
        while ctime(&path) == first {
            fs::write(&path, WEB.to_uppercase()).unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(before)
                .unwrap();
        }
        assert_eq!(stamps.scan(folder.path(), later()).unwrap().read.len(), 1);
    }
}
