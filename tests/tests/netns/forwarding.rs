//! J8: names outside the cluster, asked by pods through the service address of the resolver.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clusterip_tests::{
    lab::Lab,
    manifests::{self, NODE},
    names::dig,
    node::NODE_V4,
    require_root, resolv,
    upstream::{ADDRESS, Upstream},
};

/// Where the resolver is a service.
const VIP: &str = "10.96.0.10";
/// What the upstream's answers may be kept for.
const TTL: u32 = 600;

/// A lab whose agent asks `upstream`.
fn start(lab: &mut Lab, upstream: &Upstream, more: &[&str]) -> Result<()> {
    let listen = format!("{NODE_V4}:53");
    let upstream = upstream.address().to_string();
    let client = manifests::pod(&lab.client, "client", true);
    lab.manifests.put("pod-client.yaml", &client)?;
    let own = ["--node-name", NODE, "--dns-listen", &listen];
    lab.start_with(&[&own[..], &["--dns-upstream", &upstream], more].concat())?;
    let conf = resolv::conf(&[VIP.parse()?], "default", "cluster.local");
    lab.client.set_resolv_conf(&conf)
}

fn ask(lab: &Lab, name: &str) -> Result<Vec<String>> {
    let options = format!("@{VIP} +time=6 +tries=1");
    dig(lab.client.namespace(), &options, name, "A")
}

fn truth(name: &str) -> Vec<String> {
    vec![
        "NOERROR".to_owned(),
        format!("answer {name} {TTL} IN A {ADDRESS}"),
    ]
}

#[test]
fn j8_names_outside_are_asked_once_kept_and_a_dead_upstream_is_a_servfail_in_time() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let upstream = Upstream::start(lab.node.namespace(), TTL)?;
    start(&mut lab, &upstream, &[])?;
    assert_eq!(ask(&lab, "www.example.test.")?, truth("www.example.test."));
    let before = upstream.asked();
    ensure!(before > 0, "the upstream was asked");
    let again = ask(&lab, "WWW.example.test.")?;
    assert_eq!(again[0], "NOERROR");
    assert_eq!(upstream.asked(), before, "the answer was kept");
    drop(upstream);
    assert_eq!(ask(&lab, "www.example.test.")?[0], "NOERROR");
    let start = Instant::now();
    assert_eq!(ask(&lab, "other.example.test.")?, ["SERVFAIL"]);
    assert!(start.elapsed() < Duration::from_secs(6));
    // The cluster's own names do not wait for anybody.
    assert_eq!(
        ask(&lab, "kube-dns.kube-system.svc.cluster.local.")?[0],
        "NOERROR aa"
    );
    let metrics = lab.agent()?.metrics()?;
    let figure = |name: &str, label: (&str, &str)| {
        let samples = metrics.named(name);
        let has = |value: &String| value == label.1;
        let samples = samples.filter(|it| it.labels.get(label.0).is_some_and(has));
        samples.map(|it| it.value).sum::<f64>()
    };
    assert!(figure("coredns_cache_hits_total", ("type", "success")) >= 2.0);
    assert!(figure("coredns_dns_responses_total", ("rcode", "SERVFAIL")) >= 1.0);
    assert!(figure("coredns_dns_requests_total", ("zone", "cluster.local.")) >= 1.0);
    Ok(())
}

#[test]
fn j8_a_stub_zone_has_its_own_upstream() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let others = Upstream::start(lab.node.namespace(), TTL)?;
    let corp = Upstream::start(lab.node.namespace(), TTL)?;
    let stub = format!("corp.test={}", corp.address());
    start(&mut lab, &others, &["--dns-stub", &stub])?;
    let before = corp.asked();
    assert_eq!(ask(&lab, "www.corp.test.")?, truth("www.corp.test."));
    assert_eq!(corp.asked(), before + 1);
    assert_eq!(ask(&lab, "www.test.")?, truth("www.test."));
    assert_eq!(corp.asked(), before + 1);
    // The command takes the same ways.
    let said = lab.agent()?.ask(&["dns", "query", "own.corp.test"])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains(&ADDRESS.to_string()), "{said:?}");
    assert_eq!(corp.asked(), before + 2);
    Ok(())
}

#[test]
fn j8_with_autopath_a_name_outside_is_one_question() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let upstream = Upstream::start(lab.node.namespace(), TTL)?;
    // The node's own search list comes before the name as it was given; what it is on this machine does not matter, as this
    // upstream knows every name.
    start(&mut lab, &upstream, &["--dns-autopath", "on"])?;
    let said = ask(&lab, "www.example.test.default.svc.cluster.local.")?;
    assert_eq!(said[0], "NOERROR aa", "{said:?}");
    let alias = "answer www.example.test.default.svc.cluster.local. 5 IN CNAME www.example.test.";
    assert!(said[1].starts_with(alias), "{said:?}");
    assert!(said[2].ends_with(&format!("IN A {ADDRESS}")), "{said:?}");
    let output = lab
        .client
        .namespace()
        .command("getent")
        .args(["ahostsv4", "www.example.test"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(&ADDRESS.to_string()), "{said}");
    // Another namespace's list is not walked through.
    let other = ask(&lab, "www.example.test.other.svc.cluster.local.")?;
    assert_eq!(other[0], "NXDOMAIN aa", "{other:?}");
    Ok(())
}

#[test]
fn an_upstream_that_is_the_resolver_itself_is_refused_by_name() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let listen = format!("{NODE_V4}:53");
    for upstream in [&*listen, VIP] {
        let own = ["--node-name", NODE, "--dns-listen", &listen];
        let error = lab
            .start_with(&[&own[..], &["--dns-upstream", upstream]].concat())
            .expect_err("it would never end");
        let error = format!("{error:#}");
        assert!(error.contains("is this resolver itself"), "{error}");
    }
    Ok(())
}
