//! One document as a tree in which everything knows where it stands.
//!
//! There is one reading of the text from which everything follows: duplicate keys, the positions of fields, type
//! errors and unknown fields.

use std::collections::BTreeMap;

use super::scalar::Scalar;
use crate::model::problem::Position;

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) position: Position,
    /// What it is.
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    /// A text, number, truth value or nothing.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
    /// A value of a wrong type that was reported and taken out, so that the rest can be read; reads as the empty value of
    /// any type.
    Erased,
}

/// A key and its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    /// The key as text.
    pub(super) key: String,
    /// Where the key stands.
    pub(super) position: Position,
    /// The value.
    pub(super) node: Node,
}

/// What is wrong with the text of a document, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Flaw {
    /// Where.
    pub(super) position: Position,
    /// Path of the field, if it is known.
    pub(super) field: String,
    /// The value found.
    pub(super) value: String,
    /// What is wrong.
    pub(super) message: String,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|e| e.key == key).map(|e| &e.node),
            Value::Scalar(_) | Value::List(_) | Value::Erased => None,
        }
    }

    /// The text, if this is a text and not a number or truth value.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => scalar.as_text(),
            Value::List(_) | Value::Map(_) | Value::Erased => None,
        }
    }

    /// True for an empty or `null` value.
    pub(super) const fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// The value in a few words, for messages.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) => scalar.raw().to_owned(),
            Value::List(_) => "[...]".to_owned(),
            Value::Map(_) => "{...}".to_owned(),
            Value::Erased => String::new(),
        }
    }

    /// The position of every field below this node by its path. A collection that is written below its key is
    /// where the key is: that is the line a reader looks for.
    pub(super) fn fields(&self) -> BTreeMap<String, Position> {
        let mut fields = BTreeMap::new();
        self.collect("", &mut fields);
        fields
    }

    fn collect(&self, path: &str, fields: &mut BTreeMap<String, Position>) {
        match &self.value {
            Value::Map(entries) => {
                for entry in entries {
                    let path = key_path(path, &entry.key);
                    entry.node.collect(&path, fields);
                    fields.insert(path, entry.place());
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = index_path(path, index);
                    item.collect(&path, fields);
                    fields.insert(path, item.position);
                }
            }
            Value::Scalar(_) | Value::Erased => {}
        }
    }

    /// Takes the value at a path out; false if nothing is there.
    pub(super) fn erase(&mut self, wanted: &str) -> bool {
        self.erase_below("", wanted)
    }

    fn erase_below(&mut self, path: &str, wanted: &str) -> bool {
        if path == wanted {
            self.value = Value::Erased;
            return true;
        }
        if !wanted.starts_with(path) {
            return false;
        }
        match &mut self.value {
            Value::Map(entries) => entries
                .iter_mut()
                .any(|e| e.node.erase_below(&key_path(path, &e.key), wanted)),
            Value::List(items) => items
                .iter_mut()
                .enumerate()
                .any(|(index, item)| item.erase_below(&index_path(path, index), wanted)),
            Value::Scalar(_) | Value::Erased => false,
        }
    }
}

impl Entry {
    /// Where the value is to be looked for: where it stands if it is a value of one line, else at its key.
    pub(super) const fn place(&self) -> Position {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.is_null() => self.node.position,
            Value::Scalar(_) | Value::List(_) | Value::Map(_) | Value::Erased => self.position,
        }
    }
}

/// The path of a key below a path, as Kubernetes writes it.
pub(super) fn key_path(path: &str, key: &str) -> String {
    if key.contains(['.', '/', '[', ']']) {
        format!("{path}[{key}]")
    } else if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The path of an item below a path.
pub(super) fn index_path(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}
