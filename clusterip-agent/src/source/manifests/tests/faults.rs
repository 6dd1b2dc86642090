//! Texts that are wrong, and the problems they make.

use super::*;

#[test]
fn a_bad_value_says_file_line_column_object_field_value_and_what_is_allowed() {
    let web = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: eighty\n";
    assert_eq!(
        problems_of("web.yaml", web),
        [
            "web.yaml:7:11: Service default/web: spec.ports[0].port: \"eighty\": must be a port number from 1 to 65535"
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
#[expect(clippy::too_many_lines, reason = "a table")]
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
                "x.yaml:8:17: Service default/web: spec.ports[0].targetPort: \"1.5\": invalid type: floating point `1.5`, expected a number or a name",
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
