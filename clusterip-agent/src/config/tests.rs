//! Flag over environment over file over default.

use std::io::Write as _;

use clap::{Command, FromArgMatches as _};
use clusterip_common::abi::maps::capacity;

use super::*;

fn flags(args: &[&str]) -> Flags<RUN> {
    let command = <Flags<RUN> as clap::Args>::augment_args(Command::new("run"));
    let matches = command
        .try_get_matches_from([&["run"], args].concat())
        .expect("flags");
    Flags::from_arg_matches(&matches).expect("flags")
}

fn load(args: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&flags(args), |name| {
        let found = environment.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (*value).to_owned())
    })
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("a file");
    file
}

fn error(result: Result<Config, ConfigError>) -> String {
    result.expect_err("an error").to_string()
}

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let config = load(&["--manifests", "/m", "--node-name", "a"], &[]).expect("a configuration");
    assert_eq!(
        config,
        Config {
            manifests: "/m".into(),
            kubeconfig: None,
            in_cluster: false,
            kube_api_servers: vec![],
            node_name: "a".into(),
            service_cidrs: vec!["10.96.0.0/16".parse().expect("a range")],
            pod_interfaces: vec!["veth*".into(), "cali*".into()],
            uplinks: vec![],
            uplink_mode: UplinkMode::Tc,
            algorithm: Algorithm::RoundRobin,
            socket_lb: SocketLb::Host,
            forwarding: Forwarding::Stack,
            direct_return: DirectReturn::Off,
            cgroup: None,
            nodeport_addresses: NodePortAddresses::Primary,
            nodeport_range: 30_000..=32_767,
            allow_external_ips: false,
            expose_cluster_ips: false,
            load_balancer_pool: vec![],
            load_balancer_class: None,
            pod_cidrs: vec![],
            dns_listen: vec![],
            cluster_domain: "cluster.local".into(),
            dns_allow: vec![],
            dns_pod_records: false,
            dns_upstreams: vec![],
            dns_stubs: vec![],
            dns_autopath: false,
            dns_cache: 16,
            dns_log: DnsLog::Off,
            state_dir: "/var/lib/clusterip".into(),
            bpffs: "/sys/fs/bpf/clusterip".into(),
            socket: Some("/run/clusterip/agent.sock".into()),
            metrics_bind_address: Some("127.0.0.1:10249".parse().expect("an address")),
            metrics_per_backend: true,
            healthz_bind_address: Some("0.0.0.0:10256".parse().expect("an address")),
            max_services: capacity::SERVICES,
            max_backends: capacity::BACKENDS,
            max_flows: capacity::FLOWS,
            flow_timeouts: FlowTimeouts::default(),
            hairpin_addresses: vec![
                [169, 254, 42, 1].into(),
                "fdc1:57e::42:1".parse().expect("an address")
            ],
            log_format: LogFormat::Text,
            verbose: 0,
        }
    );
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file_over_the_default() {
    let file = file("manifests: /file\nmaxFlows: 4\nmaxBackends: 4\npodInterfaces: [a*, b]\n");
    let path = file.path().to_str().expect("a path");
    let environment = [
        ("CLUSTERIP_CONFIG", path),
        ("CLUSTERIP_MAX_FLOWS", "6"),
        ("CLUSTERIP_MAX_BACKENDS", "6"),
        // What Kubernetes itself sets for a service of this name.
        ("CLUSTERIP_SERVICE_HOST", "10.96.0.1"),
    ];
    let config = load(&["--max-flows", "8", "-vv"], &environment).expect("a configuration");
    assert_eq!(config.max_flows, 8);
    assert_eq!(config.max_backends, 6);
    assert_eq!(config.manifests, Path::new("/file"));
    assert_eq!(config.pod_interfaces, ["a*", "b"]);
    assert_eq!(config.max_services, capacity::SERVICES);
    assert_eq!(config.verbose, 2);
}

#[test]
fn what_is_written_is_read_again() {
    let args = [
        "--manifests",
        "/m",
        "--node-name",
        "n",
        "--service-cidr",
        "fd00:10:96::/112,10.96.0.0/16",
        "--metrics-bind-address",
        "",
        "--healthz-bind-address",
        "[::1]:1",
        "--log-format",
        "json",
        "--dns-upstream",
        "192.0.2.1,[2001:db8::1]:5353",
        "--dns-stub",
        "corp.example=192.0.2.2",
        "--dns-stub",
        "lab.example=192.0.2.3:5353",
        "--dns-log",
        "errors",
        "-v",
    ];
    let config = load(&args, &[]).expect("a configuration");
    let text = config.to_yaml().expect("a text");
    assert!(
        text.starts_with("apiVersion: clusterip.dev/v1alpha1\nkind: AgentConfiguration\n"),
        "{text}"
    );
    let file = file(&text);
    let path = file.path().to_str().expect("a path");
    assert_eq!(load(&["--config", path], &[]).expect(&text), config);
}

