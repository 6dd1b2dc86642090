//! `clusterip check`: every problem of the manifests.

use std::fmt::Write as _;

use serde::Serialize;

use super::output::{self, Format};
use crate::{
    config::Config,
    model::{allocate::Allocations, event::Event, problem::Problem, resolver::snapshot_of},
    source::manifests::{self, Listing, ManifestSource},
};

/// `check -o json`
#[derive(Serialize)]
struct Report<'a> {
    version: u32,
    problems: &'a [Problem],
}

/// Prints every problem; true if there is none.
pub(super) fn check(config: &Config, format: Format) -> anyhow::Result<bool> {
    let listing = manifests::list(&config.manifests)?;
    let events = ManifestSource::new(super::rules(config)).update(listing.clone());
    let objects = events.iter().filter(|e| matches!(e, Event::Put(_))).count();
    // Services are wrong beside each other too: an address that is taken, or outside the range.
    let snapshot = snapshot_of(super::resolver(config, Allocations::default()), events);
    let problems = snapshot.problems();
    let report = Report {
        version: 1,
        problems: &problems,
    };
    let text = match format.encode(&report)? {
        Some(text) => text,
        None => table(&listing, &problems, objects, output::is_coloured())?,
    };
    output::print(&text)?;
    Ok(problems.is_empty())
}

fn table(
    listing: &Listing,
    problems: &[Problem],
    objects: usize,
    coloured: bool,
) -> Result<String, std::fmt::Error> {
    let (bold, red, plain) = if coloured {
        ("\x1b[1m", "\x1b[31m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let mut text = String::new();
    for problem in problems {
        writeln!(text, "{bold}{problem}{plain}")?;
        if let Some(line) = source_line(listing, problem) {
            let number = problem.line.to_string();
            let margin = " ".repeat(number.len());
            let blank = blank_before(line, problem.column);
            writeln!(text, "  {number} | {line}")?;
            writeln!(text, "  {margin} | {blank}{red}^{plain}")?;
        }
    }
    let files = listing.len();
    match problems.len() {
        0 => writeln!(text, "no problem; {objects} objects in {files} files")?,
        1 => writeln!(text, "1 problem in {files} files")?,
        n => writeln!(text, "{n} problems in {files} files")?,
    }
    Ok(text)
}

fn source_line<'a>(listing: &'a Listing, problem: &Problem) -> Option<&'a str> {
    let text = listing.get(&problem.file)?.as_ref().ok()?;
    let index = usize::try_from(problem.line.checked_sub(1)?).ok()?;
    text.lines().nth(index)
}

/// As wide as what is before a column, tabs included.
fn blank_before(line: &str, column: u32) -> String {
    let before = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    line.chars()
        .take(before)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect()
}
