//! A table as a plot: bars in SVG, with nothing that a viewer would have to fetch.

use std::fmt::Write as _;

use super::table::{Cell, Line, Table, figure};

/// Points of the picture.
const BARS: f64 = 430.0;
/// Of a letter, on the average.
const LETTER: f64 = 5.9;
const RIGHT: f64 = 80.0;
const TOP: f64 = 58.0;
const BAR: f64 = 13.0;
/// Between the bars of one line and those of the next.
const GAP: f64 = 12.0;
/// Of the columns, light to dark: they can be told apart without colours too.
const SHADES: [&str; 5] = ["#a6c8e4", "#5b9bd0", "#2a6ca8", "#12406e", "#08213b"];
/// From this on a linear scale hides the small ones.
const DECADES: f64 = 30.0;

/// Where a value is on the picture.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Where the bars begin.
    left: f64,
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(table: &Table) -> Self {
        let cells = || table.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let high = cells().fold(0.0_f64, |most, cell| {
            most.max(cell.spread.1).max(cell.value)
        });
        let least = cells().map(|cell| cell.value).filter(|value| *value > 0.0);
        let least = least.fold(f64::INFINITY, f64::min);
        let is_logarithmic = high / least > DECADES;
        let names = table.rows.iter().map(|row| row.name.chars().count());
        let letters = u32::try_from(names.max().unwrap_or_default()).unwrap_or_default();
        Self {
            left: (f64::from(letters) * LETTER).max(100.0) + 20.0,
            low: if is_logarithmic { least / 2.0 } else { 0.0 },
            // A line without an end would have no scale.
            high: if high > 0.0 { high } else { 1.0 },
            is_logarithmic,
        }
    }

    fn x(self, value: f64) -> f64 {
        let part = if self.is_logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        self.left + part.clamp(0.0, 1.0) * BARS
    }
}

/// The picture.
#[must_use]
pub fn svg(table: &Table) -> String {
    let scale = Scale::of(table);
    let mut body = String::new();
    let mut y = TOP;
    for line in &table.rows {
        y = bars(&mut body, line, scale, y);
    }
    let has_base = table.unit.starts_with("x ") && scale.high >= 1.0;
    if has_base {
        let x = scale.x(1.0);
        let _ = writeln!(
            body,
            r##"<line x1="{x:.1}" y1="{TOP}" x2="{x:.1}" y2="{y:.1}" stroke="#a03020" stroke-dasharray="3 3"/>"##
        );
    }
    let (width, height) = (scale.left + BARS + RIGHT, y + 10.0);
    let kind = if scale.is_logarithmic {
        ", logarithmic"
    } else {
        ""
    };
    let (title, unit) = (escaped(&table.title), escaped(&table.unit));
    let mut text = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" font-size="11" fill="#202020">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="20" font-size="14" font-weight="bold">{title}</text>
<text x="10" y="36" fill="#606060">{unit}{kind}</text>
"##
    );
    legend(&mut text, &table.columns, scale.left);
    text.push_str(&body);
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, columns: &[String], left: f64) {
    if columns.len() < 2 {
        return;
    }
    let mut x = left;
    for (column, shade) in columns.iter().zip(SHADES.iter().cycle()) {
        let _ = writeln!(
            text,
            r#"<rect x="{x:.0}" y="40" width="10" height="10" fill="{shade}"/><text x="{:.0}" y="49">{}</text>"#,
            x + 14.0,
            escaped(column)
        );
        x += 118.0;
    }
}

/// The bars of one line; returns where the next one begins.
fn bars(text: &mut String, Line { name, cells }: &Line, scale: Scale, top: f64) -> f64 {
    let mut y = top;
    for (cell, shade) in cells.iter().zip(SHADES.iter().cycle()) {
        if let Some(cell) = cell {
            bar(text, cell, shade, scale, y);
            y += BAR;
        }
    }
    let middle = f64::midpoint(top, y.max(top + BAR)) + 4.0;
    let _ = writeln!(
        text,
        r#"<text x="{:.0}" y="{middle:.1}" text-anchor="end">{}</text>"#,
        scale.left - 8.0,
        escaped(name)
    );
    y.max(top + BAR) + GAP
}

fn bar(text: &mut String, cell: &Cell, shade: &str, scale: Scale, y: f64) {
    let (low, high) = cell.spread;
    let (end, thickness) = (scale.x(cell.value), BAR - 2.0);
    let _ = write!(
        text,
        r#"<rect x="{:.1}" y="{y:.1}" width="{:.1}" height="{thickness}" fill="{shade}"/>"#,
        scale.left,
        (end - scale.left).max(0.5)
    );
    let middle = y + thickness / 2.0;
    if low < high {
        let _ = write!(
            text,
            r##"<line x1="{:.1}" y1="{middle:.1}" x2="{:.1}" y2="{middle:.1}" stroke="#202020"/>"##,
            scale.x(low),
            scale.x(high)
        );
    }
    let _ = writeln!(
        text,
        r#"<text x="{:.1}" y="{:.1}" font-size="10">{}</text>"#,
        scale.x(cell.value.max(high)) + 4.0,
        middle + 3.5,
        figure(cell.value)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(values: &[f64]) -> Table {
        Table {
            name: "t".into(),
            title: "a < b & \"c\"".into(),
            unit: "x direct".into(),
            absolute: String::new(),
            columns: values.iter().map(f64::to_string).collect(),
            rows: vec![Line {
                name: "way".into(),
                cells: values
                    .iter()
                    .map(|value| Some(Cell::of(vec![*value])))
                    .collect(),
            }],
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_longer_bar_is_more_and_text_is_escaped() {
        let text = svg(&table(&[1.0, 0.5]));
        assert!(text.contains("a &lt; b &amp; &quot;c&quot;"), "{text}");
        for width in [BARS, BARS / 2.0] {
            assert!(text.contains(&format!("width=\"{width:.1}\"")), "{text}");
        }
        // What a ratio is compared with.
        assert!(text.contains("stroke-dasharray"), "{text}");
    }

    #[test]
    fn figures_that_are_far_apart_get_a_logarithmic_scale() {
        let text = svg(&table(&[1.0, 1_000.0]));
        assert!(text.contains("logarithmic"), "{text}");
        assert!(!svg(&table(&[])).contains("NaN"));
    }
}
