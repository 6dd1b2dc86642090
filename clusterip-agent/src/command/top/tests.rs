//! Screens of made-up readings.

use std::time::{Duration, Instant};

use ratatui::{Terminal, backend::TestBackend};
use serde_json::{Value, json};

use super::{board::*, screen::*, *};

fn traffic(packets: u64) -> Value {
    json!({"flows": packets / 10, "requestPackets": packets, "requestBytes": packets * 100, "replyPackets": 0, "replyBytes": 0})
}

fn reading(at: Instant, web: u64, db: u64) -> Reading {
    let service = |name: &str, packets: u64| {
        json!({
            "namespace": "default", "name": name, "type": "ClusterIP", "clusterIPs": [], "externalIPs": [],
            "externalName": "", "ports": [], "endpointsChosen": 1, "endpointsListed": 2, "algorithm": "round-robin",
            "affinitySeconds": 0, "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Cluster",
            "ageSeconds": 1, "problems": [], "traffic": traffic(packets), "balancers": [],
        })
    };
    let endpoint = |address: &str, packets: u64| {
        json!({
            "namespace": "default", "service": "web", "portName": "", "protocol": "TCP", "family": "IPv4", "address":
            address, "state": "active", "weight": 1, "node": "", "zone": "", "pod": "", "probes": [], "programmed": true,
            "activeFlows": null, "inactiveFlows": null, "traffic": traffic(packets),
        })
    };
    let status = json!({
        "version": 1, "healthy": true,
        "agent": {
            "version": "1", "abi": 1, "kernel": "6", "node": "node-a", "pid": 1, "ageSeconds": 1, "mode": "tcx",
            "socketLb": "off", "bpffs": "/b",
        },
        "source": {"kind": "manifests", "place": "/m", "synced": true, "services": 2, "podAddresses": 2},
        "dataplane": {"programmed": true, "waiting": 0, "frontends": 2, "backends": 2},
        "maps": [{"name": "FLOWS", "help": "", "entries": 5, "capacity": 100, "percent": 5}],
        "interfaces": [],
        "outcomes": [
            {"outcome": "request", "help": "x", "packets": web, "bytes": 1},
            {"outcome": "no-endpoint", "help": "None.", "packets": db, "bytes": 1},
        ],
        "problems": [],
    });
    let read = |value: Value| serde_json::from_value(value);
    Reading {
        at,
        status: read(status).expect("a status"),
        services: serde_json::from_value(json!({"version": 1, "services": [service("db", db), service("web", web)]}))
            .expect("services"),
        endpoints: serde_json::from_value(
            json!({"version": 1, "endpoints": [endpoint("10.1.0.1:80", 100), endpoint("10.1.0.2:80", 50)]}),
        )
        .expect("endpoints"),
        open: Some(Selection {
            namespace: Some("default".to_owned()),
            name: Some("web".to_owned()),
        }),
    }
}

fn board() -> Board {
    let start = Instant::now();
    let mut board = Board::new(reading(start, 0, 0));
    board.take(reading(start + Duration::from_secs(2), 4000, 20));
    board
}

fn text(board: &Board, width: usize, height: usize) -> String {
    let page = lines(board, width, height);
    assert!(page.len() <= height);
    assert!(page.iter().all(|(_, line)| line.chars().count() <= width));
    let lines: Vec<&str> = page.iter().map(|(_, line)| line.trim_end()).collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_small_screen_has_all_of_it() {
    assert_eq!(
        text(&board(), 80, 14),
        "\
clusterip  node-a  healthy
2010 packets/s  201k bytes/s  201 flows/s
FLOWS 5/100 5%

SERVICE                      ENDPOINTS  FLOW/S   PKT/S  BYTE/S  LATELY
default/web                        1/2     200    2000    200k  █
default/db                         1/2       1      10    1000  █




OTHER OUTCOMES                 PKT/S   PACKETS
no-endpoint                       10        20  None.
q quit  s sort by (packets)  / filter  ↑↓ select  Enter open
"
    );
}

#[test]
fn a_service_is_opened_and_others_filtered_and_sorted() {
    let mut board = board();
    assert!(press(&mut board, KeyCode::Enter));
    let open = text(&board, 80, 24);
    assert!(open.contains("ENDPOINTS of default/web\n"), "{open}");
    assert!(
        open.contains("active           10 ████████████████████\n"),
        "{open}"
    );
    assert!(open.contains("active            5 ██████████\n"), "{open}");
    assert!(press(&mut board, KeyCode::Esc) && !board.is_open);
    for letter in "/db".chars() {
        assert!(press(&mut board, KeyCode::Char(letter)));
    }
    assert!(press(&mut board, KeyCode::Enter));
    let filtered = text(&board, 80, 24);
    assert!(
        !filtered.contains("default/web") && filtered.contains("/ filter [db]"),
        "{filtered}"
    );
    let mut board = super::tests::board();
    for order in ["bytes", "flows", "name"] {
        press(&mut board, KeyCode::Char('s'));
        assert_eq!(board.order.name(), order);
    }
    let names: Vec<String> = board.rows().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["default/db", "default/web"]);
    press(&mut board, KeyCode::Down);
    press(&mut board, KeyCode::Down);
    assert_eq!(board.selected, 1, "it ends at the last one");
    assert!(!press(&mut board, KeyCode::Char('q')));
}

#[test]
fn a_terminal_that_is_too_small_is_said_to_be() {
    assert_eq!(text(&board(), 40, 5), "too small: 60x12 at least\n");
    assert_eq!(sparkline(&[0, 1, 4, 8]), "▁▂▅█");
}

/// What stands in a frame of that size, as the terminal would get it.
fn screen(board: &Board, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(frame, board)).expect("a frame");
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

#[test]
fn the_frame_buffer_holds_the_page_and_marks_what_matters() {
    let mut board = board();
    let shown = screen(&board, 80, 24);
    let page = text(&board, 80, 24);
    let wanted: Vec<&str> = page.lines().collect();
    assert_eq!(shown, wanted);
    press(&mut board, KeyCode::Enter);
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
    terminal.draw(|frame| draw(frame, &board)).expect("a frame");
    let buffer = terminal.backend().buffer();
    let marked: Vec<u16> = (0..24)
        .filter(|y| buffer[(0, *y)].modifier.contains(Modifier::REVERSED))
        .collect();
    assert_eq!(marked, [5], "the selected service");
    // The page is written anew where the terminal gets another size.
    assert_eq!(screen(&board, 59, 24)[0], "too small: 60x12 at least");
    assert_eq!(screen(&board, 80, 11)[0], "too small: 60x12 at least");
    assert!(screen(&board, 60, 12)[0].starts_with("clusterip  node-a"));
}

#[test]
fn endpoints_of_another_service_are_read_at_once() {
    let mut board = board();
    assert!(!board.has_opened(), "none is open");
    press(&mut board, KeyCode::Enter);
    assert!(!board.has_opened(), "those of this one are there");
    press(&mut board, KeyCode::Down);
    assert!(board.has_opened());
}
