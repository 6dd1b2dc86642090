//! What is wrong with the input, said so that it can be found and mended.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// A place in a file; both count from 1, 0 is unknown.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// Where an object came from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    /// File relative to the manifest directory; empty for other sources.
    pub file: Arc<str>,
    /// Where the document begins.
    pub start: Position,
    /// Where each field stands, by its path as Kubernetes writes it: `spec.ports[0].port`.
    pub fields: BTreeMap<String, Position>,
}

impl Origin {
    /// The position of a field, or of the nearest thing around it that is in the file.
    #[must_use]
    pub fn position(&self, field: &str) -> Position {
        let mut path = field;
        loop {
            if let Some(position) = self.fields.get(path) {
                return *position;
            }
            match path.rfind(['.', '[']) {
                Some(cut) => path = path.get(..cut).unwrap_or_default(),
                None => return self.start,
            }
        }
    }
}

/// One thing that is wrong, in the form of `plan -o json` and `check -o json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// File relative to the manifest directory.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// `Kind namespace/name`; empty for a text that cannot be parsed.
    pub object: String,
    /// Path of the field as Kubernetes writes it; may be empty.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            object,
            field,
            value,
            message,
        } = self;
        write!(f, "{file}:{line}:{column}:")?;
        if !object.is_empty() {
            write!(f, " {object}:")?;
        }
        if !field.is_empty() {
            write!(f, " {field}:")?;
        }
        if !value.is_empty() {
            write!(f, " {value:?}:")?;
        }
        write!(f, " {message}")
    }
}

/// A problem of one field of one object, before it is known where the object stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Path of the field.
    pub field: String,
    /// The value found.
    pub value: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl Fault {
    /// The fault at its place.
    #[must_use]
    pub fn at(self, object: &super::object::ObjectKey, origin: &Origin) -> Problem {
        let Self {
            field,
            value,
            message,
        } = self;
        let Position { line, column } = origin.position(&field);
        Problem {
            file: origin.file.clone(),
            line,
            column,
            object: object.to_string(),
            field,
            value,
            message,
        }
    }
}
