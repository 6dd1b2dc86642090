//! The board as lines of text. Pure.

use super::{
    super::table::short,
    board::{Board, Row},
};
use crate::view::endpoints::EndpointView;

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    Plain,
    Head,
    Selected,
    Bar,
    Bad,
}

/// Less is no screen.
const LEAST: (usize, usize) = (60, 12);
/// Letters of a spread bar.
const BAR: u64 = 20;
/// A map that is fuller than this is worth a look.
const FULL: u64 = 80;
/// Outcomes that are as they should be, and told by the rates of services.
const ORDINARY: [&str; 7] = [
    "not-ours",
    "new-flow",
    "request",
    "reply",
    "socket-new-flow",
    "socket-request",
    "socket-reply",
];

type Page = Vec<(Mark, String)>;

/// The screen: `height` lines at most, each of `width` letters at most.
pub(super) fn lines(board: &Board, width: usize, height: usize) -> Page {
    let (least_width, least_height) = LEAST;
    let mut page = Page::new();
    if width < least_width || height < least_height {
        let text = format!("too small: {least_width}x{least_height} at least");
        page.push((Mark::Bad, text));
    } else {
        head(board, &mut page);
        let foot = foot(board, height);
        services(
            board,
            height.saturating_sub(page.len() + foot.len() + 1),
            &mut page,
        );
        page.resize(
            height.saturating_sub(foot.len() + 1).max(page.len()),
            (Mark::Plain, String::new()),
        );
        page.extend(foot);
        page.push((Mark::Head, keys(board)));
    }
    for (_, line) in &mut page {
        *line = line.chars().take(width).collect();
    }
    page.truncate(height);
    page
}

fn head(board: &Board, page: &mut Page) {
    let status = &board.now.status;
    let total = board.total();
    let health = if status.healthy {
        "healthy"
    } else {
        "NOT HEALTHY: see clusterip status"
    };
    let mark = if status.healthy {
        Mark::Head
    } else {
        Mark::Bad
    };
    page.push((mark, format!("clusterip  {}  {health}", status.agent.node)));
    page.push((
        Mark::Plain,
        format!(
            "{} packets/s  {} bytes/s  {} flows/s",
            short(total.packets()),
            short(total.bytes()),
            short(total.flows)
        ),
    ));
    let maps = status
        .maps
        .iter()
        .filter(|map| ["FLOWS", "HALF_OPEN", "SERVICES", "BACKENDS"].contains(&map.name.as_str()));
    let used = |percent: Option<u64>| percent.unwrap_or_default();
    let texts: Vec<String> = maps
        .clone()
        .map(|map| {
            format!(
                "{} {}/{} {}%",
                map.name,
                map.entries.unwrap_or_default(),
                map.capacity,
                used(map.percent)
            )
        })
        .collect();
    let is_full = maps.clone().any(|map| used(map.percent) >= FULL);
    page.push((
        if is_full { Mark::Bad } else { Mark::Plain },
        texts.join("  "),
    ));
    if let Some(trouble) = &board.trouble {
        page.push((Mark::Bad, trouble.clone()));
    }
    page.push((Mark::Plain, String::new()));
}

fn services(board: &Board, room: usize, page: &mut Page) {
    page.push((
        Mark::Head,
        format!(
            "{:<28} {:>9} {:>7} {:>7} {:>7}  {:<16}",
            "SERVICE", "ENDPOINTS", "FLOW/S", "PKT/S", "BYTE/S", "LATELY"
        ),
    ));
    let rows = board.rows();
    let shown = room.saturating_sub(1).max(1);
    let first = (board.selected + 1).saturating_sub(shown);
    for (index, row) in rows.iter().enumerate().skip(first).take(shown) {
        let mark = if index == board.selected {
            Mark::Selected
        } else {
            Mark::Plain
        };
        page.push((mark, line(row)));
    }
    if rows.is_empty() {
        page.push((Mark::Plain, "no services".to_owned()));
    }
}

fn line(row: &Row<'_>) -> String {
    format!(
        "{:<28} {:>9} {:>7} {:>7} {:>7}  {:<16}",
        cut(&row.name, 28),
        format!(
            "{}/{}",
            row.service.endpoints_chosen, row.service.endpoints_listed
        ),
        short(row.rate.flows),
        short(row.rate.packets()),
        short(row.rate.bytes()),
        sparkline(&row.history)
    )
}

/// The end of a name says more than its beginning.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let rest = text.chars().skip(length + 1 - width);
    std::iter::once('…').chain(rest).collect()
}

/// A letter for each figure, as high as it is beside the highest.
pub(super) fn sparkline(figures: &[u64]) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = figures.iter().copied().max().unwrap_or_default().max(1);
    let block = |figure: &u64| {
        let index = usize::try_from(figure.saturating_mul(7).div_ceil(most)).unwrap_or(7);
        BLOCKS.get(index).copied().unwrap_or('█')
    };
    figures.iter().map(block).collect()
}

/// The service that is open, else what was refused or dropped.
fn foot(board: &Board, height: usize) -> Page {
    let room = height / 3;
    let mut foot = Page::new();
    let rows = board.rows();
    if let Some(row) = rows.get(board.selected).filter(|_| board.is_open) {
        foot.push((Mark::Head, format!("ENDPOINTS of {}", row.name)));
        let endpoints = board.endpoints(row.service);
        let flows = endpoints.iter().map(|it| it.traffic.flows);
        let most = flows.max().unwrap_or_default();
        if endpoints.is_empty() {
            foot.push((Mark::Plain, "none".to_owned()));
        }
        let listed = endpoints.iter().take(room);
        foot.extend(listed.map(|endpoint| (Mark::Bar, spread(endpoint, most))));
        return foot;
    }
    let words = format!("{:<28} {:>7} {:>9}", "OTHER OUTCOMES", "PKT/S", "PACKETS");
    foot.push((Mark::Head, words));
    let all = board.now.status.outcomes.iter();
    let mut others: Vec<_> = all
        .filter(|it| !ORDINARY.contains(&it.outcome.as_str()))
        .collect();
    others.sort_by_key(|it| std::cmp::Reverse(it.packets));
    for outcome in others.iter().take(room) {
        let name = &outcome.outcome;
        let rate = board.outcomes.get(name).copied().unwrap_or_default();
        let mark = if rate > 0 { Mark::Bad } else { Mark::Plain };
        let (rate, packets) = (short(rate), short(outcome.packets));
        let line = format!("{name:<28} {rate:>7} {packets:>9}  {}", outcome.help);
        foot.push((mark, line));
    }
    if others.is_empty() {
        foot.push((Mark::Plain, "none".to_owned()));
    }
    foot
}

/// A bar beside the endpoint with the most flows: as long as its share.
fn spread(endpoint: &EndpointView, most: u64) -> String {
    let length = endpoint
        .traffic
        .flows
        .saturating_mul(BAR)
        .div_ceil(most.max(1));
    let length = usize::try_from(length).unwrap_or_default();
    format!(
        "{:<28} {:<11} {:>7} {}",
        cut(&endpoint.address.to_string(), 28),
        endpoint.state,
        short(endpoint.traffic.flows),
        "█".repeat(length)
    )
}

fn keys(board: &Board) -> String {
    if board.is_typing {
        return format!("filter: {}_  (Enter keeps it, Esc drops it)", board.filter);
    }
    let filter = if board.filter.is_empty() {
        String::new()
    } else {
        format!(" [{}]", board.filter)
    };
    format!(
        "q quit  s sort by ({})  / filter{filter}  ↑↓ select  Enter {}",
        board.order.name(),
        if board.is_open { "close" } else { "open" }
    )
}
