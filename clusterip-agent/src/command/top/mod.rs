//! `clusterip top`: services by what goes through them, live.

mod board;
mod screen;
mod stop;
#[cfg(test)]
mod tests;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    layout::Rect,
    style::{Modifier, Style},
    text::{Line, Text},
};

use self::{
    board::{Board, Reading},
    screen::{Mark, lines},
};
use super::{
    output,
    reach::{Reach, about, ask},
};
use crate::view::{Selection, endpoints::Endpoints};

/// Between two readings.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// A page where there is no terminal.
const PAGE: (u16, u16) = (80, 24);

/// What is shown.
#[derive(Args, Debug)]
pub(super) struct TopArgs {
    #[command(flatten)]
    reach: Reach,
    /// Print one page and end, for scripts
    #[arg(long)]
    once: bool,
}

/// Shows it until the user has seen enough.
pub(super) fn top(args: &TopArgs) -> anyhow::Result<()> {
    let mut board = Board::new(read(&args.reach, None)?);
    if args.once {
        std::thread::sleep(PAUSE);
        board.take(read(&args.reach, None)?);
        let (width, height) = PAGE;
        let page = lines(&board, width.into(), height.into());
        let page: Vec<&str> = page.iter().map(|(_, line)| line.trim_end()).collect();
        return output::print(&(page.join("\n").trim_end().to_owned() + "\n"));
    }
    let ended = stop::listen()?;
    let mut terminal =
        ratatui::try_init().context("take over the terminal; --once prints one page")?;
    let result = follow(&mut terminal, &mut board, &args.reach, &ended);
    ratatui::try_restore().context("give the terminal back")?;
    result
}

/// Reads everything, and the endpoints of the service that is open: those of all would be much to read each second.
fn read(reach: &Reach, open: Option<Selection>) -> anyhow::Result<Reading> {
    Ok(Reading {
        at: Instant::now(),
        status: ask(reach, "/v1/status")?,
        services: ask(reach, "/v1/services")?,
        endpoints: match &open {
            Some(selection) => ask(reach, &about("/v1/endpoints", selection, &[]))?,
            None => Endpoints::default(),
        },
        open,
    })
}

fn follow(
    terminal: &mut DefaultTerminal,
    board: &mut Board,
    reach: &Reach,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    let mut next = Instant::now() + PAUSE;
    while !ended.load(Ordering::Relaxed) {
        terminal.draw(|frame| draw(frame, board)).context("draw")?;
        let left = next.saturating_duration_since(Instant::now());
        if event::poll(left.min(LOOK)).context("wait for a key")? {
            let event = event::read().context("read a key")?;
            if let Event::Key(key) = event
                && key.kind == KeyEventKind::Press
            {
                let interrupts =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if interrupts || !press(board, key.code) {
                    return Ok(());
                }
            }
            if !board.has_opened() {
                continue;
            }
        } else if Instant::now() < next {
            continue;
        }
        next = Instant::now() + PAUSE;
        // An agent that restarts is waited for; what was read last stays on the screen.
        match read(reach, board.opened()) {
            Ok(reading) => board.take(reading),
            Err(error) => board.trouble = Some(format!("{error:#}")),
        }
    }
    Ok(())
}

fn draw(frame: &mut Frame<'_>, board: &Board) {
    let Rect { width, height, .. } = frame.area();
    let page = lines(board, width.into(), height.into());
    let is_coloured = output::is_coloured();
    let text: Text<'_> = page
        .into_iter()
        .map(|(mark, line)| styled(mark, line, is_coloured))
        .collect();
    frame.render_widget(text, frame.area());
}

/// What a key does; false ends it.
fn press(board: &mut Board, key: KeyCode) -> bool {
    if board.is_typing {
        match key {
            KeyCode::Char(letter) => board.filter.push(letter),
            KeyCode::Backspace => drop(board.filter.pop()),
            KeyCode::Esc => {
                board.filter.clear();
                board.is_typing = false;
            }
            KeyCode::Enter => board.is_typing = false,
            _ => {}
        }
        board.selected = 0;
        return true;
    }
    match key {
        KeyCode::Char('q') => return false,
        KeyCode::Esc if !board.is_open => return false,
        KeyCode::Esc => board.is_open = false,
        KeyCode::Enter => board.is_open = !board.is_open,
        KeyCode::Char('/') => board.is_typing = true,
        KeyCode::Char('s') => board.order = board.order.next(),
        KeyCode::Down | KeyCode::Char('j') => board.select(1),
        KeyCode::Up | KeyCode::Char('k') => board.select(-1),
        _ => {}
    }
    true
}

fn styled(mark: Mark, line: String, is_coloured: bool) -> Line<'static> {
    let style = match mark {
        Mark::Selected => Style::new().add_modifier(Modifier::REVERSED),
        Mark::Bar if is_coloured => Style::new().cyan(),
        Mark::Plain | Mark::Bar => Style::new(),
        Mark::Bad if is_coloured => Style::new().red(),
        Mark::Head | Mark::Bad => Style::new().bold(),
    };
    Line::styled(line, style)
}
