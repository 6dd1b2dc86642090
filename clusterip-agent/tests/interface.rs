//! What scripts rely on, line by line: every command and flag that is promised is there, in the form that is promised.
//!
//! What the commands do with them is the matter of other tests; this one sees a flag that went away or changed its name.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::process::Command;

/// The program's answer: exit code, standard output, standard error.
fn clusterip(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clusterip"));
    let output = command
        .args(arguments)
        .env_clear()
        .output()
        .expect("run it");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The commands, and the flags and words that they take.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "run",
        &[
            "--manifests",
            "--kubeconfig",
            "--in-cluster",
            "--kube-api-server",
            "--node-name",
            "--service-cidr",
            "--pod-interfaces",
            "--pod-cidr",
            "--algorithm",
            "--socket-lb",
            "--dns-listen",
            "--cluster-domain",
            "--dns-upstream",
            "--nodeport-range",
            "--nodeport-addresses",
            "--allow-external-ips",
            "--expose-cluster-ips",
            "--load-balancer-pool",
            "--load-balancer-class",
            "--uplinks",
            "--state-dir",
            "--bpffs",
            "--socket",
            "--metrics-bind-address",
            "--healthz-bind-address",
            "--max-services",
            "--max-backends",
            "--max-flows",
            "--log-format",
            "-v,",
            "--config",
            "--write-config-to",
        ],
    ),
    (
        "check",
        &[
            "--manifests",
            "--service-cidr",
            "--cluster-domain",
            "--nodeport-range",
            "--output",
        ],
    ),
    (
        "plan",
        &[
            "--manifests",
            "--node",
            "--service-cidr",
            "--pod-cidr",
            "--cluster-domain",
            "--algorithm",
            "--nodeport-addresses",
            "--nodeport-range",
            "--allow-external-ips",
            "--load-balancer-pool",
            "--load-balancer-class",
            "--output",
        ],
    ),
    (
        "trace",
        &[
            "--from",
            "--to",
            "--protocol",
            "--flags",
            "--via",
            "--manifests",
            "--node",
            "--service-cidr",
            "--pod-cidr",
            "--output",
        ],
    ),
    (
        "get services",
        &[
            "[NAME]", "-n,", "-A,", "--watch", "--output", "--ipvs", "--socket",
        ],
    ),
    (
        "get endpoints",
        &["[NAME]", "-n,", "-A,", "--watch", "--output", "--socket"],
    ),
    (
        "get flows",
        &[
            "[NAME]",
            "--service",
            "-n,",
            "-A,",
            "--limit",
            "--offset",
            "--watch",
            "--output",
            "--socket",
        ],
    ),
    (
        "get affinity",
        &["[NAME]", "-n,", "-A,", "--watch", "--output", "--socket"],
    ),
    (
        "get interfaces",
        &["[NAME]", "--watch", "--output", "--socket"],
    ),
    (
        "get allocations",
        &["[NAME]", "-n,", "-A,", "--watch", "--output", "--socket"],
    ),
    ("top", &["--once", "--socket"]),
    (
        "monitor",
        &["--service", "--outcome", "--from", "--to", "--socket"],
    ),
    ("status", &["--brief", "--output", "--socket"]),
    ("doctor", &["--bpffs", "--pod-interfaces", "--output"]),
    ("dns query", &["<NAME>", "[TYPE]", "--output", "--socket"]),
    (
        "cleanup",
        &["--bpffs", "--kube-proxy", "--dry-run", "--root"],
    ),
    ("completion", &["<SHELL>"]),
    ("man", &["--to"]),
    ("version", &["--output", "--socket"]),
];

#[test]
fn every_command_takes_what_it_is_promised_to_take() {
    for (command, promised) in COMMANDS {
        let mut words: Vec<&str> = command.split(' ').collect();
        words.push("--help");
        let (code, text, error) = clusterip(&words);
        assert_eq!(code, Some(0), "{command}: {error}");
        for flag in *promised {
            assert!(
                text.contains(flag),
                "{command} does not take {flag}:\n{text}"
            );
        }
    }
}

#[test]
fn every_option_of_run_is_a_variable_too() {
    let (_, text, _) = clusterip(&["run", "--help"]);
    for variable in [
        "CLUSTERIP_MANIFESTS",
        "CLUSTERIP_NODE_NAME",
        "CLUSTERIP_SERVICE_CIDR",
        "CLUSTERIP_METRICS_BIND_ADDRESS",
        "CLUSTERIP_SOCKET",
        "CLUSTERIP_CONFIG",
    ] {
        assert!(text.contains(variable), "{variable}\n{text}");
    }
}

#[test]
fn tables_have_four_forms_and_wrong_usage_is_2() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for format in ["table", "wide", "json", "yaml"] {
        for command in [
            &["plan", "--manifests", examples][..],
            &["check", "--manifests", examples],
            &[
                "trace",
                "--manifests",
                examples,
                "--from",
                "10.244.0.2",
                "--to",
                "10.96.83.27:80",
            ],
            &["version", "--socket", "/nowhere"],
        ] {
            let (code, text, error) = clusterip(&[command, &["-o", format]].concat());
            assert_eq!(code, Some(0), "{command:?} -o {format}: {error}");
            assert!(
                !text.contains('\x1b'),
                "no colour but on a terminal\n{text}"
            );
            let is_json = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            assert_eq!(is_json, format == "json", "{command:?} -o {format}\n{text}");
        }
    }
    for wrong in [
        &["plan"][..],
        &["get"],
        &["get", "services", "-o", "xml"],
        &["get", "flows", "web", "--service", "web"],
        &["run", "--manifests", "/m", "--max-flows", "many"],
        &["trace", "--from", "10.0.0.1"],
        &["completion", "csh"],
        &["nonsense"],
    ] {
        let (code, _, error) = clusterip(wrong);
        assert_eq!(code, Some(2), "{wrong:?}: {error}");
    }
    for failed in [
        &["status", "--brief", "--socket", "/nowhere"][..],
        &["get", "services", "--socket", "/nowhere"],
        &["top", "--once", "--socket", "/nowhere"],
        &["dns", "query", "web", "--socket", "/nowhere"],
        &["check", "--manifests", "/nowhere"],
    ] {
        let (code, out, error) = clusterip(failed);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{failed:?}: {error}");
        assert!(error.starts_with("error: "), "{failed:?}: {error}");
    }
}

#[test]
fn the_provisional_addresses_of_a_plan_are_the_same_each_time() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let plan = || clusterip(&["plan", "--manifests", examples, "-o", "json"]).1;
    let first = plan();
    assert!(first.contains("\"provisional\": true"), "{first}");
    assert_eq!(first, plan());
}
