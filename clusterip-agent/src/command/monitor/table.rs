//! Events as columns that are as wide as the widest cell so far.

use std::{fmt::Write as _, net::SocketAddr};

use super::super::table::dash;
use crate::view::event::{BEGIN, EventLine, EventView};

const HEAD: [&str; COLUMNS] = [
    "TIME", "KIND", "PROTO", "CLIENT", "SERVICE", "FRONTEND", "BACKEND", "OUTCOME",
];
const COLUMNS: usize = 8;

/// The columns so far.
#[derive(Debug, Default)]
pub(super) struct Columns {
    widths: [usize; COLUMNS],
    has_head: bool,
}

impl Columns {
    /// The text of a line, below the head the first time.
    pub(super) fn line(&mut self, line: &EventLine) -> String {
        let time = line.time.get(11..23).unwrap_or(&line.time);
        match &line.event {
            Some(event) => self.aligned(&cells(time, &line.kind, event)),
            None if line.kind == BEGIN => {
                if std::mem::replace(&mut self.has_head, true) {
                    return String::new();
                }
                // Wide enough for most, so that the first lines stand below each other.
                self.widths = [12, 10, 5, 36, 20, 18, 36, 0];
                self.aligned(&HEAD.map(str::to_owned))
            }
            None => {
                let lost = line.lost.unwrap_or_default();
                format!("{time}  {}  {lost} events are missing here\n", line.kind)
            }
        }
    }

    fn aligned(&mut self, cells: &[String; COLUMNS]) -> String {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&mut self.widths) {
            *width = (*width).max(cell.chars().count());
            let width = *width;
            // Writing to a String does not fail.
            let _written = write!(text, "{cell:width$}  ");
        }
        let end = text.trim_end().len();
        text.truncate(end);
        text.push('\n');
        text
    }
}

fn cells(time: &str, kind: &str, event: &EventView) -> [String; COLUMNS] {
    let named = |end: Option<SocketAddr>, pod: &str| match (end, pod) {
        (None, _) => "-".to_owned(),
        (Some(end), "") => end.to_string(),
        (Some(end), pod) => format!("{end} ({pod})"),
    };
    let service = match (event.service.as_str(), event.port_name.as_str()) {
        ("", _) => "-".to_owned(),
        (service, "") => format!("{}/{service}", event.namespace),
        (service, port) => format!("{}/{service}:{port}", event.namespace),
    };
    let client = match event.client {
        None if event.hook == "socket" => "this node".to_owned(),
        client => named(client, &event.client_pod),
    };
    [
        time.to_owned(),
        kind.to_owned(),
        dash(&event.protocol),
        client,
        service,
        named(event.frontend, ""),
        named(event.backend, &event.backend_pod),
        event.outcome.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(client: Option<&str>, hook: &str) -> EventLine {
        let end = |text: &str| text.parse().ok();
        EventLine {
            version: 1,
            time: "2026-01-02T03:04:05.678901Z".to_owned(),
            kind: "opened".to_owned(),
            lost: None,
            event: Some(EventView {
                outcome: "new-flow".to_owned(),
                hook: hook.to_owned(),
                device: String::new(),
                protocol: "TCP".to_owned(),
                client: client.and_then(end),
                client_pod: String::new(),
                namespace: "default".to_owned(),
                service: "web".to_owned(),
                port_name: "http".to_owned(),
                frontend: end("10.96.0.10:80"),
                backend: end("10.244.0.11:8080"),
                backend_pod: "default/web-1".to_owned(),
                bytes: 74,
                frame: None,
                link: None,
            }),
        }
    }

    #[test]
    fn columns_stay_and_grow() {
        let mut columns = Columns::default();
        let head = columns.line(&EventLine::begin(String::new()));
        assert!(
            head.starts_with("TIME          KIND        PROTO  CLIENT "),
            "{head}"
        );
        let line = columns.line(&event(Some("10.244.0.2:40000"), "from-pod"));
        assert!(
            line.starts_with("03:04:05.678  opened      TCP    10.244.0.2:40000 "),
            "{line}"
        );
        assert!(
            line.contains(
                "default/web:http      10.96.0.10:80       10.244.0.11:8080 (default/web-1)"
            ),
            "{line}"
        );
        assert!(line.ends_with("new-flow\n"), "{line}");
        let line = columns.line(&event(None, "socket"));
        assert!(line.contains("  this node  "), "{line}");
        let line = columns.line(&EventLine::lost("t".to_owned(), 3));
        assert_eq!(line, "t  lost  3 events are missing here\n");
        assert_eq!(
            columns.line(&EventLine::begin(String::new())),
            "",
            "one head"
        );
    }
}
