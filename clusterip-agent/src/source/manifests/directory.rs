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

use super::lease::is_being_written;

/// Bytes of a file above which it is surely no manifest.
const MAX_BYTES: u64 = 64 << 20;

/// A file that changed so shortly before it was read may change again without a new time: some file systems count in steps of
/// two seconds.
const SETTLED: Duration = Duration::from_secs(3);

/// Said of a file that somebody has open for writing: a half of it may well be a manifest, but not the one that is meant.
const BEING_WRITTEN: &str = "is being written: somebody has it open for that; what it defined before stays in force until \
                             it is closed";
/// When a file that is being written is looked at again, unless the kernel tells that it was closed.
const WRITTEN_SOON: Duration = Duration::from_secs(1);

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
    /// When to look again, whatever the kernel tells: a file is being written, or may change without a new time.
    pub again: Option<Duration>,
}

impl From<Listing> for Scan {
    fn from(read: Listing) -> Self {
        Self {
            read,
            ..Self::default()
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
    /// How long ago it changed; none if that is still to come: a clock was set back.
    fn age(&self, now: SystemTime) -> Option<Duration> {
        let (seconds, _) = self.changed;
        let changed = Duration::from_secs(u64::try_from(seconds).ok()?);
        now.duration_since(SystemTime::UNIX_EPOCH + changed).ok()
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
            match look(&entry.path(), known.map(|(_, stamp)| *stamp)) {
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
                Look::BeingWritten => {
                    let why = BEING_WRITTEN.to_owned();
                    scan.read.insert(name.as_ref().into(), Err(why));
                    scan.again = Some(WRITTEN_SOON);
                }
                Look::Text(text, stamp) => {
                    let name: Arc<str> = name.as_ref().into();
                    match stamp.age(now) {
                        Some(age) if age > SETTLED => {
                            stamps.insert(name.clone(), stamp);
                        }
                        Some(_) => {
                            scan.again.get_or_insert(SETTLED + WRITTEN_SOON);
                        }
                        // It is read each time, until the clock has come there; that is no reason to look more often.
                        None => {}
                    }
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
    BeingWritten,
    /// Of the file that was opened, before it was read: what changes meanwhile is seen the next time.
    Text(String, Stamp),
}

fn look(path: &Path, known: Option<Stamp>) -> Look {
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
        Ok(None) => Look::BeingWritten,
        Ok(Some((bytes, stamp))) => match String::from_utf8(bytes) {
            Ok(text) => Look::Text(text, stamp),
            Err(error) => Look::Unreadable(not_utf8(&error)),
        },
        Err(error) => failed(&error),
    }
}

/// None of a file that is being written: somebody has it open for that, or it changed while it was read.
fn read(path: &Path) -> io::Result<Option<(Vec<u8>, Stamp)>> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.read_to_end(&mut bytes)?;
    let stamp = Stamp::new(&metadata);
    let is_whole = !is_being_written(&file) && Stamp::new(&file.metadata()?) == stamp;
    Ok(is_whole.then_some((bytes, stamp)))
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
    use std::io::Write as _;

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
    fn a_file_that_is_being_written_is_not_read_and_is_looked_at_soon() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.yaml"), WEB).unwrap();
        let mut writer = File::create(folder.path().join("a.yaml")).unwrap();
        writer.write_all(WEB.as_bytes()).unwrap();
        let mut stamps = Stamps::default();
        for _ in 0..2 {
            let scan = stamps.scan(folder.path(), later()).unwrap();
            let said = scan.read.get("a.yaml").unwrap().as_ref().unwrap_err();
            assert!(said.starts_with("is being written"), "{said}");
            assert_eq!(scan.again, Some(WRITTEN_SOON));
        }
        drop(writer);
        let scan = stamps.scan(folder.path(), later()).unwrap();
        assert_eq!(scan.read.get("a.yaml"), Some(&Ok(WEB.into())));
        assert_eq!(scan.again, None);
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
                // A clock that was set back by years is no reason to look every few seconds.
                assert_eq!(scan.again.is_some(), now > SystemTime::UNIX_EPOCH);
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
