//! The figures as a table, and as JSON.

use std::{fmt, path::Path};

use anyhow::{Context as _, Result};

use super::{
    super::{
        document::Document,
        table::{Cell, Line, Table},
    },
    clock::{Summary, milliseconds},
};

/// One line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    name: String,
    unit: &'static str,
    value: f64,
    /// The quickest, and what nine in ten do not exceed.
    spread: Option<(f64, f64)>,
    cpu: Option<f64>,
    writes: Option<usize>,
    goal: Option<f64>,
}

impl Row {
    /// A time.
    pub(super) fn time(name: impl Into<String>, summary: &Summary) -> Self {
        Self {
            name: name.into(),
            unit: "ms",
            value: milliseconds(summary.wall),
            spread: Some((milliseconds(summary.least), milliseconds(summary.most))),
            cpu: Some(milliseconds(summary.cpu)),
            writes: Some(summary.writes),
            goal: None,
        }
    }

    /// Any figure.
    pub(super) fn figure(name: impl Into<String>, unit: &'static str, value: f64) -> Self {
        Self {
            name: name.into(),
            unit,
            value,
            spread: None,
            cpu: None,
            writes: None,
            goal: None,
        }
    }

    /// The same with a goal: it should not exceed that.
    pub(super) const fn goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    fn verdict(&self) -> &'static str {
        match self.goal {
            None => "",
            Some(goal) if self.value <= goal => "met",
            Some(_) => "missed",
        }
    }

    fn cell(&self) -> Cell {
        let cell = Cell::of(vec![self.value]);
        Cell {
            spread: self.spread.unwrap_or(cell.spread),
            ..cell
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |value: Option<f64>| value.map_or_else(String::new, figure);
        let spread = self.spread.map_or_else(String::new, |(least, most)| {
            format!("{} - {}", figure(least), figure(most))
        });
        let writes = self.writes.map_or_else(String::new, |it| it.to_string());
        write!(
            f,
            "{:<58} {:>9} {:<5} {spread:>17} {:>9} {writes:>8} {:>6} {}",
            self.name,
            figure(self.value),
            self.unit,
            optional(self.cpu),
            optional(self.goal),
            self.verdict()
        )
    }
}

/// Head of the table.
pub(super) fn head() -> String {
    format!(
        "{:<58} {:>9} {:<5} {:>17} {:>9} {:>8} {:>6}",
        "", "median", "", "least - 9 in 10", "cpu ms", "writes", "goal"
    )
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else if value >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Writes the figures as text, JSON and plots, a table for each unit. The file that `path` names is the JSON.
pub(super) fn save(path: &Path, is_quick: bool, rows: &[Row]) -> Result<()> {
    let folder = path.parent().context("a folder for the figures")?;
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.context("a name for the figures")?;
    let mut tables = Vec::new();
    for (unit, word, title) in UNITS {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.unit == unit).collect();
        let of = |value: fn(&Row) -> Option<f64>| {
            let cell = move |row: &&Row| value(row).map(|value| Cell::of(vec![value]));
            rows.iter().map(cell).collect()
        };
        let columns = [
            ("median", rows.iter().map(|row| Some(row.cell())).collect()),
            ("of a processor", of(|row| row.cpu)),
            ("goal", of(|row| row.goal)),
        ];
        tables.push(table(
            &format!("{name}-{word}"),
            title,
            unit,
            &rows,
            &columns,
        ));
    }
    let writing: Vec<&Row> = rows.iter().filter(|row| row.writes > Some(0)).collect();
    #[expect(clippy::cast_precision_loss, reason = "far fewer writes")]
    let writes = |row: &&Row| row.writes.map(|it| Cell::of(vec![it as f64]));
    let columns = [("writes", writing.iter().map(writes).collect())];
    let title = "The agent's writes to maps";
    tables.push(table(
        &format!("{name}-writes"),
        title,
        "writes",
        &writing,
        &columns,
    ));
    tables.retain(|table| !table.rows.is_empty());
    let document = Document {
        name,
        is_quick,
        tables: &tables,
    };
    document.save(folder)
}

/// Units, their words in names of files, and what their table is called.
const UNITS: [(&str, &str, &str); 3] = [
    ("ms", "ms", "The agent's times"),
    ("MiB", "mib", "The agent's memory and texts"),
    (
        "",
        "ratios",
        "What shall not depend on the number of services",
    ),
];

type Column = (&'static str, Vec<Option<Cell>>);

/// Without the columns that have nothing.
fn table(name: &str, title: &str, unit: &str, rows: &[&Row], columns: &[Column]) -> Table {
    let some = |(_, cells): &&Column| cells.iter().any(Option::is_some);
    let columns: Vec<&Column> = columns.iter().filter(some).collect();
    let line = |(place, row): (usize, &&Row)| Line {
        name: row.name.clone(),
        cells: columns
            .iter()
            .map(|(_, cells)| cells.get(place).copied().flatten())
            .collect(),
    };
    Table {
        name: name.to_owned(),
        title: title.to_owned(),
        unit: if unit.is_empty() { "ratio" } else { unit }.to_owned(),
        absolute: String::new(),
        columns: columns.iter().map(|(head, _)| (*head).to_owned()).collect(),
        rows: rows.iter().enumerate().map(line).collect(),
        notes: Vec::new(),
    }
}
