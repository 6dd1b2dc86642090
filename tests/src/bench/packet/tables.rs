//! The same figures as tables with a column for each family.

use anyhow::Result;

use super::{FAMILIES, Row, measure};
use crate::bench::table::{Cell, Line, Table};

/// Measures, and makes the tables: packets that are the same each time as ratios, those that are new each time in nanoseconds.
///
/// # Errors
/// Not root, or the kernel refuses.
pub fn tables(rounds: usize) -> Result<Vec<Table>> {
    let mut families = Vec::new();
    for family in &FAMILIES {
        families.push(measure(family, rounds.max(1), "")?.0);
    }
    let columns = FAMILIES.each_ref().map(|family| family.name.to_owned());
    let table =
        |name: &str, title: &str, unit: &str, absolute: &str, cell: fn(&Row) -> Option<Cell>| {
            let names = families.iter().flatten().filter(|row| cell(row).is_some());
            let mut rows: Vec<Line> = Vec::new();
            for name in names.map(|row| row.name) {
                if rows.iter().any(|line| line.name == name) {
                    continue;
                }
                let of = |rows: &Vec<Row>| rows.iter().find(|row| row.name == name).and_then(cell);
                rows.push(Line {
                    name: name.to_owned(),
                    cells: families.iter().map(of).collect(),
                });
            }
            Table {
                name: name.to_owned(),
                title: title.to_owned(),
                unit: unit.to_owned(),
                absolute: absolute.to_owned(),
                columns: columns.to_vec(),
                rows,
                notes: Vec::new(),
            }
        };
    let ratio = |row: &Row| {
        let ratio = row.ratio?;
        Some(Cell::of(vec![ratio]).made_of(vec![row.nanoseconds]))
    };
    let single = |row: &Row| {
        let is_single = row.ratio.is_none() && row.name != "reference";
        is_single.then(|| Cell {
            spread: row.spread,
            ..Cell::of(vec![row.nanoseconds])
        })
    };
    Ok(vec![
        table(
            "packet",
            "A packet in the programs, by test-run",
            "x reference",
            "ns",
            ratio,
        ),
        table(
            "packet-single",
            "What cannot be done twice to one packet, with a clock read in it",
            "ns",
            "",
            single,
        ),
    ])
}
