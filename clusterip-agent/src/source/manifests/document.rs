//! A file as a row of documents, so that one that is broken does not hide the others.

use serde::de::IgnoredAny;

use super::tree::Flaw;
use crate::model::problem::Position;

/// One document of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Document<'a> {
    /// Its text.
    pub(super) text: &'a str,
    /// Where the text begins in the file.
    pub(super) start: Position,
}

impl Document<'_> {
    /// The position in the file of a place in the text; `line` counts from 1 and `column` from 0, as the parser does.
    pub(super) fn position(&self, line: usize, column: usize) -> Position {
        let line = u32::try_from(line.max(1)).unwrap_or(u32::MAX);
        let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
        let Position {
            line: first_line,
            column: first_column,
        } = self.start;
        Position {
            line: first_line.saturating_add(line - 1),
            column: if line == 1 {
                first_column.saturating_add(column - 1)
            } else {
                column
            },
        }
    }
}

/// The documents of a file, and the flaw after which it could not be divided any further. Documents without
/// content are left out.
pub(super) fn split<'a>(file: &str, text: &'a str) -> (Vec<Document<'a>>, Option<Flaw>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_json = std::path::Path::new(file)
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    if is_json {
        split_json(text)
    } else {
        (split_yaml(text), None)
    }
}

/// YAML allows `---` and `...` at the start of a line nowhere but between documents, not even inside a quoted
/// text: no parser is needed to find them.
fn split_yaml(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut offset, mut line) = (0, 1, 0, 1);
    let mut add = |range: std::ops::Range<usize>, line: u32| {
        let text = text.get(range).unwrap_or_default();
        if has_content(text) {
            documents.push(Document {
                text,
                start: Position { line, column: 1 },
            });
        }
    };
    for row in text.split_inclusive('\n') {
        if is_marker(row, "---") {
            add(begin..offset, begin_line);
            (begin, begin_line) = (offset, line);
        }
        offset += row.len();
        line += 1;
        if is_marker(row, "...") {
            add(begin..offset, begin_line);
            (begin, begin_line) = (offset, line);
        }
    }
    add(begin..offset, begin_line);
    documents
}

fn is_marker(row: &str, marker: &str) -> bool {
    row.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// False for a text of comments, directives and markers only.
fn has_content(text: &str) -> bool {
    text.lines().any(|row| {
        let row = row
            .strip_prefix("---")
            .or_else(|| row.strip_prefix("..."))
            .unwrap_or(row)
            .trim();
        !row.is_empty() && !row.starts_with(['#', '%'])
    })
}

fn split_json(text: &str) -> (Vec<Document<'_>>, Option<Flaw>) {
    let mut documents = Vec::new();
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    let mut begin = 0;
    let mut reached = Walk::default();
    while let Some(value) = values.next() {
        if let Err(error) = value {
            let flaw = Flaw {
                position: Position {
                    line: u32::try_from(error.line()).unwrap_or(u32::MAX),
                    column: u32::try_from(error.column()).unwrap_or(u32::MAX),
                },
                field: String::new(),
                value: String::new(),
                message: format!(
                    "not JSON: {error}; mend the text from here on, what this file defined before stays in force"
                ),
            };
            return (documents, Some(flaw));
        }
        let end = values.byte_offset();
        let piece = text.get(begin..end).unwrap_or_default();
        let blank = piece.len() - piece.trim_start().len();
        reached.over(piece.get(..blank).unwrap_or_default());
        documents.push(Document {
            text: piece.trim_start(),
            start: reached.position(),
        });
        reached.over(piece.trim_start());
        begin = end;
    }
    (documents, None)
}

/// Where a walk over a text has come to.
#[derive(Default)]
struct Walk {
    lines: u32,
    columns: u32,
}

impl Walk {
    fn over(&mut self, text: &str) {
        for character in text.chars() {
            if character == '\n' {
                self.lines = self.lines.saturating_add(1);
                self.columns = 0;
            } else {
                self.columns = self.columns.saturating_add(1);
            }
        }
    }

    const fn position(&self) -> Position {
        Position {
            line: self.lines.saturating_add(1),
            column: self.columns.saturating_add(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(file: &str, text: &str) -> Vec<(String, u32, u32)> {
        split(file, text)
            .0
            .into_iter()
            .map(|d| (d.text.to_owned(), d.start.line, d.start.column))
            .collect()
    }

    #[test]
    fn yaml_is_divided_at_its_markers_and_keeps_its_line_numbers() {
        let text = "# head\n---\na: 1\n--- # next\n\n---\nb: |\n  ---\n...\n%YAML 1.2\n---\nc: 3";
        assert_eq!(
            pieces("x.yaml", text),
            [
                ("---\na: 1\n".to_owned(), 2, 1),
                ("---\nb: |\n  ---\n...\n".to_owned(), 6, 1),
                ("---\nc: 3".to_owned(), 11, 1),
            ]
        );
    }

    #[test]
    fn json_values_may_follow_each_other() {
        assert_eq!(
            pieces("x.json", "{\"a\":1} {\"b\":\n2}\n"),
            [
                ("{\"a\":1}".to_owned(), 1, 1),
                ("{\"b\":\n2}".to_owned(), 1, 9)
            ]
        );
    }

    #[test]
    fn json_before_a_flaw_is_kept() {
        let (documents, flaw) = split("x.json", "{\"a\":1}\n{\"b\":\n  oops}\n");
        assert_eq!(documents.len(), 1);
        let position = flaw.expect("a flaw").position;
        assert_eq!((position.line, position.column), (3, 3));
    }

    #[test]
    fn positions_are_those_of_the_file() {
        let document = Document {
            text: "",
            start: Position { line: 5, column: 9 },
        };
        let at = |line, column| {
            let p = document.position(line, column);
            (p.line, p.column)
        };
        assert_eq!(at(1, 0), (5, 9));
        assert_eq!(at(2, 3), (6, 4));
    }
}
