//! `/healthz`, `/livez` and the times of F8, as a load balancer, a kubelet and a dashboard ask for them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    client::{Connection, Response},
    lab::{self, Lab},
    manifests, require_root, wait,
};

use crate::changes::until_answering;

fn ask(lab: &Lab, port: u16, path: &str) -> Result<Response> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let response = lab
        .node
        .namespace()
        .run(|| Connection::open(to)?.http(path));
    response.with_context(|| format!("ask {to}{path}"))
}

/// F7, F8
#[test]
fn f7_a_node_that_is_being_deleted_is_live_but_not_healthy() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let node = |more: &str| {
        let name = manifests::NODE;
        format!("apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n{more}")
    };
    lab.manifests.put("node.yaml", &node(""))?;
    lab.start()?;
    assert_eq!(ask(&lab, 10256, "/livez")?.status, 200);
    let healthy = ask(&lab, 10256, "/healthz")?.body;
    assert!(healthy.contains(r#""nodeEligible":true}"#), "{healthy}");
    for leaving in [
        "spec:\n  taints:\n  - {key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}\n",
        "  deletionTimestamp: 2026-01-01T00:00:00Z\n",
    ] {
        lab.manifests.put("node.yaml", &node(leaving))?;
        let answer = wait::until("the node is not eligible", || {
            let answer = ask(&lab, 10256, "/healthz").ok()?;
            (answer.status == 503).then_some(answer)
        })?;
        let body = answer.body;
        assert!(body.contains(r#""nodeEligible":false"#), "{body}");
        assert!(body.contains("the node is being deleted"), "{body}");
        assert_eq!(ask(&lab, 10256, "/livez")?.status, 200);
        lab.manifests.put("node.yaml", &node(""))?;
        wait::until("the node is eligible again", || {
            (ask(&lab, 10256, "/healthz").ok()?.status == 200).then_some(())
        })?;
    }
    assert_eq!(ask(&lab, 10249, "/healthz")?.body, "ok");
    // F8: a change of a file, from its time on; nothing of what was there before the agent.
    lab.backend("web", 12)?;
    let [to, _] = lab::tcp(10);
    until_answering(&lab.client, to, &["web-11", "web-12"])?;
    let metrics = lab.agent()?.metrics()?;
    let value = |name: &str, label: &str, value: &str| -> f64 {
        let samples = metrics.named(name);
        let mine = samples.filter(|it| it.labels.get(label).is_some_and(|it| it == value));
        mine.map(|it| it.value).sum()
    };
    let latency = "kubeproxy_network_programming_duration_seconds";
    for family in ["IPv4", "IPv6"] {
        let count = value(&format!("{latency}_count"), "ip_family", family);
        assert!((count - 1.0).abs() < 0.1, "{family}: {count}");
        let sum = value(&format!("{latency}_sum"), "ip_family", family);
        assert!(sum > 0.0 && sum < 30.0, "{family}: {sum} s");
    }
    assert!(value("kubeproxy_proxy_healthz_total", "code", "503") >= 2.0);
    assert!(value("kubeproxy_proxy_livez_total", "code", "200") >= 3.0);
    Ok(())
}
