//! What a series of steps came to, as one table at its end.

use std::{
    fmt,
    io::{self, IsTerminal as _},
    time::{Duration, Instant},
};

use anyhow::bail;

/// How one step ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// All well; so many tests ran (none for a lint).
    Passed(usize),
    /// Something was found.
    Failed,
    /// Did not run, and why.
    Skipped(String),
    /// Did not run and may be absent everywhere, also where nobody reads; and why.
    Absent(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed(_) => "ok",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "SKIP",
            Self::Absent(_) => "ABSENT",
        })
    }
}

struct Row {
    name: String,
    proves: String,
    outcome: Outcome,
    took: Duration,
}

/// A series of steps.
pub(crate) struct Summary {
    title: &'static str,
    rows: Vec<Row>,
}

impl Summary {
    /// A series without steps so far.
    pub(crate) const fn new(title: &'static str) -> Self {
        let rows = Vec::new();
        Self { title, rows }
    }

    /// Announces a step, runs it and keeps its outcome; a failure does not stop the series.
    ///
    /// # Errors
    /// When the step could not be run at all.
    pub(crate) fn step(
        &mut self,
        name: &str,
        proves: impl Into<String>,
        work: impl FnOnce() -> anyhow::Result<Outcome>,
    ) -> anyhow::Result<()> {
        let proves = proves.into();
        println!("\n{} {name}: {proves}", paint("==", Colour::Bold));
        let begin = Instant::now();
        let outcome = work()?;
        match &outcome {
            Outcome::Skipped(why) | Outcome::Absent(why) => {
                println!("{}: {why}", paint(&outcome.to_string(), Colour::Yellow));
            }
            Outcome::Passed(_) | Outcome::Failed => {}
        }
        self.rows.push(Row {
            name: name.to_owned(),
            proves,
            outcome,
            took: begin.elapsed(),
        });
        Ok(())
    }

    /// Prints the table.
    ///
    /// # Errors
    /// When a step failed, or when one was skipped and `strict` is set.
    pub(crate) fn finish(self, strict: bool) -> anyhow::Result<()> {
        let Self { title, rows } = self;
        println!(
            "\n{}",
            paint(&format!("== {title}: what was proved"), Colour::Bold)
        );
        for row in &rows {
            println!("{}", line(row));
        }
        let failed = names(&rows, |outcome| *outcome == Outcome::Failed);
        if !failed.is_empty() {
            bail!("{title} failed: {failed}");
        }
        let skipped = names(&rows, |outcome| matches!(outcome, Outcome::Skipped(_)));
        if !skipped.is_empty() && strict {
            bail!("{title}: {skipped} did not run, and CI is set, where that is a failure");
        }
        Ok(())
    }
}

fn names(rows: &[Row], which: impl Fn(&Outcome) -> bool) -> String {
    rows.iter()
        .filter(|row| which(&row.outcome))
        .map(|row| row.name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}

fn line(row: &Row) -> String {
    let Row {
        name,
        proves,
        outcome,
        took,
    } = row;
    let colour = match outcome {
        Outcome::Passed(_) => Colour::Green,
        Outcome::Failed => Colour::Red,
        Outcome::Skipped(_) | Outcome::Absent(_) => Colour::Yellow,
    };
    let tests = match outcome {
        Outcome::Passed(tests) if *tests > 0 => format!("{tests} tests"),
        _ => String::new(),
    };
    let says = match outcome {
        Outcome::Skipped(why) | Outcome::Absent(why) => why,
        Outcome::Passed(_) | Outcome::Failed => proves,
    };
    format!(
        "  {name:<11} {} {tests:>10} {:>7.1} s  {says}",
        paint(&format!("{outcome:<6}"), colour),
        took.as_secs_f64(),
    )
}

#[derive(Clone, Copy)]
enum Colour {
    Bold = 1,
    Red = 31,
    Green = 32,
    Yellow = 33,
}

fn paint(text: &str, colour: Colour) -> String {
    if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{}m{text}\x1b[0m", colour as u8)
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(outcome: Outcome, strict: bool) -> anyhow::Result<()> {
        let mut summary = Summary::new("test");
        summary.step("part", "a thing", || Ok(outcome))?;
        summary.finish(strict)
    }

    #[test]
    fn a_skip_is_a_failure_only_where_nobody_reads_it() {
        let skip = Outcome::Skipped("needs root".into());
        assert!(after(skip.clone(), false).is_ok());
        assert!(after(skip, true).is_err());
        assert!(after(Outcome::Absent("not installed".into()), true).is_ok());
    }

    #[test]
    fn a_failed_step_fails_the_series_by_name() {
        let error = after(Outcome::Failed, false).unwrap_err().to_string();
        assert_eq!(error, "test failed: part");
    }
}
