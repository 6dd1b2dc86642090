//! Texts in, events out.

use proptest::prelude::*;

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
fn a_bad_value_says_file_line_column_object_field_value_and_what_is_allowed() {
    let web = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: eighty\n";
    assert_eq!(
        problems_of("web.yaml", web),
        [
            "web.yaml:7:11: Service default/web: spec.ports[0].port: \"eighty\": must be a whole number from -2147483648 to 2147483647"
        ]
    );
}

#[test]
fn positions_are_those_of_the_file_in_every_document() {
    let text = format!(
        "# comment\n{}---\n{}",
        service("a", 80),
        "kind: Service\napiVersion: v1\nmetadata: {name: b, namespace: c}\nspec:\n  clusterIP: 10.96.0.010\n  ports: [{port: 0}]\n"
    );
    let problems = problems_of("x.yaml", &text);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[0]
            .starts_with("x.yaml:14:14: Service c/b: spec.clusterIP: \"10.96.0.010\": must be"),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("x.yaml:15:18: Service c/b: spec.ports[0].port: \"0\": must be"),
        "{problems:?}"
    );
}

/// One bad document, and the beginning of each problem it makes.
#[test]
fn each_fault_of_a_text_has_its_problem() {
    let head = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n";
    let service = |rest: &str| format!("{head}{rest}");
    let ports = "spec:\n  ports:\n  - port: 80\n";
    let cases: Vec<(String, Vec<&str>)> = vec![
        ("a: b: c\n".into(), vec!["x.yaml:1:5: not YAML: "]),
        ("spec: [1, 2\n".into(), vec!["x.yaml:1:7: not YAML: "]),
        ("\"half".into(), vec!["x.yaml:1:1: not YAML: "]),
        (
            "just text\n".into(),
            vec!["x.yaml:1:1: \"just text\": not an object"],
        ),
        ("- 1\n".into(), vec!["x.yaml:1:1: \"[...]\": not an object"]),
        (
            "kind: Service\n".into(),
            vec!["x.yaml:1:1: apiVersion: required"],
        ),
        (
            "apiVersion: v1\nmetadata: {}\n".into(),
            vec!["x.yaml:1:1: kind: required"],
        ),
        (
            "apiVersion: 1\nkind: Service\n".into(),
            vec!["x.yaml:1:13: apiVersion: \"1\": required, a text"],
        ),
        (
            "apiVersion: v1\nkind: Sevice\n".into(),
            vec!["x.yaml:2:7: Sevice: kind: \"Sevice\": no kind of v1"],
        ),
        (
            "apiVersion: v2\nkind: Service\n".into(),
            vec!["x.yaml:1:13: Service: apiVersion: \"v2\": a Service is read as v1"],
        ),
        (
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\n".into(),
            vec![
                "x.yaml:1:13: EndpointSlice: apiVersion: \"discovery.k8s.io/v1beta1\": a EndpointSlice is read",
            ],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  generateName: a\n".into(),
            vec!["x.yaml:4:3: Service: metadata.name: required"],
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: 5}\n".into(),
            vec!["x.yaml:3:18: Service: metadata.name: \"5\": required, a text"],
        ),
        (
            service(&format!("{ports}  sessionAfinity: None\n")),
            vec!["x.yaml:8:19: Service default/web: spec.sessionAfinity: \"None\": unknown field"],
        ),
        (
            service(&format!("{ports}    prot: TCP\n")),
            vec!["x.yaml:8:11: Service default/web: spec.ports[0].prot: \"TCP\": unknown field"],
        ),
        (
            service(&format!("{ports}  ports: []\n")),
            vec![
                "x.yaml:8:3: Service default/web: spec.ports: \"[...]\": given twice, the first time in line 6",
            ],
        ),
        (
            service(&format!("{ports}  selector: {{app: yes, x: 5}}\n")),
            vec![
                "x.yaml:8:19: Service default/web: spec.selector.app: \"yes\": must be a text, not a truth value: put it in quotes",
                "x.yaml:8:27: Service default/web: spec.selector.x: \"5\": must be a text, not a number: put it in quotes, \"5\"",
            ],
        ),
        (
            service("spec:\n  ports:\n  - port: \"80\"\n    targetPort: 1.5\n"),
            vec![
                "x.yaml:7:11: Service default/web: spec.ports[0].port: \"80\": must be a whole number, not a text",
                "x.yaml:8:17: Service default/web: spec.ports[0].targetPort: \"1.5\": invalid type: floating point `1.5`, expected a whole number or a name",
            ],
        ),
        (
            service("spec:\n  ports: 80\n"),
            vec!["x.yaml:6:10: Service default/web: spec.ports: \"80\": must be a list"],
        ),
        (
            service("spec: []\n"),
            vec!["x.yaml:5:1: Service default/web: spec: \"[...]\": must be a mapping"],
        ),
        (
            service("spec:\n  publishNotReadyAddresses: \"true\"\n  ports: [{port: 80}]\n"),
            vec![
                "x.yaml:6:29: Service default/web: spec.publishNotReadyAddresses: \"true\": must be true or false",
            ],
        ),
        (
            service("spec:\n"),
            vec!["x.yaml:5:1: Service default/web: spec: required"],
        ),
        (
            service("spec:\n  type: ClusterIP\n"),
            vec!["x.yaml:5:1: Service default/web: spec.ports: required"],
        ),
        (
            service("spec:\n  ports:\n  - name: a\n    port: 1\n  - port: 2\n"),
            vec!["x.yaml:9:5: Service default/web: spec.ports[1].name: required"],
        ),
        (
            service("spec: &a\n  ports: *a\n"),
            vec!["x.yaml:6:10: spec.ports: this alias stands inside its own anchor"],
        ),
        (
            service("spec:\n  ports: *b\n"),
            vec!["x.yaml:6:10: not YAML: "],
        ),
        (
            format!("{}1{}\n", "[".repeat(120), "]".repeat(120)),
            vec!["x.yaml:1:101: "],
        ),
    ];
    let mut failures = Vec::new();
    for (text, wanted) in cases {
        let found = problems_of("x.yaml", &text);
        let is_good =
            found.len() == wanted.len() && found.iter().zip(&wanted).all(|(f, w)| f.starts_with(w));
        if !is_good {
            failures.push(format!("{text}\nfound  {found:#?}\nwanted {wanted:#?}\n"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.concat());
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

fn port_of(events: &[Event]) -> Option<i32> {
    events.iter().find_map(|event| match event {
        Event::Put(object) => match &object.spec {
            Spec::Service(service) => Some(service.spec.as_ref()?.ports.as_ref()?.first()?.port),
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
fn kinds_without_effect_are_no_problem() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: v1\nkind: ConfigMap\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\n";
    assert_eq!(
        shown(&source().update(listing(&[("a.yaml", text)]))),
        ["reset", "synced", "problems 0"]
    );
}

#[test]
fn lists_are_lists_of_objects() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: prod}\n- apiVersion: v1\n  kind: List\n  items:\n  - apiVersion: v1\n    kind: Node\n    metadata: {name: n}\n- apiVersion: v1\n  kind: Service\n  metadata: {name: bad}\n  spec: {ports: [{port: 0}]}\n---\napiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n- metadata: {name: q, name: r}\n";
    let events = source().update(listing(&[("a.yaml", text)]));
    assert_eq!(
        shown(&events),
        [
            "reset",
            "put Namespace prod",
            "put Node n",
            "put Pod default/p",
            "synced",
            "problems 2"
        ]
    );
    let problems = shown_problems(&events);
    assert!(
        problems[0].starts_with("a.yaml:16:25: Service default/bad: spec.ports[0].port: \"0\""),
        "{problems:?}"
    );
    assert!(
        problems[1].starts_with("a.yaml:22:23: Pod default/q: metadata.name: \"r\": given twice"),
        "{problems:?}"
    );
}

#[test]
fn json_is_read_with_tabs_escapes_and_several_values() {
    let text = "{\n\t\"apiVersion\": \"v1\", \"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"\\u00e9\\ud83d\\ude00\\/\"}},\n\t\"spec\": {\"ports\": [{\"port\": 80}]}\n}\n{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"ports\":[{\"port\":0}]}}";
    let events = source().update(listing(&[("a.json", text)]));
    assert_eq!(
        shown(&events),
        ["reset", "put Service default/a", "synced", "problems 1"]
    );
    assert!(
        shown_problems(&events)[0]
            .starts_with("a.json:6:86: Service default/b: spec.ports[0].port"),
        "{events:?}"
    );
    assert!(problems_of("a.json", "{\"a\": 1,}")[0].starts_with("a.json:1:9: not JSON: "));
}

#[test]
fn aliases_and_merges_mean_what_they_say_within_bounds() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: web}}\nspec:\n  selector:\n    <<: *l\n    tier: front\n  ports: [&p {port: 80, name: x}, {<<: *p, port: 81, name: y}]\n";
    let events = source().update(listing(&[("a.yaml", text)]));
    assert_eq!(shown_problems(&events), [""; 0]);
    let Some(Event::Put(object)) = events.get(1) else {
        panic!("{events:?}")
    };
    let Spec::Service(service) = &object.spec else {
        panic!("{object:?}")
    };
    let selector = service
        .spec
        .as_ref()
        .and_then(|s| s.selector.as_ref())
        .expect("a selector");
    assert_eq!(selector.len(), 2);
    // A billion laughs.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let items = vec![format!("*a{}", n - 1); 10].join(", ");
        bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
    }
    assert!(problems_of("a.yaml", &bomb)[0].contains("more than 1000000 values"));
}

