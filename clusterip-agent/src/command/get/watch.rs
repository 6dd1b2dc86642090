//! A document, once or for as long as somebody looks.

use std::{io::Write as _, thread, time::Duration};

use serde::Serialize;

use super::super::{
    output::{self, Format},
    table::aligned,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Cells, the first row being the head.
pub(super) type Rows = Vec<Vec<String>>;

/// How a document is shown.
pub(super) struct Show<'a> {
    /// As what.
    pub(super) format: Format,
    /// Whether to go on until interrupted.
    pub(super) watch: bool,
    /// Columns that change by themselves: a row that differs in them alone is the same one.
    pub(super) fleeting: &'a [&'a str],
    /// Said of a table without rows, unless it is watched.
    pub(super) nothing: &'a dyn Fn() -> String,
}

impl Show<'_> {
    /// Shows a document; where it is watched, whenever it changed. An agent that restarts is waited for.
    pub(super) fn run<T: Serialize>(
        self,
        look: impl Fn() -> anyhow::Result<T>,
        table: impl Fn(&T) -> Rows,
    ) -> anyhow::Result<()> {
        let first = look()?;
        let mut shown = Shown::default();
        if !shown.show(&self, &first, &table)? || !self.watch {
            return Ok(());
        }
        let mut is_told = false;
        loop {
            thread::sleep(PAUSE);
            match look() {
                Ok(document) => {
                    is_told = false;
                    if !shown.show(&self, &document, &table)? {
                        return Ok(());
                    }
                }
                Err(error) if !is_told => {
                    is_told = true;
                    // Nobody is left to tell if this fails.
                    drop(writeln!(std::io::stderr(), "waiting: {error:#}"));
                }
                Err(_still) => {}
            }
        }
    }
}

/// What the reader has seen.
#[derive(Default)]
struct Shown {
    text: String,
    rows: Rows,
}

impl Shown {
    /// Prints what is new; false if the reader has had enough.
    fn show<T: Serialize>(
        &mut self,
        how: &Show<'_>,
        document: &T,
        table: impl Fn(&T) -> Rows,
    ) -> anyhow::Result<bool> {
        if let Some(text) = how.format.encode(document)? {
            if text == self.text {
                return Ok(true);
            }
            let is_next = how.format == Format::Yaml && !self.text.is_empty();
            let mark = if is_next { "---\n" } else { "" };
            let is_read = output::print_or_stop(&format!("{mark}{text}"))?;
            self.text = text;
            return Ok(is_read);
        }
        let rows = table(document);
        if rows.len() <= 1 && !how.watch {
            return output::print_or_stop(&(how.nothing)());
        }
        if !how.watch {
            return output::print_or_stop(&aligned(&rows));
        }
        let changed = news(&self.rows, &rows, how.fleeting);
        self.rows = rows;
        if changed.is_empty() {
            return Ok(true);
        }
        output::print_or_stop(&aligned(&changed))
    }
}

/// The rows that are not among those shown before; columns of these names do not count.
fn news(before: &Rows, now: &Rows, fleeting: &[&str]) -> Rows {
    let head = now.first();
    let lasting = |row: &[String]| -> Vec<String> {
        let names = head.into_iter().flatten();
        let cells = row.iter().zip(names);
        cells
            .filter(|(_, name)| !fleeting.contains(&name.as_str()))
            .map(|(cell, _)| cell.clone())
            .collect()
    };
    let seen: std::collections::BTreeSet<Vec<String>> =
        before.iter().map(|row| lasting(row)).collect();
    let is_new = |row: &&Vec<String>| !seen.contains(&lasting(row));
    now.iter().filter(is_new).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &[&str]) -> Rows {
        let row = |line: &&str| line.split(' ').map(str::to_owned).collect();
        text.iter().map(row).collect()
    }

    #[test]
    fn what_changed_is_shown_and_what_only_got_older_is_not() {
        let before = rows(&["NAME STATE AGE", "a up 1s", "b up 1s"]);
        let now = rows(&["NAME STATE AGE", "a up 2s", "b down 2s", "c up 0s"]);
        let changed = rows(&["b down 2s", "c up 0s"]);
        assert_eq!(news(&before, &now, &["AGE"]), changed);
        assert_eq!(news(&Rows::new(), &before, &["AGE"]), before);
        assert_eq!(news(&now, &now, &[]), Rows::new());
    }
}
