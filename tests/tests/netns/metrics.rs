//! `/metrics` of a running agent: what it tells is what `docs/metrics.md` says, and true.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    client::Connection,
    lab::{self, Lab},
    manifests::{self, NODE},
    metrics::{Metrics, Sample, documented},
    require_root, wait,
};

/// With a service, a backend that a probe looks after, and one that is ready by its object.
fn lab(arguments: &[&str]) -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    let probe = "{periodSeconds: 1, tcpSocket: {port: 8080}}";
    let text = manifests::probed(lab.pod("web-12")?, "web", probe);
    lab.manifests.put("pod-web-12.yaml", &text)?;
    let always = ["--node-name", NODE];
    lab.start_with(&[&always, arguments].concat())?;
    wait::until("both are ready", || {
        let metrics = lab.agent.as_ref()?.metrics().ok()?;
        let chosen = values(&metrics, "clusterip_service_endpoints", ("state", "chosen"));
        (chosen == [2.0; 4]).then_some(())
    })?;
    Ok(lab)
}

fn has(sample: &Sample, label: &str, value: &str) -> bool {
    sample.labels.get(label).is_some_and(|found| found == value)
}

fn values(metrics: &Metrics, name: &str, (label, value): (&str, &str)) -> Vec<f64> {
    let samples = metrics.named(name);
    samples
        .filter(|it| has(it, label, value))
        .map(|it| it.value)
        .collect()
}

fn metrics(lab: &mut Lab) -> Result<Metrics> {
    lab.agent()?.metrics()
}

/// Longer than a count may be old.
const COUNTED: Duration = Duration::from_mins(1);

#[test]
fn every_series_is_documented_with_its_labels() -> Result<()> {
    require_root!();
    let mut lab = lab(&["--forwarding", "redirect"])?;
    for to in lab::tcp(10) {
        lab.client.get(to)?;
    }
    lab.agent()?
        .ask(&["dns", "query", "web.default.svc.cluster.local"])?;
    // Only what changes while the agent runs has a latency.
    lab.service("api", 20)?;
    let agent = lab.agent()?;
    wait::until("a change was measured", || {
        let metrics = agent.metrics().ok()?;
        let mut counts = metrics.named("kubeproxy_network_programming_duration_seconds_count");
        counts.any(|it| it.value > 0.0).then_some(())
    })?;
    let documented = documented();
    let mut seen = BTreeSet::new();
    for Sample { name, labels, .. } in metrics(&mut lab)?.samples() {
        let ends = ["_bucket", "_count", "_sum"];
        let family = ends.iter().find_map(|end| name.strip_suffix(end));
        let family = family.filter(|family| documented.contains_key(*family));
        let found = documented.get(family.unwrap_or(name));
        let found = found.with_context(|| format!("{name} is not in docs/metrics.md"))?;
        let mut labels: BTreeSet<String> = labels.keys().cloned().collect();
        labels.remove("le");
        assert_eq!(labels, found.labels, "{name}");
        seen.insert(family.unwrap_or(name).to_owned());
    }
    // Those of an API server are not there without one.
    let is_own = |name: &&String| {
        name.starts_with("clusterip_") && !name.starts_with("clusterip_kubernetes_")
    };
    let missing: Vec<&String> = documented
        .keys()
        .filter(is_own)
        .filter(|name| !seen.contains(*name))
        .collect();
    assert!(missing.is_empty(), "without a series: {missing:?}");
    for name in [
        "prober_probe_total",
        "kubeproxy_sync_proxy_rules_duration_seconds",
        "kubeproxy_network_programming_duration_seconds",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_proxy_healthz_total",
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
    ] {
        assert!(seen.contains(name), "{name} has no series");
    }
    Ok(())
}

#[test]
fn active_flows_and_the_fill_of_the_tables_follow_the_connections() -> Result<()> {
    require_root!();
    let lab = lab(&["--max-flows", "1024"])?;
    let [to, _] = lab::tcp(10);
    let mut kept = Vec::new();
    for _ in 0..6 {
        let mut connection = lab.client.run(|| Connection::open(to))?;
        connection.get()?;
        kept.push(connection);
    }
    let of_service = |metrics: &Metrics| -> Vec<f64> {
        let of_service = metrics.named("clusterip_service_active_flows");
        of_service
            .filter(|it| has(it, "port", "tcp-80") && has(it, "family", "IPv4"))
            .map(|it| it.value)
            .collect()
    };
    let agent = lab.agent.as_ref().context("the agent")?;
    let metrics = wait::until_or("six flows are active", COUNTED, || {
        let metrics = agent.metrics().ok()?;
        (of_service(&metrics) == [6.0]).then_some(metrics)
    })?;
    let of_backends = values(
        &metrics,
        "clusterip_backend_active_flows",
        ("port", "tcp-80"),
    );
    let mut busy: Vec<f64> = of_backends.into_iter().filter(|it| *it > 0.0).collect();
    busy.sort_by(f64::total_cmp);
    assert_eq!(busy, [3.0, 3.0]);
    let map = ("map", "FLOWS");
    let [entries, capacity, pressure] = ["entries", "capacity", "pressure"]
        .map(|name| values(&metrics, &format!("clusterip_map_{name}"), map));
    assert_eq!((entries, capacity), (vec![12.0], vec![1024.0]));
    assert_eq!(pressure, [0.011], "in thousandths");
    drop(kept);
    wait::until_or("no flow is active", COUNTED, || {
        let metrics = agent.metrics().ok()?;
        (of_service(&metrics) == [0.0]).then_some(())
    })
}

#[test]
fn single_backends_are_left_out_where_they_are_not_wanted() -> Result<()> {
    require_root!();
    let mut lab = lab(&["--metrics-per-backend", "off"])?;
    for to in lab::tcp(10) {
        lab.client.get(to)?;
    }
    let metrics = metrics(&mut lab)?;
    let of_backends = metrics.samples().iter();
    let of_backends: Vec<&Sample> = of_backends
        .filter(|it| it.labels.contains_key("backend"))
        .collect();
    assert!(of_backends.is_empty(), "{of_backends:?}");
    let of_services = values(
        &metrics,
        "clusterip_service_flows_total",
        ("port", "tcp-80"),
    );
    assert_eq!(of_services, [1.0, 1.0], "one of each family");
    Ok(())
}

#[test]
fn a_scrape_is_one_exposition_of_open_metrics() -> Result<()> {
    require_root!();
    let lab = lab(&[])?;
    let response = lab.node.namespace().run(|| {
        Connection::open("127.0.0.1:10249".parse().map_err(std::io::Error::other)?)?
            .http("/metrics")
    })?;
    let kind = response.header("content-type").unwrap_or_default();
    ensure!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = &response.body;
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
    // Each family is told once and in one piece.
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap_or_default();
            assert!(families.insert(name.to_owned()), "{name} is told twice");
        }
    }
    Ok(())
}
