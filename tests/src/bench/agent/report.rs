//! The figures as a table, and as JSON.

use std::{fmt, fs, path::Path, thread};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::clock::{Summary, milliseconds};

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

    fn json(&self) -> Value {
        let Self {
            name,
            unit,
            value,
            spread,
            cpu,
            writes,
            goal,
        } = self;
        json!({
            "name": name, "unit": unit, "value": value, "cpu": cpu, "writes": writes, "goal": goal,
            "least": spread.map(|it| it.0), "most": spread.map(|it| it.1),
        })
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

/// Writes the figures for whoever compares them.
pub(super) fn save(path: &Path, is_quick: bool, rows: &[Row]) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let document = json!({
        "version": 1,
        "quick": is_quick,
        "kernel": kernel.trim(),
        "cpus": thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    });
    let folder = path.parent().context("a folder for the figures")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::write(path, format!("{document:#}\n")).with_context(|| format!("write {}", path.display()))
}
