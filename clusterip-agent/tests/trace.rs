//! `clusterip trace --manifests`, as a script sees it.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "a test target is nothing but tests"
)]

use std::{fs, process::Command};

use serde_json::Value;

const OBJECTS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: my-web-service}
spec:
  clusterIP: 10.96.0.10
  selector: {app: my-web-app}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, labels: {app: my-web-app}}
spec: {containers: [{name: web, image: web}]}
status: {phase: Running, podIP: 10.1.0.2}
";

/// Exit code, output and error.
fn trace(arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web.yaml"), OBJECTS).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_clusterip"))
        .arg("trace")
        .args(["--node", "node-a", "--manifests"])
        .arg(folder.path())
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn document(arguments: &[&str]) -> Value {
    let (code, out, error) = trace(&[arguments, &["-o", "json"]].concat());
    assert_eq!(code, Some(0), "whatever the verdict is\n{error}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_document_has_its_documented_form() {
    let document = document(&["--from", "10.1.0.9", "--to", "10.96.0.10:80"]);
    let backend = serde_json::json!({"address": "10.1.0.2", "port": 8080});
    for (field, wanted) in [
        ("version", 1.into()),
        ("verdict", "translate".into()),
        ("outcome", "new-flow".into()),
        ("service", "default/my-web-service".into()),
        ("backends", Value::Array(vec![backend.clone()])),
        ("chosen", backend),
        ("sourceRewritten", false.into()),
    ] {
        assert_eq!(document.get(field), Some(&wanted), "{document:#}");
    }
    let steps = document.get("steps").and_then(Value::as_array);
    assert!(steps.is_some_and(|steps| steps.len() > 3), "{document:#}");
}

/// D13
#[test]
fn a_pod_that_reaches_itself_gets_another_source() {
    let document = document(&["--from", "10.1.0.2:5000", "--to", "10.96.0.10:80"]);
    let field = |name: &str| document.get(name).cloned().unwrap_or_default();
    assert_eq!(field("verdict"), "translate", "{document:#}");
    assert_eq!(field("sourceRewritten"), true, "{document:#}");
}

#[test]
fn people_read_steps() {
    let (code, out, error) = trace(&["--from", "10.1.0.9", "--to", "10.96.0.10:81"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.starts_with(" 1  a pod sends TCP 10.1.0.9:40000 -> 10.96.0.10:81\n"),
        "{out}"
    );
    assert!(out.contains("no service has this port"), "{out}");
    assert!(out.contains("reject: no-service: "), "{out}");
}

#[test]
fn what_makes_no_packet_is_wrong_usage() {
    for (arguments, fault) in [
        (
            &["--from", "10.1.0.9", "--to", "web:80"][..],
            "must be ADDR or ADDR:PORT",
        ),
        (&["--from", "10.1.0.9", "--to", "10.96.0.10"], "has no port"),
        (
            &["--from", "10.1.0.9", "--to", "[fd00::1]:80"],
            "are not of one family",
        ),
        (
            &[
                "--from",
                "10.1.0.9",
                "--to",
                "10.96.0.10:80",
                "--flags",
                "xmas",
            ],
            "must be syn",
        ),
    ] {
        let (code, _, error) = trace(arguments);
        assert_ne!(code, Some(0), "{arguments:?}");
        assert!(error.contains(fault), "{arguments:?}: {error}");
    }
}
