//! What is kept across restarts: which service has which address and node ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    durable,
    model::{
        allocate::Allocations,
        node_ports::{KeptPorts, PortKey},
        object::ObjectName,
        service::Protocol,
    },
};

const FILE: &str = "allocations.json";
const VERSION: u32 = 1;
/// What a node port is for that is for no port of its service.
const HEALTH_CHECK: &str = "healthCheck";

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

/// The file's content. What a service has by `namespace/name`; node ports by `80/TCP`, the port they are for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    version: u32,
    services: BTreeMap<String, Vec<IpAddr>>,
    /// Released addresses, and who had them last.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    resting: BTreeMap<IpAddr, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    node_ports: BTreeMap<String, BTreeMap<String, u16>>,
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
    /// said in the log, and counts as none: what is served gets its addresses back from the dataplane.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn load(&self) -> Result<Allocations, StateError> {
        let Some((path, text)) = self.read()? else {
            return Ok(Allocations::new());
        };
        let reason = match parse(&text) {
            Ok(allocations) => return Ok(allocations),
            Err(reason) => reason,
        };
        let aside = path.with_extension("json.damaged");
        match fs::rename(&path, &aside) {
            Ok(()) => log::error!(
                file:% = aside.display(), reason:%;
                "allocations are damaged: set aside, addresses come from the dataplane or are allocated anew"
            ),
            // Nor can it be written then, which is said each time it fails.
            Err(error) => log::error!(
                file:% = path.display(), reason:%, error:err;
                "allocations are damaged, and cannot be set aside"
            ),
        }
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
        let written = text(allocations).and_then(|text| durable::replace(&path, &text));
        written.map_err(|source| StateError::Write { path, source })
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
    let addresses = document.services.into_iter().map(|(key, addresses)| {
        let addresses = addresses.iter().map(IpAddr::to_canonical).collect();
        Ok((object_name(&key)?, addresses))
    });
    let resting = document.resting.into_iter();
    let owner = |key: &str| match key {
        "" => Ok(ObjectName::unknown()),
        key => object_name(key),
    };
    let resting = resting.map(|(address, key)| Ok((address.to_canonical(), owner(&key)?)));
    Ok(Allocations {
        addresses: addresses.collect::<Result<_, String>>()?,
        resting: resting.collect::<Result<_, String>>()?,
        node_ports: node_ports(document.node_ports)?,
    })
}

fn object_name(key: &str) -> Result<ObjectName, String> {
    let parts = key.split_once('/');
    let (namespace, name) = parts.ok_or_else(|| format!("{key:?} is not namespace/name"))?;
    Ok(ObjectName::new(namespace, name))
}

fn node_ports(kept: BTreeMap<String, BTreeMap<String, u16>>) -> Result<KeptPorts, String> {
    let port_key = |text: &str| {
        if text == HEALTH_CHECK {
            return Some(PortKey::HEALTH_CHECK);
        }
        let (port, protocol) = text.split_once('/')?;
        Some(PortKey {
            port: port.parse().ok().filter(|port| *port > 0)?,
            protocol: Protocol::parse(Some(protocol))?,
        })
    };
    let mut all = KeptPorts::new();
    for (service, ports) in kept {
        let mut numbers = BTreeMap::new();
        for (text, number) in ports {
            let key = port_key(&text).ok_or_else(|| format!("{text:?} is not port/protocol"))?;
            numbers.insert(key, number);
        }
        all.insert(object_name(&service)?, numbers);
    }
    Ok(all)
}

fn text(allocations: &Allocations) -> io::Result<Vec<u8>> {
    let Allocations {
        addresses,
        resting,
        node_ports,
    } = allocations;
    let numbers = |ports: &BTreeMap<PortKey, u16>| {
        ports
            .iter()
            .map(|(key, number)| {
                let text = if *key == PortKey::HEALTH_CHECK {
                    HEALTH_CHECK.to_owned()
                } else {
                    format!("{}/{}", key.port, key.protocol)
                };
                (text, *number)
            })
            .collect()
    };
    let document = Document {
        version: VERSION,
        services: addresses
            .iter()
            .map(|(name, addresses)| (name.to_string(), addresses.clone()))
            .collect(),
        resting: resting
            .iter()
            .map(|(address, owner)| (*address, owner.to_string()))
            .collect(),
        node_ports: node_ports
            .iter()
            .map(|(name, ports)| (name.to_string(), numbers(ports)))
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Allocations {
        let web = ObjectName::new("default", "web");
        let key = PortKey {
            port: 80,
            protocol: Protocol::Udp,
        };
        let addresses = ["10.96.0.10", "fd00:10:96::a"].map(|text| text.parse().unwrap());
        Allocations {
            addresses: BTreeMap::from([(web.clone(), addresses.to_vec())]),
            resting: BTreeMap::from([("10.96.0.9".parse().unwrap(), web.clone())]),
            node_ports: BTreeMap::from([(
                web,
                BTreeMap::from([(key, 30_123), (PortKey::HEALTH_CHECK, 30_124)]),
            )]),
        }
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
            r#"{"version":1,"services":{},"resting":{"10.96.0.3":"web"}}"#,
            r#"{"version":1,"services":{},"nodePorts":{"a/web":{"80":30000}}}"#,
            r#"{"version":1,"services":{},"nodePorts":{"a/web":{"0/TCP":30000}}}"#,
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

    /// G4: whatever was done when the machine stopped, the old state or the new one is there, and the next one can be kept.
    #[test]
    fn g4_a_crash_in_any_moment_of_saving_leaves_the_old_or_the_new_state() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let path = directory.path().join(FILE);
        let new = Allocations {
            addresses: BTreeMap::from([(
                ObjectName::new("default", "new"),
                vec!["10.96.0.77".parse().unwrap()],
            )]),
            ..Allocations::new()
        };
        let bytes = text(&new).unwrap();
        let whole = bytes.len();
        let begun = [0, 1, whole / 2, whole - 1, whole].map(|length| (0, length));
        for (count, length) in begun.into_iter().chain((1..=4).map(|count| (count, 0))) {
            store.save(&some()).unwrap();
            durable::replace_in_part(&path, &bytes, count, length);
            let found = store.load().unwrap();
            let wanted = if count < 3 { some() } else { new.clone() };
            assert_eq!(found, wanted, "after {count} steps and {length} bytes");
            store.save(&new).unwrap();
            assert_eq!(store.load().unwrap(), new);
        }
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "nothing is left beside the file");
    }

    /// Whatever the disk makes of the file: never half a state, and never an end of the agent.
    #[test]
    fn every_truncated_file_is_set_aside() {
        let bytes = text(&some()).unwrap();
        for length in 0..bytes.len() {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::new(directory.path());
            fs::write(directory.path().join(FILE), &bytes[..length]).unwrap();
            let found = store.load().unwrap();
            let is_whole = found == some() && length + 1 == bytes.len();
            assert!(found == Allocations::new() || is_whole, "{length} bytes");
        }
    }

    #[test]
    fn an_address_that_rests_for_nobody_known_is_kept_too() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let mut rests = some();
        let address = "10.96.0.44".parse().unwrap();
        rests.resting.insert(address, ObjectName::unknown());
        store.save(&rests).unwrap();
        assert_eq!(store.load().unwrap(), rests);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let store = Store::new(&file.path().join("below-a-file"));
        let error = store.save(&some()).unwrap_err();
        assert!(error.to_string().contains("below-a-file"), "{error}");
    }
}
