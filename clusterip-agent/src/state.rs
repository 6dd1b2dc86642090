//! What is kept across restarts: which service has which address.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::{allocate::Allocations, object::ObjectName};

const FILE: &str = "allocations.json";
const VERSION: u32 = 1;

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
    /// A damaged file cannot be set aside.
    #[error("set damaged {} aside", path.display())]
    SetAside {
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

/// The file's content. Addresses of a service by `namespace/name`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    services: BTreeMap<String, Vec<IpAddr>>,
}

/// The state directory (`--state-dir`).
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The state in a directory, which need not be there yet.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The allocations kept last; none if there is no file. A damaged file is renamed to `allocations.json.damaged`,
    /// said in the log, and counts as none.
    ///
    /// # Errors
    /// The file cannot be read, or cannot be set aside.
    pub fn load(&self) -> Result<Allocations, StateError> {
        let Some((path, text)) = self.read()? else {
            return Ok(Allocations::new());
        };
        let reason = match parse(&text) {
            Ok(allocations) => return Ok(allocations),
            Err(reason) => reason,
        };
        let aside = path.with_extension("json.damaged");
        fs::rename(&path, &aside).map_err(|source| StateError::SetAside { path, source })?;
        log::error!(
            file:% = aside.display(), reason:%;
            "allocations are damaged: set aside, addresses are allocated anew"
        );
        Ok(Allocations::new())
    }

    fn read(&self) -> Result<Option<(PathBuf, String)>, StateError> {
        let path = self.directory.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some((path, String::from_utf8_lossy(&bytes).into_owned()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StateError::Read { path, source }),
        }
    }

    /// Keeps allocations: after this they survive a crash of the machine.
    ///
    /// # Errors
    /// What could not be written; the former state is whole then.
    pub fn save(&self, allocations: &Allocations) -> Result<(), StateError> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(|source| StateError::Directory {
            path: directory.clone(),
            source,
        })?;
        let path = directory.join(FILE);
        write(directory, &path, allocations).map_err(|source| StateError::Write { path, source })
    }
}

fn parse(text: &str) -> Result<Allocations, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.version != VERSION {
        return Err(format!("version {} is not {VERSION}", document.version));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = document
        .services
        .values()
        .flatten()
        .find(|address| !seen.insert(**address))
    {
        return Err(format!("{twice} is there twice"));
    }
    document
        .services
        .into_iter()
        .map(|(key, addresses)| {
            let (namespace, name) = key
                .split_once('/')
                .ok_or_else(|| format!("{key:?} is not namespace/name"))?;
            let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
            Ok((ObjectName::new(namespace, name), addresses))
        })
        .collect()
}

fn write(directory: &Path, path: &Path, allocations: &Allocations) -> io::Result<()> {
    let document = Document {
        version: VERSION,
        services: allocations
            .iter()
            .map(|(name, addresses)| (name.to_string(), addresses.clone()))
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself must be on disk too.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Allocations {
        Allocations::from([(
            ObjectName::new("default", "web"),
            vec![
                "10.96.0.10".parse().unwrap(),
                "fd00:10:96::a".parse().unwrap(),
            ],
        )])
    }

    /// G4
    #[test]
    fn allocations_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(&directory.path().join("made/when/needed"));
        assert_eq!(store.load().unwrap(), Allocations::new());
        store.save(&some()).unwrap();
        assert_eq!(store.load().unwrap(), some());
        store.save(&Allocations::new()).unwrap();
        assert_eq!(store.load().unwrap(), Allocations::new());
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        for text in [
            "",
            "{",
            r#"{"version":2,"services":{}}"#,
            r#"{"version":1,"services":{"web":["10.96.0.1"]}}"#,
            r#"{"version":1,"services":{"default/web":["10.96.0.300"]}}"#,
            r#"{"version":1,"services":{"a/web":["10.96.0.3"],"b/web":["10.96.0.3"]}}"#,
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::new(directory.path());
            let path = directory.path().join(FILE);
            fs::write(&path, text).unwrap();
            assert_eq!(store.load().unwrap(), Allocations::new(), "{text}");
            assert!(!path.exists(), "{text}");
            let aside = directory.path().join("allocations.json.damaged");
            assert_eq!(fs::read_to_string(aside).unwrap(), text);
            store.save(&some()).unwrap();
            assert_eq!(store.load().unwrap(), some());
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let store = Store::new(&file.path().join("below-a-file"));
        let error = store.save(&some()).unwrap_err();
        assert!(error.to_string().contains("below-a-file"), "{error}");
    }
}
