//! Texts in, events out.

mod chance;
mod faults;
mod forms;
mod last_good;

use super::*;
use crate::model::object::{Kind, ObjectName};

fn listing(files: &[(&str, &str)]) -> Listing {
    files
        .iter()
        .map(|(name, text)| ((*name).into(), Ok((*text).into())))
        .collect()
}

/// The problems of one file as `line:column object field "value" message`.
fn problems_of(file: &str, text: &str) -> Vec<String> {
    let events = ManifestSource::new(Rules::default()).update(listing(&[(file, text)]));
    shown_problems(&events)
}

fn shown_problems(events: &[Event]) -> Vec<String> {
    let problems = events.iter().find_map(|event| match event {
        Event::Problems(problems) => Some(problems),
        _ => None,
    });
    problems
        .into_iter()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

/// Events in short: `reset`, `put Service default/web`, `remove ...`, `synced`, `problems 2`.
fn shown(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| match event {
            Event::Reset => "reset".to_owned(),
            Event::Put(object) => format!("put {}", object.key),
            Event::Remove(key) => format!("remove {key}"),
            Event::Synced => "synced".to_owned(),
            Event::Problems(problems) => format!("problems {}", problems.len()),
            Event::Changed(_) => "changed".to_owned(),
            Event::Machine(_) => "machine".to_owned(),
            Event::Conflicts(_) => "conflicts".to_owned(),
            Event::Unprovided(_) => "unprovided".to_owned(),
        })
        .collect()
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  ports:\n    - port: {port}\n"
    )
}

fn source() -> ManifestSource {
    ManifestSource::new(Rules::default())
}

#[test]
fn the_first_listing_is_complete_and_later_ones_are_differences() {
    let mut source = source();
    let (a, b) = (service("a", 80), service("b", 80));
    assert_eq!(
        shown(&source.update(listing(&[("a.yaml", &a), ("b.yaml", &b)]))),
        [
            "reset",
            "put Service default/a",
            "put Service default/b",
            "synced",
            "problems 0"
        ]
    );
    assert!(
        source
            .update(listing(&[("a.yaml", &a), ("b.yaml", &b)]))
            .is_empty()
    );
    let changed = service("b", 81);
    assert_eq!(
        shown(&source.update(listing(&[("a.yaml", &a), ("b.yaml", &changed)]))),
        ["put Service default/b"]
    );
    assert_eq!(
        shown(&source.update(listing(&[("b.yaml", &changed)]))),
        ["remove Service default/a"]
    );
}

#[test]
fn an_empty_directory_is_complete_too() {
    assert_eq!(
        shown(&source().update(Listing::new())),
        ["reset", "synced", "problems 0"]
    );
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let text = format!(
        "{}---\na: b: c\n---\n{}",
        service("a", 80),
        service("b", 80)
    );
    let events = source().update(listing(&[("x.yaml", &text)]));
    assert_eq!(
        shown(&events),
        [
            "reset",
            "put Service default/a",
            "put Service default/b",
            "synced",
            "problems 1"
        ]
    );
    assert!(shown_problems(&events)[0].starts_with("x.yaml:9:5: not YAML"));
}

#[test]
fn an_object_that_turns_bad_keeps_its_last_good_state() {
    let mut source = source();
    source.update(listing(&[("a.yaml", &service("a", 80))]));
    for bad in [
        service("a", 0),
        service("a", 80).replace("port: 80", "port: x"),
        service("a", 80).replace("kind: Service", "kind: Service\nkind: Service"),
        service("a", 80).replace("spec:", "spec: {"),
        service("a", 80).replace("name: a", "name: \"a"),
        "apiVersion: v1\n".to_owned(),
        "kind".to_owned(),
    ] {
        let events = source.update(listing(&[("a.yaml", &bad)]));
        assert_eq!(shown(&events), ["problems 1"], "{bad}");
    }
    assert_eq!(
        shown(&source.update(listing(&[("a.yaml", &service("a", 81))]))),
        ["put Service default/a", "problems 0"]
    );
}

#[test]
fn a_bad_object_alone_does_not_hold_back_what_was_taken_away() {
    let mut source = source();
    let two = format!("{}---\n{}", service("a", 80), service("b", 80));
    source.update(listing(&[("x.yaml", &two)]));
    // Which object is bad is known here: b is really gone.
    assert_eq!(
        shown(&source.update(listing(&[("x.yaml", &service("a", 0))]))),
        ["remove Service default/b", "problems 1"]
    );
}

