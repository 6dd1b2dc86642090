//! Where maps and links are pinned, and whether what is pinned there is ours.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::maps::{MapInfo, MapType};
use clusterip_common::abi::{
    self,
    maps::{Kind, Shape},
};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// A pin that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The place is not on a bpffs.
    #[error(
        "{path} is not on a BPF file system; mount one: mount -t bpf bpffs /sys/fs/bpf, or name one with --bpffs"
    )]
    NoBpffs {
        /// The nearest existing directory.
        path: PathBuf,
    },
    /// A file operation.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A pinned map of another layout.
    #[error(
        "the map pinned at {path} has another layout: {found}, wanted {wanted}; it was made by another version. What it \
         holds stays in force. Go back to that version, or end its flows with `clusterip cleanup` (and the same --bpffs) \
         and start this one again"
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What this version needs.
        wanted: String,
    },
    /// Pins of a layout that this agent cannot read.
    #[error(
        "the maps below {path} are of layout {found}; this agent has layout {wanted} and cannot take them over. What they \
         hold stays in force. Go on with an agent of layout {found}, or end its flows with `clusterip cleanup` (and the \
         same --bpffs) and start this one again"
    )]
    Version {
        /// The pins.
        path: PathBuf,
        /// Their layout.
        found: u32,
        /// This agent's.
        wanted: u32,
    },
    /// A pinned map that cannot be opened.
    #[error("open the map pinned at {path}")]
    Open {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
}

/// The directory below the bpffs. Its layout is `v<ABI>/maps/NAME` and `v<ABI>/links/IFINDEX_HOOK`. While a map is
/// replaced, its successor is at `v<ABI>/next/NAME` until it is complete, and it at `v<ABI>/old/NAME` from then on.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
    version: u32,
    readable: Vec<u32>,
}

