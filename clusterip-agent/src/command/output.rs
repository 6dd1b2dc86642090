//! Standard output.

use std::io::{self, IsTerminal as _, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// How a result is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines for people
    #[default]
    Table,
    /// Lines for people, with more in each
    Wide,
    /// JSON
    Json,
    /// YAML
    Yaml,
}

impl Format {
    /// The value as JSON or YAML; none where people read it.
    ///
    /// # Errors
    /// A value that cannot be written so.
    pub(super) fn encode(self, value: &impl Serialize) -> anyhow::Result<Option<String>> {
        match self {
            Self::Table | Self::Wide => Ok(None),
            Self::Json => {
                let text = serde_json::to_string_pretty(value).context("write as JSON")?;
                Ok(Some(text + "\n"))
            }
            Self::Yaml => Ok(Some(
                serde_saphyr::to_string(value).context("write as YAML")?,
            )),
        }
    }
}

/// Prints a text. A reader that has had enough (`| head`) is no error.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    print_or_stop(text).map(drop)
}

/// Prints a text; false if the reader has had enough.
///
/// # Errors
/// Standard output cannot be written to.
pub(super) fn print_or_stop(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write to standard output"),
    }
}

/// Whether colours are wanted: on a terminal, and never with `NO_COLOR`.
#[must_use]
pub(super) fn is_coloured() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_refused && io::stdout().is_terminal()
}