#[test]
fn a_bad_value_names_where_it_was_given_and_what_is_allowed() {
    let with = |more: &[&str]| error(load(&[&["--manifests", "/m"], more].concat(), &[]));
    for (args, message) in [
        (
            ["--max-services", "0"],
            "--max-services \"0\": must be a number from 1 to 1048576",
        ),
        (
            ["--max-flows", "1"],
            "--max-flows \"1\": must be a number from 2 to ",
        ),
        (
            ["--max-backends", "x"],
            "--max-backends \"x\": must be a number from 1 to ",
        ),
        (
            ["--service-cidr", "10.96.0.0"],
            "--service-cidr \"10.96.0.0\": 10.96.0.0 must be a range",
        ),
        (
            ["--service-cidr", "10.96.0.0/16,10.97.0.0/16"],
            "--service-cidr \"10.96.0.0/16,10.97.0.0/16\": must be one or two ranges, one of each",
        ),
        (
            ["--service-cidr", ""],
            "--service-cidr \"\": must be one or two ranges",
        ),
        (
            ["--pod-interfaces", "a/b"],
            "--pod-interfaces \"a/b\": a/b must be the name of a device",
        ),
        (
            ["--algorithm", "best"],
            "--algorithm \"best\": must be round-robin, random, maglev or least-connections",
        ),
        (
            ["--node-name", "A_b"],
            "--node-name \"A_b\": must be a DNS name",
        ),
        (
            ["--healthz-bind-address", "10256"],
            "--healthz-bind-address \"10256\": must be ADDR:PORT",
        ),
        (
            ["--log-format", "xml"],
            "--log-format \"xml\": must be text or json",
        ),
        (
            ["--nodeport-range", "9-8"],
            "--nodeport-range \"9-8\": must be FIRST-LAST",
        ),
        (
            ["--dns-upstream", "dns.example"],
            "--dns-upstream \"dns.example\": dns.example must be ADDR or ADDR:PORT",
        ),
        (
            ["--dns-stub", "corp.example"],
            "--dns-stub \"corp.example\": corp.example must be ZONE=ADDR[:PORT]",
        ),
        (
            ["--dns-log", "some"],
            "--dns-log \"some\": must be off, errors or all",
        ),
        (["--state-dir", ""], "--state-dir \"\": must be a path"),
        (
            ["--load-balancer-pool", "10.96.128.0/24"],
            "--load-balancer-pool 10.96.128.0/24 and --service-cidr 10.96.0.0/16 overlap",
        ),
    ] {
        let found = with(&args);
        assert!(found.starts_with(message), "{found}");
    }
    let found = error(load(
        &["--manifests", "/m"],
        &[("CLUSTERIP_MAX_FLOWS", "0")],
    ));
    assert!(
        found.starts_with("CLUSTERIP_MAX_FLOWS \"0\": must be"),
        "{found}"
    );
    let found = error(load(&[], &[]));
    assert_eq!(
        found,
        "where objects come from is required: give one of --manifests DIR, --kubeconfig FILE and --in-cluster (or its variable, \
         or its key in the file of --config)"
    );
}