impl Pins {
    /// The directory of `--bpffs`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            version: abi::VERSION,
            readable: abi::READABLE.to_vec(),
        }
    }

    /// The same directory as an agent of another layout sees it, which can take over maps of some others.
    #[must_use]
    pub fn of_version(mut self, version: u32, readable: &[u32]) -> Self {
        self.version = version;
        self.readable = readable.to_vec();
        self
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{}", self.version))
    }

    /// Pin of a map that is being filled.
    pub(super) fn next(&self, shape: &Shape) -> PathBuf {
        self.version().join("next").join(shape.name)
    }

    /// Pin of a map that another took the place of, while flows are fetched from it.
    pub(super) fn old(&self, shape: &Shape) -> PathBuf {
        self.version().join("old").join(shape.name)
    }

    /// The directories of other layouts that hold maps, all of which this one can take over.
    ///
    /// # Errors
    /// There is one that it cannot, or the directory cannot be read.
    pub(super) fn others(&self) -> Result<Vec<Self>, PinError> {
        let mut others = Vec::new();
        for name in names(&self.root)? {
            let Some(found) = name.strip_prefix('v').and_then(|text| text.parse().ok()) else {
                continue;
            };
            let other = self.clone().of_version(found, &[]);
            let path = other.version();
            // Without maps it is the rest of one that never came into force.
            if found == self.version || names(&path.join("maps"))?.is_empty() {
                continue;
            }
            if !self.readable.contains(&found) {
                return Err(PinError::Version {
                    path,
                    found,
                    wanted: self.version,
                });
            }
            others.push(other);
        }
        Ok(others)
    }

    /// Gives pins another name, in the place of whatever has it. The kernel's objects stay as they are.
    pub(super) fn rename(from: &Path, to: &Path) -> Result<(), PinError> {
        fs::rename(from, to).map_err(io_error("rename pin", from))
    }

    /// Removes the pins of a directory, and the directory; it need not be there.
    pub(super) fn clear(path: &Path) -> Result<(), PinError> {
        if path.exists() {
            remove(path, &mut 0)?;
        }
        Ok(())
    }

    /// The directory of this layout, of what is being filled, and of what was replaced.
    pub(super) fn directories(&self) -> [PathBuf; 3] {
        let version = self.version();
        let (next, old) = (version.join("next"), version.join("old"));
        [version, next, old]
    }

    /// Pin of a map.
    #[must_use]
    pub fn map(&self, shape: &Shape) -> PathBuf {
        self.version().join("maps").join(shape.name)
    }

    /// Directory of the links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.version().join("links")
    }

    /// Makes the directories.
    ///
    /// # Errors
    /// There is no bpffs, or it is not writable.
    pub fn prepare(&self) -> Result<(), PinError> {
        self.check_bpffs()?;
        for path in [self.version().join("maps"), self.links()] {
            make(&path)?;
        }
        Ok(())
    }

    /// Whether the directory is on a mounted bpffs, or will be once it is made.
    ///
    /// # Errors
    /// It is not.
    pub fn check_bpffs(&self) -> Result<(), PinError> {
        let path = self
            .root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(Path::new("/"));
        match statfs(path) {
            Ok(stat) if stat.filesystem_type() == BPF_FS_MAGIC => Ok(()),
            _ => Err(PinError::NoBpffs {
                path: path.to_owned(),
            }),
        }
    }

    /// Entries of a pinned map, or None if it is not pinned. aya takes a pinned map whatever its shape is.
    ///
    /// # Errors
    /// It has another shape, or cannot be opened.
    pub fn check_map(&self, shape: &Shape) -> Result<Option<u32>, PinError> {
        let path = self.map(shape);
        if !path.exists() {
            return Ok(None);
        }
        let info = MapInfo::from_pin(&path).map_err(|source| PinError::Open {
            path: path.clone(),
            source,
        })?;
        let kind = info.map_type().unwrap_or(MapType::Unspecified);
        let (key, value) = (info.key_size() as usize, info.value_size() as usize);
        if (kind, key, value) == (map_type(shape.kind), shape.key, shape.value) {
            return Ok(Some(info.max_entries()));
        }
        let text = |kind: MapType, key, value| format!("{kind:?}, key {key} bytes, value {value}");
        Err(PinError::Shape {
            path,
            found: text(kind, key, value),
            wanted: text(map_type(shape.kind), shape.key, shape.value),
        })
    }

    /// Removes everything below the directory, of every version, and the directory. A link whose pin goes is detached.
    /// Returns how many pins there were.
    ///
    /// # Errors
    /// Something could not be removed.
    pub fn remove_all(&self) -> Result<usize, PinError> {
        let mut removed = 0;
        if self.root.exists() {
            remove(&self.root, &mut removed)?;
        }
        Ok(removed)
    }
}

/// Makes a directory, and those above it.
pub(super) fn make(path: &Path) -> Result<(), PinError> {
    fs::create_dir_all(path).map_err(io_error("create directory", path))
}

/// What is in a directory; nothing if it is not there.
pub(super) fn names(path: &Path) -> Result<Vec<String>, PinError> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", path))?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names
        .collect::<io::Result<_>>()
        .map_err(io_error("list", path))
}

fn io_error(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> PinError {
    move |source| PinError::Io {
        operation,
        path: path.to_owned(),
        source,
    }
}

fn remove(path: &Path, removed: &mut usize) -> Result<(), PinError> {
    let fail = |operation| io_error(operation, path);
    if !path.is_dir() {
        *removed += 1;
        return fs::remove_file(path).map_err(fail("unpin"));
    }
    for entry in fs::read_dir(path).map_err(fail("list"))? {
        remove(&entry.map_err(fail("list"))?.path(), removed)?;
    }
    fs::remove_dir(path).map_err(fail("remove directory"))
}

pub(super) const fn map_type(kind: Kind) -> MapType {
    match kind {
        Kind::Hash => MapType::Hash,
        Kind::LruHash => MapType::LruHash,
        Kind::Array => MapType::Array,
        Kind::PerCpuArray => MapType::PerCpuArray,
        Kind::LpmTrie => MapType::LpmTrie,
    }
}
