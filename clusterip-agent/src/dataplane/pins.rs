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
        "the map pinned at {path} has another layout: {found}, wanted {wanted}; it was made by another version. \
         `clusterip cleanup` removes it (flows end), or go back to that version"
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What this version needs.
        wanted: String,
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

/// The directory below the bpffs. Its layout is `v<ABI>/maps/NAME` and `v<ABI>/links/IFINDEX_HOOK`.
#[derive(Clone, Debug)]
pub struct Pins {
    root: PathBuf,
}

impl Pins {
    /// The directory of `--bpffs`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    fn version(&self) -> PathBuf {
        self.root.join(format!("v{}", abi::VERSION))
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
            fs::create_dir_all(&path).map_err(|source| PinError::Io {
                operation: "create directory",
                path,
                source,
            })?;
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

fn remove(path: &Path, removed: &mut usize) -> Result<(), PinError> {
    let fail = |operation| {
        move |source| PinError::Io {
            operation,
            path: path.to_owned(),
            source,
        }
    };
    if !path.is_dir() {
        *removed += 1;
        return fs::remove_file(path).map_err(fail("unpin"));
    }
    for entry in fs::read_dir(path).map_err(fail("list"))? {
        remove(&entry.map_err(fail("list"))?.path(), removed)?;
    }
    fs::remove_dir(path).map_err(fail("remove directory"))
}

const fn map_type(kind: Kind) -> MapType {
    match kind {
        Kind::Hash => MapType::Hash,
        Kind::LruHash => MapType::LruHash,
        Kind::Array => MapType::Array,
        Kind::PerCpuArray => MapType::PerCpuArray,
        Kind::LpmTrie => MapType::LpmTrie,
    }
}