#[test]
fn a_file_that_cannot_be_read_keeps_its_objects() {
    let mut source = source();
    let (a, b) = (service("a", 80), service("b", 80));
    source.update(listing(&[("a.yaml", &a), ("b.yaml", &b)]));
    let mut unreadable = listing(&[("b.yaml", &b)]);
    unreadable.insert(
        "a.yaml".into(),
        Err("cannot be read: Permission denied".into()),
    );
    let events = source.update(unreadable);
    assert_eq!(shown(&events), ["problems 1"]);
    assert_eq!(
        shown_problems(&events),
        ["a.yaml:0:0: cannot be read: Permission denied"]
    );
    assert_eq!(
        shown(&source.update(listing(&[("b.yaml", &b)]))),
        ["remove Service default/a", "problems 0"]
    );
}

#[test]
fn a_directory_that_cannot_be_read_removes_nothing() {
    let mut source = source();
    let a = service("a", 80);
    source.update(listing(&[("a.yaml", &a)]));
    let path = Path::new("/no/such/directory");
    let error = DirectoryError::Missing(path.to_owned());
    assert_eq!(shown(&source.unreadable(path, &error)), ["problems 1"]);
    assert!(source.unreadable(path, &error).is_empty());
    assert_eq!(
        shown(&source.update(listing(&[("a.yaml", &a)]))),
        ["problems 0"]
    );
}

#[test]
fn two_files_with_one_object_are_a_problem_that_names_both_and_who_had_it_keeps_it() {
    let mut source = source();
    let (first, second) = (service("a", 80), service("a", 81));
    let events = source.update(listing(&[("b.yaml", &first)]));
    assert_eq!(port_of(&events), Some(80));
    let events = source.update(listing(&[("a.yaml", &second), ("b.yaml", &first)]));
    assert_eq!(shown(&events), ["problems 1"]);
    let problem = &shown_problems(&events)[0];
    assert!(
        problem.starts_with("a.yaml:1:1: Service default/a: defined twice: b.yaml, line 1"),
        "{problem}"
    );
    // Nobody had it before: the first by file name.
    let mut fresh = self::source();
    let events = fresh.update(listing(&[("a.yaml", &second), ("b.yaml", &first)]));
    assert_eq!(port_of(&events), Some(81));
    // The other takes over when the holder is gone.
    let events = source.update(listing(&[("a.yaml", &second)]));
    assert_eq!(port_of(&events), Some(81));
}

#[test]
fn a_good_definition_wins_over_a_bad_one_that_never_was_good() {
    let events = source().update(listing(&[
        ("a.yaml", &service("a", 0)),
        ("b.yaml", &service("a", 81)),
    ]));
    assert_eq!(port_of(&events), Some(81));
    assert_eq!(shown_problems(&events).len(), 2);
}

fn port_of(events: &[Event]) -> Option<u16> {
    events.iter().find_map(|event| match event {
        Event::Put(object) => match &object.spec {
            Spec::Service(service) => Some(service.spec.as_ref()?.ports().next()?.port),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn h_an_address_may_not_change_while_the_service_lives() {
    let mut source = source();
    let with = |ip: &str| format!("{}  clusterIP: {ip}\n", service("a", 80));
    source.update(listing(&[("a.yaml", &with("10.96.0.1"))]));
    let events = source.update(listing(&[("a.yaml", &with("10.96.0.2"))]));
    assert_eq!(shown(&events), ["problems 1"]);
    assert!(shown_problems(&events)[0].starts_with(
        "a.yaml:8:14: Service default/a: spec.clusterIP: \"10.96.0.2\": may not change"
    ));
    // Taken away and added again, it may.
    source.update(Listing::new());
    let events = source.update(listing(&[("a.yaml", &with("10.96.0.2"))]));
    assert_eq!(shown(&events), ["put Service default/a"]);
}

#[test]
fn unknown_fields_are_told_and_the_object_is_kept() {
    let text = format!("{}  colour: blue\n", service("a", 80));
    let events = source().update(listing(&[("a.yaml", &text)]));
    assert_eq!(
        shown(&events),
        ["reset", "put Service default/a", "synced", "problems 1"]
    );
}

#[test]
fn the_examples_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let events = once(&directory, Rules::default()).expect("the examples");
    assert_eq!(shown_problems(&events), [""; 0]);
    let key = |name: &str| ObjectKey {
        kind: Kind::Service,
        name: ObjectName::new("default", name),
    };
    for name in [
        "my-web-service",
        "internal-db-service",
        "multi-port-service",
    ] {
        let is_there = events
            .iter()
            .any(|event| matches!(event, Event::Put(object) if object.key == key(name)));
        assert!(is_there, "{name}");
    }
}
