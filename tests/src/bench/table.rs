//! A table of figures: what is measured, as text, as JSON, and for a plot.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cell {
    /// The median, in the table's unit.
    pub value: f64,
    /// The middle half of the measurements lies between these; both are the value where there was one.
    pub spread: (f64, f64),
    /// What a ratio was made of, in [`Table::absolute`].
    pub absolute: Option<f64>,
}

impl Cell {
    /// Of measurements, none of which is NaN.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            value: at(&values, 1, 2),
            spread: (at(&values, 1, 4), at(&values, 3, 4)),
            absolute: None,
        }
    }

    /// With what the ratio was made of.
    #[must_use]
    pub fn made_of(mut self, absolute: Vec<f64>) -> Self {
        self.absolute = Some(Self::of(absolute).value);
        self
    }

    fn words(&self) -> String {
        let (low, high) = self.spread;
        let mut text = figure(self.value);
        if low < high {
            let _ = write!(text, " ({}-{})", figure(low), figure(high));
        }
        if let Some(absolute) = self.absolute {
            let _ = write!(text, " {}", figure(absolute));
        }
        text
    }

    fn json(&self) -> Value {
        let Self {
            value,
            spread: (low, high),
            absolute,
        } = self;
        json!({"value": value, "low": low, "high": high, "absolute": absolute})
    }
}

/// One line.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    /// What was measured.
    pub name: String,
    /// Its figures, by column; None where it was not measured.
    pub cells: Vec<Option<Cell>>,
}

/// A table.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    /// Name of its files, without the ending.
    pub name: String,
    /// What it shows.
    pub title: String,
    /// Of the figures; `x` is a ratio, and 1 is what it is compared with.
    pub unit: String,
    /// Of what the ratios are made of; empty if the figures are no ratios.
    pub absolute: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// Its lines.
    pub rows: Vec<Line>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

impl Table {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let Self {
            title,
            unit,
            absolute,
            columns,
            rows,
            notes,
            ..
        } = self;
        let names = rows.iter().map(|row| row.name.chars().count());
        let width = names.max().unwrap_or_default().max(20);
        let mut text = format!("{title} ({unit}");
        if !absolute.is_empty() {
            let _ = write!(text, "; median, middle half, {absolute}");
        }
        let _ = write!(text, ")\n{:width$}", "");
        for column in columns {
            let _ = write!(text, " {column:>27}");
        }
        text.push('\n');
        for Line { name, cells } in rows {
            let _ = write!(text, "{name:width$}");
            for cell in cells {
                let cell = cell.map_or_else(|| "-".to_owned(), |cell| cell.words());
                let _ = write!(text, " {cell:>27}");
            }
            text.push('\n');
        }
        for note in notes {
            let _ = writeln!(text, "  {note}");
        }
        text
    }

    /// For a document.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |", self.title);
        for column in &self.columns {
            let _ = write!(text, " {column} |");
        }
        text.push_str("\n|---|");
        text.push_str(&"--:|".repeat(self.columns.len()));
        text.push('\n');
        for Line { name, cells } in &self.rows {
            let _ = write!(text, "| {name} |");
            for cell in cells {
                let cell = cell.map_or_else(String::new, |cell| cell.words());
                let _ = write!(text, " {cell} |");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }

    /// For whoever compares them.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            name,
            title,
            unit,
            absolute,
            columns,
            rows,
            notes,
        } = self;
        let rows = rows.iter().map(|Line { name, cells }| {
            let cells = cells.iter().map(|cell| cell.as_ref().map(Cell::json));
            json!({"name": name, "cells": cells.collect::<Vec<_>>()})
        });
        json!({
            "name": name, "title": title, "unit": unit, "absolute": absolute, "columns": columns, "notes": notes,
            "rows": rows.collect::<Vec<_>>(),
        })
    }
}

/// A figure with the digits that mean something; from 10,000 on in thousands or millions.
#[must_use]
pub fn figure(value: f64) -> String {
    let scaled = |value: f64, unit: &str| {
        let digits = match value.abs() {
            large if large >= 99.95 => 0,
            middle if middle >= 9.995 => 1,
            _ => 2,
        };
        format!("{value:.digits$}{unit}")
    };
    match value.abs() {
        huge if huge >= 999_500.0 => scaled(value / 1e6, "M"),
        large if large >= 10_000.0 => scaled(value / 1e3, "k"),
        small if small > 0.0 && small < 0.1 => format!("{value:.4}"),
        _ => scaled(value, ""),
    }
}

/// The value that a part of the sorted ones is below.
#[must_use]
pub fn at(sorted: &[f64], part: usize, of: usize) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * part / of.max(1)).min(last);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_middle_half_are_told() {
        let cell = Cell::of(vec![9.0, 1.0, 5.0, 3.0, 7.0]).made_of(vec![2e6]);
        let table = Table {
            name: "t".into(),
            title: "T".into(),
            unit: "x".into(),
            absolute: "packets/s".into(),
            columns: vec!["10".into(), "1,000".into()],
            rows: vec![Line {
                name: "way".into(),
                cells: vec![Some(cell), None],
            }],
            notes: vec!["A note.".into()],
        };
        let text = table.text();
        assert!(text.contains(" 5.00 (3.00-7.00) 2.00M"), "{text}");
        assert!(text.ends_with("-\n  A note.\n"), "{text}");
        let markdown = table.markdown();
        let row = "\n|---|--:|--:|\n| way | 5.00 (3.00-7.00) 2.00M |  |\n";
        assert!(markdown.contains(row), "{markdown}");
    }

    #[test]
    fn figures_have_three_digits_or_so() {
        let shown = [0.0123, 0.913, 12.34, 999.0, 9_999.0, 812_345.0, 1_234_567.0].map(figure);
        let wanted = ["0.0123", "0.91", "12.3", "999", "9999", "812k", "1.23M"];
        assert_eq!(shown, wanted);
    }
}
