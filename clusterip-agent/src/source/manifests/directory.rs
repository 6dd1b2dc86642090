//! What is in a manifest directory now.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes of a file above which it is surely no manifest.
const MAX_BYTES: u64 = 64 << 20;

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

/// Reads every `*.yaml`, `*.yml` and `*.json` of a directory, but not of the directories in it, and no hidden file
/// (editors and `ConfigMap` volumes keep their own there).
///
/// # Errors
/// The directory could not be read. A file that could not be read is part of the answer.
pub fn list(directory: &Path) -> Result<Listing, DirectoryError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DirectoryError::Missing(directory.to_owned()),
        io::ErrorKind::NotADirectory => DirectoryError::NotADirectory(directory.to_owned()),
        _ => DirectoryError::Read {
            directory: directory.to_owned(),
            source,
        },
    };
    let mut files = Listing::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !is_manifest(&name) {
            continue;
        }
        if let Some(text) = text(&entry.path()) {
            files.insert(name.as_ref().into(), text.map(Into::into));
        }
    }
    Ok(files)
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

/// None for a directory, and for a file that was taken away in this moment.
fn text(path: &Path) -> Option<Result<String, String>> {
    let gone =
        |e: &io::Error| e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if gone(&error) => return None,
        Err(error) => return Some(Err(cannot_read(&error))),
    };
    if metadata.is_dir() {
        return None;
    }
    // Reading a pipe would wait for a writer.
    if !metadata.is_file() {
        return Some(Err(
            "not a regular file; put a file or a link to one here".to_owned()
        ));
    }
    if metadata.len() > MAX_BYTES {
        return Some(Err(format!(
            "{} bytes; a manifest may have {MAX_BYTES}, divide it",
            metadata.len()
        )));
    }
    match fs::read(path) {
        Ok(bytes) => Some(String::from_utf8(bytes).map_err(|error| not_utf8(&error))),
        Err(error) if gone(&error) => None,
        Err(error) => Some(Err(cannot_read(&error))),
    }
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