#[test]
fn objects_come_from_one_place() {
    let source = |args: &[&str]| {
        let config = load(args, &[]).expect("a configuration");
        format!("{:?} {:?}", config.source(), config.kube_api_servers)
    };
    for (args, wanted) in [
        (&["--manifests", "/m"][..], r#"Manifests("/m") []"#),
        (&["--kubeconfig", "/k"], r#"Kubeconfig("/k") []"#),
        (&["--in-cluster"], "InCluster []"),
        (
            &[
                "--in-cluster=on",
                "--kube-api-server",
                "192.0.2.1,[2001:db8::1]:443,api.example:6443",
            ],
            r#"InCluster ["https://192.0.2.1:6443", "https://[2001:db8::1]:443", "https://api.example:6443"]"#,
        ),
        (
            &[
                "--kubeconfig",
                "/k",
                "--kube-api-server",
                "2001:db8::1,http://127.0.0.1:8001/,https://a.example/k8s",
            ],
            r#"Kubeconfig("/k") ["https://[2001:db8::1]:6443", "http://127.0.0.1:8001", "https://a.example/k8s"]"#,
        ),
    ] {
        assert_eq!(source(args), wanted);
    }
    for (args, wanted) in [
        (
            &["--manifests", "/m", "--in-cluster"][..],
            "--manifests and --in-cluster are given, but objects come from one place",
        ),
        (
            &["--manifests", "/m", "--kube-api-server", "192.0.2.1"],
            "--kube-api-server goes with --kubeconfig or --in-cluster",
        ),
        (
            &["--in-cluster", "--kube-api-server", "ftp://192.0.2.1"],
            "--kube-api-server \"ftp://192.0.2.1\": ftp://192.0.2.1 must be a URL such as https://192.0.2.1:6443",
        ),
        (
            &["--in-cluster", "--kube-api-server", "a b"],
            "--kube-api-server \"a b\": a b must be",
        ),
        (
            &["--in-cluster", "--kube-api-server", "a/b"],
            "--kube-api-server \"a/b\": a/b must be",
        ),
        (
            &["--in-cluster", "--kube-api-server", "me@a"],
            "--kube-api-server \"me@a\": me@a must be",
        ),
    ] {
        let found = error(load(args, &[]));
        assert!(found.starts_with(wanted), "{found}");
    }
}

#[test]
fn a_bad_file_says_where() {
    for (text, wanted) in [
        (
            "maxFlows: 0\n",
            ":1:11: maxFlows \"0\": must be a number from 2",
        ),
        (
            "a: 1\n",
            ":1:4: a: unknown key; there are manifests, kubeconfig, ",
        ),
        (
            "manifests: /m\nmax-flows: 1\n",
            ":2:12: max-flows: unknown key",
        ),
        (
            "kind: Config\n",
            ":1:7: kind: is \"Config\", must be AgentConfiguration",
        ),
        (
            "manifests: {a: 1}\n",
            ": manifests: must be a word, a number or a list",
        ),
        ("manifests: [\n", ":1:12: "),
        ("maxFlows: 4\nmaxFlows: 4\n", ":2:1: "),
    ] {
        let file = file(text);
        let path = file.path().to_str().expect("a path");
        let found = error(load(&["--manifests", "/m", "--config", path], &[]));
        assert!(
            found.starts_with(path) && found.contains(wanted),
            "{text}: {found}"
        );
    }
    let found = error(load(&["--config", "/no/such/file"], &[]));
    assert!(found.contains("/no/such/file"), "{found}");
}

#[test]
fn what_differs_is_named_by_its_flag() {
    let with = |more: &[&str]| {
        let args = [&["--manifests", "/m", "--node-name", "n"], more].concat();
        load(&args, &[]).expect("a configuration")
    };
    let before = with(&["--max-flows", "8"]);
    assert_eq!(before.differences(&before), [""; 0]);
    let after = with(&["--pod-interfaces", "a*", "-v"]);
    assert_eq!(
        before.differences(&after),
        ["pod-interfaces", "max-flows", "verbose"]
    );
}

#[test]
fn each_option_is_one_word_in_three_spellings() {
    assert_eq!(variable("max-flows"), "CLUSTERIP_MAX_FLOWS");
    assert_eq!(key("metrics-bind-address"), "metricsBindAddress");
}

#[test]
fn the_documentation_has_every_option_and_its_default() {
    let text = include_str!("../../../docs/configuration.md");
    for option in OPTIONS {
        let row = text
            .lines()
            .find(|row| row.starts_with('|') && row.contains(&format!("`--{}`", option.flag)))
            .unwrap_or_else(|| panic!("--{} is not in docs/configuration.md", option.flag));
        if let Some(default) = option.default.filter(|d| !d.is_empty()) {
            assert!(row.contains(&format!("| `{default}` |")), "{row}");
        }
    }
}

#[test]
fn dns_listeners_are_addresses_of_this_node_and_may_be_given_one_by_one() {
    let args = |more: &[&str]| load(&[&["--manifests", "/m"], more].concat(), &[]);
    let twice = [
        "--dns-listen",
        "10.0.0.1:53",
        "--dns-listen",
        "[fd00::1]:53,10.0.0.2:53",
    ];
    let config = args(&twice).expect("a configuration");
    let all = ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"];
    assert_eq!(
        config.dns_listen,
        all.map(|it| it.parse().expect("an address"))
    );
    let domain = args(&["--cluster-domain", "K8s.Example."]).expect("a configuration");
    assert_eq!(domain.cluster_domain, "k8s.example");
    for wrong in [
        ["--dns-listen", "0.0.0.0:53"],
        ["--dns-listen", "[::]:53"],
        ["--dns-listen", "10.0.0.1"],
        ["--dns-listen", "10.0.0.1:53,10.0.0.1:53"],
        ["--dns-allow", "10.0.0.0"],
        ["--cluster-domain", "a..b"],
    ] {
        let found = error(args(&wrong));
        assert!(
            found.contains(wrong[0]) && found.contains("must be"),
            "{found}"
        );
    }
}
