//! The file of `--config`.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use serde_saphyr::Spanned;

use super::{API_VERSION, KIND, OPTIONS, key};

/// A value in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Setting {
    /// As a flag would have it.
    pub(super) text: String,
    /// `file:line:column`
    pub(super) place: String,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("read configuration file {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no YAML of keys and values.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Line from 1.
        line: u64,
        /// Column from 1.
        column: u64,
        /// Why.
        message: String,
    },
    /// A key or value that is not allowed.
    #[error("{place}: {key}: {message}")]
    Key {
        /// `file:line:column`
        place: String,
        /// Which.
        key: String,
        /// What is allowed.
        message: String,
    },
}

pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Setting>, FileError> {
    let text = fs::read_to_string(path).map_err(|source| FileError::Read {
        path: path.to_owned(),
        source,
    })?;
    settings(path, &text)
}

/// The settings of a file by key.
pub(super) fn settings(path: &Path, text: &str) -> Result<BTreeMap<String, Setting>, FileError> {
    let parsed: BTreeMap<String, Spanned<Value>> =
        serde_saphyr::from_str(text).map_err(|error| {
            let location = error.location();
            FileError::Parse {
                path: path.to_owned(),
                line: location.map_or(0, |l| l.line()),
                column: location.map_or(0, |l| l.column()),
                message: error.without_snippet().to_string(),
            }
        })?;
    let mut settings = BTreeMap::new();
    for (name, value) in parsed {
        let location = value.defined;
        let place = format!(
            "{}:{}:{}",
            path.display(),
            location.line(),
            location.column()
        );
        let wrong = |message: String| FileError::Key {
            place: place.clone(),
            key: name.clone(),
            message,
        };
        let text = text_of(&value.value)
            .ok_or_else(|| wrong("must be a word, a number or a list of them".to_owned()))?;
        match name.as_str() {
            "apiVersion" | "kind" => {
                let wanted = if name == "kind" { KIND } else { API_VERSION };
                if text != wanted {
                    return Err(wrong(format!("is {text:?}, must be {wanted}")));
                }
            }
            _ if OPTIONS.iter().any(|option| key(option.flag) == name) => {
                settings.insert(name, Setting { text, place });
            }
            _ => {
                let known: Vec<String> = OPTIONS.iter().map(|option| key(option.flag)).collect();
                return Err(wrong(format!(
                    "unknown key; there are {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(settings)
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items: Option<Vec<String>> = items
                .iter()
                .map(|item| match item {
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
                })
                .collect();
            items.map(|items| items.join(","))
        }
        Value::Object(_) => None,
    }
}
