//! What dashboard and alert rules ask for exists: every series and label of `deploy/` is in `docs/metrics.md`, which a test
//! of the agent compares with the code, and one with a running agent with what it says.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "a test target is nothing but tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use clusterip_tests::{metrics::documented, require};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Labels that Prometheus itself gives, or that an expression makes.
const GIVEN: [&str; 3] = ["instance", "job", "le"];
/// Words of the language after which labels stand in brackets.
const GROUPINGS: [&str; 4] = ["by", "without", "on", "ignoring"];

/// Series that an expression asks for, and the labels it names: of each in its braces, and of all in groupings.
#[derive(Default, Debug)]
struct Asked {
    series: BTreeMap<String, BTreeSet<String>>,
    grouped: BTreeSet<String>,
}

const fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// Names before `=`, `!=`, `=~` or `!~` outside of quotes.
fn matchers(inside: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (mut name, mut quoted) = (String::new(), false);
    for letter in inside.chars() {
        match letter {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '=' | '!' | '~' if !name.is_empty() => {
                names.insert(std::mem::take(&mut name));
            }
            '=' | '!' | '~' => {}
            ',' => name.clear(),
            letter if is_name(letter) => name.push(letter),
            _ => {}
        }
    }
    names
}

fn asked(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '"')
    {
        let (before, word) = rest.split_at(start);
        if let Some(text) = word.strip_prefix('"') {
            rest = text.split_once('"').unwrap().1;
            continue;
        }
        let end = word.find(|letter| !is_name(letter)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        rest = after;
        let next = after.trim_start();
        if GROUPINGS.contains(&name) && next.starts_with('(') {
            let (inside, after) = next.split_once(')').unwrap();
            let labels = inside.trim_start_matches('(').split(',');
            asked.grouped.extend(labels.map(|it| it.trim().to_owned()));
            rest = after;
        } else if name.contains('_') && !next.starts_with('(') && !before.ends_with(['[', '_', '$'])
        {
            let labels = match after.strip_prefix('{') {
                Some(inside) => {
                    let (inside, after) = inside.split_once('}').unwrap();
                    rest = after;
                    matchers(inside)
                }
                None => BTreeSet::new(),
            };
            asked
                .series
                .entry(name.to_owned())
                .or_default()
                .extend(labels);
        }
    }
    asked
}

/// What an expression asks for that is not there.
fn missing(expression: &str) -> Vec<String> {
    let documented = documented();
    let mut missing = Vec::new();
    let asked = asked(expression);
    let mut known: BTreeSet<&str> = GIVEN.into();
    for (name, labels) in &asked.series {
        let of_histogram = ["_bucket", "_count", "_sum"];
        let family = of_histogram.iter().find_map(|end| name.strip_suffix(end));
        let found = documented.get(name).or_else(|| {
            let found = documented.get(family?);
            found.filter(|it| it.kind == "histogram")
        });
        let Some(found) = found else {
            missing.push(format!("{name} in {expression}"));
            continue;
        };
        known.extend(found.labels.iter().map(String::as_str));
        let foreign = labels.iter().filter(|label| {
            !found.labels.contains(label.as_str()) && !GIVEN.contains(&label.as_str())
        });
        missing.extend(foreign.map(|label| format!("label {label} of {name} in {expression}")));
    }
    let foreign = asked
        .grouped
        .iter()
        .filter(|label| !known.contains(label.as_str()));
    missing.extend(foreign.map(|label| format!("label {label} in {expression}")));
    missing
}

/// Values of a key, wherever it stands.
fn values<'a>(document: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => found.push(text),
                    other => values(other, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_asks_for_series_that_there_are() {
    let text = read("deploy/dashboard.json");
    let document: Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    values(&document, "expr", &mut expressions);
    assert!(expressions.len() > 20, "{expressions:?}");
    let faults: Vec<String> = expressions.iter().flat_map(|it| missing(it)).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let mut queries = Vec::new();
    values(&document, "definition", &mut queries);
    for query in queries {
        let inside = query.strip_prefix("label_values(").unwrap();
        let (series, label) = inside.trim_end_matches(')').split_once(", ").unwrap();
        let found = missing(&format!("sum by ({label}) ({series})"));
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_takes() {
    let document: Value = serde_json::from_str(&read("deploy/dashboard.json")).unwrap();
    let panels = document
        .pointer("/panels")
        .and_then(Value::as_array)
        .unwrap();
    let mut ids = BTreeSet::new();
    let mut used: BTreeMap<(u64, u64), &str> = BTreeMap::new();
    for panel in panels {
        let title = panel.pointer("/title").and_then(Value::as_str).unwrap();
        assert!(
            ids.insert(panel.pointer("/id").and_then(Value::as_u64)),
            "{title}"
        );
        let number = |key: &str| {
            let place = panel.pointer(&format!("/gridPos/{key}"));
            place.and_then(Value::as_u64).unwrap()
        };
        for x in number("x")..number("x") + number("w") {
            assert!(x < 24, "{title} ends outside");
            for y in number("y")..number("y") + number("h") {
                let other = used.insert((x, y), title);
                assert!(other.is_none(), "{title} lies over {other:?}");
            }
        }
    }
}

#[test]
fn the_alerts_ask_for_series_that_there_are() {
    let text = read("deploy/alerts.yaml");
    let mut lines = text.lines().peekable();
    let mut expressions = Vec::new();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix("expr: ") else {
            continue;
        };
        let mut expression = rest.trim_start_matches(">-").to_owned();
        // The lines of a folded text stand deeper.
        while let Some(more) = lines.next_if(|it| it.starts_with("          ")) {
            expression.push(' ');
            expression.push_str(more.trim());
        }
        expressions.push(expression);
    }
    let alerts = text
        .lines()
        .filter(|line| line.contains("- alert: "))
        .count();
    assert_eq!(alerts, expressions.len());
    assert!(alerts > 8);
    let faults: Vec<String> = expressions
        .iter()
        .map(|it| it.replace("up{", "clusterip_programmed{"))
        .flat_map(|it| missing(&it))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn prometheus_takes_the_alerts_where_it_is_installed() {
    if !require::program("promtool") {
        return;
    }
    let mut promtool = Command::new("promtool");
    let rules = root().join("deploy/alerts.yaml");
    let output = promtool.args(["check", "rules"]).arg(rules).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_is_not_there_is_seen() {
    for expression in [
        "sum(clusterip_nothing_total)",
        "clusterip_service_flows",
        "clusterip_service_flows_total_bucket",
        "clusterip_service_flows_total{colour=\"by (x)\"}",
        "sum by (colour) (clusterip_service_flows_total)",
    ] {
        assert_eq!(missing(expression).len(), 1, "{expression}");
    }
    let good = "topk(10, sum by (service, instance) (rate(clusterip_service_flows_total{service=~\"a|b\"}[5m]))) > 1";
    assert!(missing(good).is_empty());
}
