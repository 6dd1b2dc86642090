//! Tables for people: columns, and numbers as they read them.

use std::net::{IpAddr, SocketAddr};

/// Spaces between columns.
const GAP: usize = 2;

/// Columns as wide as their widest cell; no spaces at the end of a line.
pub(super) fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut missing = 0;
        for (cell, width) in row.iter().zip(&widths) {
            if !cell.is_empty() {
                text.extend(std::iter::repeat_n(' ', missing));
                text.push_str(cell);
                missing = 0;
            }
            missing += width.saturating_sub(cell.chars().count()) + GAP;
        }
        text.push('\n');
    }
    text
}

/// The first row.
pub(super) fn head(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A dash where there is nothing.
pub(super) fn dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// `[fd00::1]:80`
pub(super) fn socket(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

/// An age as kubectl writes it: two figures at the most.
pub(super) fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..28_800 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if !hours.is_multiple_of(24) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// A number with its thousands: `1234`, `56.7k`, `8.9M`.
pub(super) fn short(number: u64) -> String {
    let units = [
        (1_000_000_000_000, "T"),
        (1_000_000_000, "G"),
        (1_000_000, "M"),
        (1_000, "k"),
    ];
    if number < 10_000 {
        return number.to_string();
    }
    for (unit, name) in units {
        if number >= unit {
            let tenths = number / (unit / 10);
            return if tenths >= 1000 {
                format!("{}{name}", tenths / 10)
            } else {
                format!("{}.{}{name}", tenths / 10, tenths % 10)
            };
        }
    }
    number.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (245, "4m5s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (30_000, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (700_000, "8d"),
            (40_000_000, "462d"),
        ] {
            assert_eq!(age(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0, "0"),
            (9_999, "9999"),
            (12_345, "12.3k"),
            (123_456, "123k"),
            (1_234_567, "1.2M"),
            (99_900_000_000, "99.9G"),
        ] {
            assert_eq!(short(number), text);
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [head(&["A", "BB"]), head(&["ccc", "d"]), head(&["é", ""])];
        assert_eq!(aligned(&rows), "A    BB\nccc  d\né\n");
    }
}
