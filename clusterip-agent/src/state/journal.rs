//! What changed since all allocations were written: a file that grows by a line for each change.
//!
//! ```text
//! 5f0a33c1b2d4e697 {"version":1,"of":"91b4c0de77a01f52"}
//! 0c7e11d0a8b93f24 {"services":{"default/web":["10.96.0.10"]}}
//! ```
//! Each line begins with the checksum of the rest. The first one names the checksum of the file that the changes are to be made
//! to: a journal of another one is from before that file, which holds all of it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::text::parse_changes;
use crate::{durable::Growing, model::allocate::Changes};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    of: String,
}

/// What is read of a journal.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The changes that are whole, in their order.
    pub(super) changes: Vec<Changes>,
    /// Why some are not, unless it is the last one, whose writing was cut off.
    pub(super) damage: Option<String>,
}

/// What a text is known by.
pub(super) fn checksum(text: &[u8]) -> String {
    format!("{:016x}", SipHasher24::new().hash(text))
}

/// Reads a journal; nothing if it is not of the file with that checksum.
pub(super) fn read(bytes: &[u8], of: &str) -> Read {
    let mut read = Read::default();
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    let head = lines.next().and_then(|(_, line)| verified(line).ok());
    let Some(head) = head.and_then(|text| serde_json::from_str::<Head>(text).ok()) else {
        read.damage = (!bytes.is_empty()).then(|| "line 1: no head".to_owned());
        return read;
    };
    if head.version != VERSION {
        read.damage = Some(format!("version {} is not {VERSION}", head.version));
        return read;
    }
    if head.of != of {
        return read;
    }
    while let Some((index, line)) = lines.next() {
        // What comes after the last end of a line.
        if line.is_empty() && lines.peek().is_none() {
            break;
        }
        match verified(line).and_then(parse_changes) {
            Ok(changes) => read.changes.push(changes),
            Err(reason) => {
                let is_last = lines.clone().all(|(_, rest)| rest.is_empty());
                if !is_last {
                    let reason = format!("line {}: {reason}", index + 1);
                    read.damage.get_or_insert(reason);
                }
            }
        }
    }
    read
}

fn verified(line: &[u8]) -> Result<&str, String> {
    let text = str::from_utf8(line).map_err(|error| error.to_string())?;
    let parts = text.split_once(' ');
    let (sum, rest) = parts.ok_or_else(|| "no checksum".to_owned())?;
    if sum == checksum(rest.as_bytes()) {
        Ok(rest)
    } else {
        Err("not what the checksum says".to_owned())
    }
}

pub(super) fn line(text: &str) -> String {
    format!("{} {text}\n", checksum(text.as_bytes()))
}

/// Which file it is, whatever its name.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// A journal that is being written.
#[derive(Debug)]
pub(super) struct Journal {
    file: Growing,
    /// The file that the changes are to be made to, and how long it is.
    of: PathBuf,
    whole: u64,
    /// Of both files: what was taken away or put in another's place is not continued.
    identities: [Option<Identity>; 2],
}

impl Journal {
    /// A short one costs nobody anything.
    const SHORT: u64 = 256 << 10;

    /// Begins the journal of a file with that text, in the place of an earlier one.
    pub(super) fn begin(path: &Path, of: &Path, text: &[u8]) -> io::Result<Self> {
        let file = Growing::begin(path, head(text)?.as_bytes())?;
        Ok(Self {
            file,
            whole: u64::try_from(text.len()).unwrap_or(u64::MAX),
            identities: [path, of].map(identity),
            of: of.to_owned(),
        })
    }

    /// Whether a line may be added: both files are the ones they were, and it would not become longer than what it changes.
    pub(super) fn takes(&self, line: &str) -> bool {
        let length = self.file.length() + u64::try_from(line.len()).unwrap_or(u64::MAX);
        length <= self.whole.max(Self::SHORT)
            && [self.file.path(), &self.of].map(identity) == self.identities
            && self.identities.iter().all(Option::is_some)
    }

    /// Adds a line; after this it survives a crash of the machine.
    pub(super) fn add(&mut self, line: &str) -> io::Result<()> {
        self.file.append(line.as_bytes())
    }
}

/// The first line of the journal of a file with that text.
pub(super) fn head(text: &[u8]) -> serde_json::Result<String> {
    let head = Head {
        version: VERSION,
        of: checksum(text),
    };
    Ok(line(&serde_json::to_string(&head)?))
}
