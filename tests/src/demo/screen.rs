//! What the demo writes: plain lines, colour on a terminal only.

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use anyhow::Result;

/// Width of a step's name.
const STEP: usize = 9;

/// Standard output.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    colour: bool,
}

/// A meaning, shown as a colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tone {
    Strong,
    Faint,
    Good,
    Bad,
    Bar,
}

impl Screen {
    pub(super) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: set and not empty.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            terminal: terminal && !dumb,
            colour: terminal && !refused && !dumb,
        }
    }

    /// Whether somebody looks.
    pub(super) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// A text in its colour. Pad it before: the codes have no width.
    pub(super) fn tone(&self, tone: Tone, text: impl Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match tone {
            Tone::Strong => 1,
            Tone::Faint => 2,
            Tone::Good => 32,
            Tone::Bad => 31,
            Tone::Bar => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    #[expect(
        clippy::unused_self,
        reason = "one writes at a time: whoever has the screen"
    )]
    pub(super) fn line(&mut self, text: impl Display) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        Ok(out.flush()?)
    }

    pub(super) fn title(&mut self, text: &str) -> Result<()> {
        let text = self.tone(Tone::Strong, text);
        self.line(format_args!("{text}\n"))
    }

    /// Does a step and tells its outcome and how long it took; on a terminal the line stands while it is done.
    pub(super) fn step<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<(T, String)>,
    ) -> Result<T> {
        if self.terminal {
            let mut out = io::stdout().lock();
            let waiting = self.tone(Tone::Faint, "...");
            write!(out, "  {name:STEP$} {waiting}\r")?;
            out.flush()?;
        }
        let start = Instant::now();
        let result = work();
        let time = format!("{:>6} ms", start.elapsed().as_millis());
        let time = self.tone(Tone::Faint, time);
        match result {
            Ok((value, told)) => {
                let name = self.tone(Tone::Good, format_args!("{name:STEP$}"));
                self.line(format_args!("  {name} {told:<56} {time}"))?;
                Ok(value)
            }
            Err(error) => {
                let name = self.tone(Tone::Bad, format_args!("{name:STEP$}"));
                self.line(format_args!("  {name} {:<56} {time}", "failed"))?;
                Err(error)
            }
        }
    }

    /// A bar of `part` of `whole`, at most `width` wide.
    pub(super) fn bar(&self, part: u64, whole: u64, width: u64) -> String {
        let length = part
            .saturating_mul(width)
            .checked_div(whole)
            .unwrap_or(0)
            .min(width);
        let length = if part > 0 { length.max(1) } else { 0 };
        let blocks = "\u{2588}".repeat(usize::try_from(length).unwrap_or(0));
        self.tone(Tone::Bar, blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Screen = Screen {
        terminal: false,
        colour: false,
    };

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        assert_eq!(PLAIN.bar(5, 10, 4).chars().count(), 2);
        assert_eq!(PLAIN.bar(1, 1000, 4).chars().count(), 1);
        assert_eq!(PLAIN.bar(0, 10, 4), "");
        assert_eq!(PLAIN.bar(0, 0, 4), "");
    }
}
