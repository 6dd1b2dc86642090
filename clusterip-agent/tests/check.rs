//! `clusterip check`, `plan` and the command line, through the binary.
#![expect(
    unused_crate_dependencies,
    reason = "the library of this package uses them"
)]

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        process::{Command, Output, Stdio},
    };

    use serde_json::{Value, json};

    const WEB: &str =
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports:\n  - port: 80\n";

    fn clusterip(args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_clusterip"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CLUSTERIP_") {
                command.env_remove(name);
            }
        }
        command.args(args).output().expect("the binary")
    }

    fn check(directory: &Path, more: &[&str]) -> (i32, String) {
        let directory = directory.to_str().expect("a path");
        let output = clusterip(&[&["check", "--manifests", directory], more].concat());
        let text = String::from_utf8(output.stdout).expect("a text");
        (output.status.code().expect("a code"), text)
    }

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        directory
    }

    #[test]
    fn the_examples_have_no_problem() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let (code, text) = check(&examples, &[]);
        assert_eq!((code, text.starts_with("no problem")), (0, true), "{text}");
    }

    #[test]
    fn a_problem_is_shown_with_its_line() {
        let bad = WEB.replace("- port: 80", "- port: eighty");
        let (code, text) = check(directory(&[("web.yaml", &bad)]).path(), &[]);
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "web.yaml:7:11: Service default/web: spec.ports[0].port: \"eighty\": must be a port number from 1 to 65535\n  7 |   - port: eighty\n    |           ^\n1 problem in 1 files\n"
        );
    }

    #[test]
    fn json_has_the_form_of_the_interface() {
        let bad = WEB.replace("- port: 80", "- port: eighty");
        let (code, text) = check(directory(&[("web.yaml", &bad)]).path(), &["-o", "json"]);
        assert_eq!(code, 1);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            found,
            json!({"version": 1, "problems": [{"file": "web.yaml", "line": 7, "column": 11, "object": "Service default/web",
                "field": "spec.ports[0].port", "value": "eighty",
                "message": "must be a port number from 1 to 65535"}]})
        );
        let (code, text) = check(directory(&[("web.yaml", WEB)]).path(), &["-o", "json"]);
        let found: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((code, found), (0, json!({"version": 1, "problems": []})));
        let (_, text) = check(directory(&[("web.yaml", &bad)]).path(), &["-o", "yaml"]);
        assert!(text.contains("file: web.yaml"), "{text}");
    }

    /// G6: what shows only beside other services, or beside the range.
    #[test]
    fn addresses_that_are_taken_or_outside_the_range_are_problems() {
        let at = |name: &str, ip: &str| {
            WEB.replace("name: web", &format!("name: {name}")) + &format!("  clusterIP: {ip}\n")
        };
        let files = [
            ("a.yaml", at("a", "10.96.0.10")),
            ("b.yaml", at("b", "10.96.0.10")),
            ("c.yaml", at("c", "192.0.2.1")),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(n, t)| (*n, t.as_str())).collect();
        let (code, text) = check(directory(&files).path(), &[]);
        assert_eq!(code, 1, "{text}");
        assert!(
            text.contains("b.yaml:8:14: Service default/b: spec.clusterIP"),
            "{text}"
        );
        assert!(
            text.contains("c.yaml:8:14: Service default/c: spec.clusterIP"),
            "{text}"
        );
        assert!(!text.contains("a.yaml:"), "{text}");
        let range = ["--service-cidr", "192.0.2.0/24"];
        let (_, text) = check(directory(&files).path(), &range);
        assert!(
            text.contains("a.yaml:") && !text.contains("c.yaml:"),
            "{text}"
        );
    }

    #[test]
    fn a_directory_that_is_not_there_names_itself_and_the_remedy() {
        let output = clusterip(&["check", "--manifests", "/no/such/directory"]);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            text,
            "error: manifest directory /no/such/directory does not exist; create it, or name another with --manifests\n"
        );
    }

    #[test]
    fn plan_tells_its_problems_and_exits_0() {
        let bad = format!("{WEB}---\n{}", WEB.replace("name: web", "name: Bad"));
        let directory = directory(&[("web.yaml", &bad)]);
        let manifests = directory.path().to_str().expect("a path");
        let args = [
            "plan",
            "--manifests",
            manifests,
            "--node",
            "node-a",
            "-o",
            "json",
        ];
        let output = clusterip(&args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(plan["node"], "node-a");
        assert_eq!(plan["frontends"][0]["service"], "default/web");
        assert_eq!(plan["problems"][0]["field"], "metadata.name");
        let output = clusterip(&["plan", "--manifests", "/no/such/directory"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }

    #[test]
    fn wrong_usage_exits_2() {
        for args in [
            vec!["check"],
            vec!["check", "--manifests"],
            vec!["check", "--max-flows", "4"],
            vec!["run", "--manifests", "/m", "--max-flows", "0"],
            vec!["check", "--manifests", "/m", "--config", "/no/such/file"],
            vec!["serve"],
            vec![],
        ] {
            let output = clusterip(&args);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
            assert!(!output.stderr.is_empty(), "{args:?}");
        }
        assert_eq!(clusterip(&["version"]).status.code(), Some(0));
        assert_eq!(clusterip(&["run", "--help"]).status.code(), Some(0));
    }

    #[test]
    fn the_effective_configuration_is_written_and_read_again() {
        let directory = directory(&[("web.yaml", WEB)]);
        let manifests = directory.path().to_str().expect("a path");
        let path = directory.path().join("agent.conf");
        let path = path.to_str().expect("a path");
        let args = [
            "run",
            "--manifests",
            manifests,
            "--node-name",
            "n",
            "--write-config-to",
            path,
        ];
        assert_eq!(clusterip(&args).status.code(), Some(0));
        assert_eq!(
            clusterip(&["check", "--config", path]).status.code(),
            Some(0)
        );
    }

    #[test]
    fn a_reader_that_has_had_enough_is_no_panic() {
        let bad = "---\nno object\n".repeat(5000);
        let directory = directory(&[("many.yaml", &bad)]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_clusterip"))
            .args(["check", "--manifests"])
            .arg(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
    }
}