#[test]
fn words_and_quantities_are_read_as_kubernetes_does() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: null}\nspec:\n  containers:\n  - name: c\n    resources: {limits: {cpu: 1, memory: 1Gi}}\n    ports: [{containerPort: 0x50}]\n  hostNetwork: yes\nstatus: {startTime: 2024-01-01T00:00:00Z}\n";
    assert_eq!(problems_of("a.yaml", text), [""; 0]);
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

/// Pieces of manifests, so that chance gets past the first line.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "apiVersion: v1\n",
        "kind: Service\n",
        "kind: List\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  ports:\n",
        "  - port: 80\n",
        "items:\n",
        "- ",
        "---\n",
        "...\n",
        "&a ",
        "*a",
        "<<: ",
        "\t",
        "\"",
        "'",
        "|\n",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "!!str ",
        "%YAML 1.2\n",
        "\u{feff}",
        "\r\n",
    ];
    prop_oneof![
        4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => ".{0,6}",
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        problems_of("a.yaml", &text);
        problems_of("a.json", &text);
    }

    #[test]
    fn no_row_of_pieces_makes_it_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        problems_of("a.yaml", &text);
        problems_of("a.json", &text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.yaml"), &bytes).expect("a file");
        once(directory.path(), Rules::default()).expect("a directory");
    }

    /// A file cut off anywhere (half written) removes nothing that was before the cut, and puts nothing that was not in it.
    #[test]
    fn a_file_cut_off_anywhere_breaks_nothing_else(cut in 0usize..300) {
        let mut source = source();
        let other = service("other", 80);
        let text = format!("{}---\n{}", service("a", 80), service("b", 80));
        source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)]));
        let half = text.get(..cut.min(text.len())).unwrap_or_default();
        let events = source.update(listing(&[("a.yaml", half), ("other.yaml", &other)]));
        for event in &shown(&events) {
            prop_assert!(!event.contains("other"), "{event}");
        }
        source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)]));
        prop_assert!(source.update(listing(&[("a.yaml", &text), ("other.yaml", &other)])).is_empty());
    }
}
