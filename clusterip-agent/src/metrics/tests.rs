//! `docs/metrics.md` says what there is.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::sync::watch;

use super::{
    catalog,
    server::registry,
    text::{Metric, PREFIX},
};
use crate::{
    dns::{
        forward::{Forwarder, Settings, Timing, Upstreams},
        metrics::{Exchanged, ForwardFigures, Names, Served},
    },
    health::Answers,
    probe::Results,
    reconcile::{Measures, Published},
    source::kubernetes::Tally,
};

/// A line of a table.
struct Row {
    name: String,
    kind: String,
    labels: String,
    help: String,
}

fn own() -> Vec<Row> {
    let row = |metric: &Metric| Row {
        name: format!("{PREFIX}{}", metric.name),
        kind: metric.kind.name().to_owned(),
        labels: metric.labels.join(", "),
        help: metric.help.to_owned(),
    };
    catalog::ALL.iter().map(row).collect()
}

/// Others' names, with a figure in each series.
fn told() -> Registry {
    let upstream = "192.0.2.1:53".parse().expect("an address");
    let settings = Settings {
        upstreams: Upstreams::Given(vec![upstream]),
        stubs: Vec::new(),
        own: Vec::new(),
        cache: 0,
        timing: Timing::default(),
    };
    let forwarder = Forwarder::new(settings).expect("a forwarder");
    for upstream in forwarder.upstreams() {
        let time = Duration::from_millis(1);
        upstream.figures().answer(ResponseCode::NoError, time);
    }
    let served = Served::new(&[], "cluster.local.");
    served.count(&Exchanged {
        is_own: true,
        is_tcp: false,
        client: [192, 0, 2, 1].into(),
        kind: RecordType::A,
        code: ResponseCode::NoError,
        asked: 60,
        answered: 120,
        time: Duration::from_millis(1),
    });
    let names = Names {
        served,
        forwarded: ForwardFigures::new(forwarder, &[]),
    };
    let (_published, seen) = watch::channel(Published::default());
    let mut registry = registry(
        seen,
        &Measures::sampled(),
        &Answers::sampled(),
        &Results::sampled(),
        names,
    );
    Tally::sampled().register(registry.sub_registry_with_prefix("clusterip"));
    registry
}

fn others() -> Vec<Row> {
    let mut text = String::new();
    encode(&mut text, &told()).expect("a text");
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        let words = |start| {
            line.strip_prefix(start)
                .and_then(|rest: &str| rest.split_once(' '))
        };
        if let Some((name, help)) = words("# HELP ") {
            rows.push(Row {
                name: name.to_owned(),
                kind: String::new(),
                labels: "?".to_owned(),
                help: help.trim_end_matches('.').to_owned(),
            });
        }
        let Some(row) = rows.last_mut() else { continue };
        if let Some((_, kind)) = words("# TYPE ") {
            kind.clone_into(&mut row.kind);
        }
        if !line.starts_with('#') {
            row.labels = labels_of(line).join(", ");
        }
    }
    for row in &rows {
        assert_ne!(row.labels, "?", "{} has no series", row.name);
    }
    rows
}

/// Names of the labels of a sample, but for the bounds of buckets; no value here has a comma in it.
fn labels_of(line: &str) -> Vec<&str> {
    let inside = line
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let inside = inside.map_or("", |(inside, _)| inside);
    let names = inside.split(',').filter_map(|pair| pair.split_once('='));
    names
        .map(|(name, _)| name)
        .filter(|name| *name != "le")
        .collect()
}

fn table(rows: &[Row], prefix: &str) -> String {
    let mut text = "| series | type | labels | |\n|---|---|---|---|\n".to_owned();
    let of_prefix = rows.iter().filter(|row| row.name.starts_with(prefix));
    for Row {
        name,
        kind,
        labels,
        help,
    } in of_prefix
    {
        let sample = match kind.as_str() {
            "counter" => format!("{name}_total"),
            _ => name.clone(),
        };
        let labels: Vec<String> = labels
            .split(", ")
            .filter(|label| !label.is_empty())
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = labels.join(" ");
        writeln!(text, "| `{sample}` | {kind} | {labels} | {help} |").expect("a text");
    }
    text
}

#[test]
fn the_documentation_has_every_series() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let old = fs::read_to_string(&path).expect("docs/metrics.md");
    let mut rows = own();
    rows.extend(others());
    let mut new = String::new();
    let mut rest = old.as_str();
    while let Some((before, after)) = rest.split_once("<!-- begin ") {
        let (prefix, after) = after.split_once(" -->\n").expect("an end of the mark");
        let (_, after) = after
            .split_once("<!-- end -->")
            .expect("an end of the table");
        let table = table(&rows, prefix);
        write!(new, "{before}<!-- begin {prefix} -->\n{table}<!-- end -->").expect("a text");
        rows.retain(|row| !row.name.starts_with(prefix));
        rest = after;
    }
    new.push_str(rest);
    let missing: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert!(missing.is_empty(), "no table is for {missing:?}");
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &new).expect("docs/metrics.md");
    }
    assert!(
        env::var_os("UPDATE_EXPECT").is_some() || new == old,
        "docs/metrics.md is not what there is: UPDATE_EXPECT=1 cargo test -p clusterip-agent metrics"
    );
}
