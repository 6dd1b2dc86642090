//! The agent in a cluster: an API server on the node's loopback, real pods, real packets.
#![expect(
    clippy::indexing_slicing,
    reason = "in JSON a field that is not there reads as null, and is made by being written"
)]

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Agent, ApiServer, Lab,
    apiserver::{CA, Certificate, objects},
    client::Connection,
    lab,
    manifests::NODE,
    require_root, wait,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::changes::until_answering;

/// A laboratory whose objects are on an API server.
struct Cluster {
    server: ApiServer,
    kubeconfig: NamedTempFile,
    lab: Lab,
}

impl Cluster {
    /// A service at 10.96.0.10 with two backends, and a third one in reserve; the agent is not started.
    fn new() -> Result<Self> {
        let lab = Self::lab()?;
        let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let server = ApiServer::start_in(lab.node.namespace(), loopback)?;
        Self::of(lab, server)
    }

    /// The same behind TLS.
    fn with_tls() -> Result<Self> {
        let lab = Self::lab()?;
        let server = ApiServer::start_tls_in(lab.node.namespace(), Certificate::Good)?;
        Self::of(lab, server)
    }

    fn of(lab: Lab, server: ApiServer) -> Result<Self> {
        server.put(objects::node(NODE, "zone-a"))?;
        server.put(objects::service("web", "10.96.0.10", 80, 8080))?;
        let kubeconfig = server.kubeconfig()?;
        let cluster = Self {
            server,
            kubeconfig,
            lab,
        };
        cluster.endpoints(&[11, 12])?;
        Ok(cluster)
    }

    fn lab() -> Result<Lab> {
        let mut lab = Lab::new()?;
        for number in [11, 12, 13] {
            lab.backend("web", number)?;
        }
        Ok(lab)
    }

    /// Mounts a service account of the cluster's authority into the agent's pod, or renews its token.
    fn account(&self, token: &str) -> Result<()> {
        // /var/run is /run, and that is the node's own.
        let folder = Path::new("/run/secrets/kubernetes.io/serviceaccount");
        let write = || {
            fs::create_dir_all(folder)?;
            fs::write(folder.join("ca.crt"), CA)?;
            fs::write(folder.join("namespace"), "kube-system")?;
            fs::write(folder.join("token"), token)
        };
        self.lab
            .node
            .namespace()
            .run(write)
            .context("write a service account")?;
        self.server.set_token(token);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let arguments = ["--node-name", NODE, "--socket", SOCKET];
        self.lab.agent = Some(Agent::start_by(
            &self.lab.node,
            self.kubeconfig.path(),
            &arguments,
        )?);
        Ok(())
    }

    /// Which backends the service has.
    fn endpoints(&self, numbers: &[u8]) -> Result<()> {
        let addresses: Vec<String> = numbers.iter().map(|it| format!("10.244.0.{it}")).collect();
        let mut slice = objects::slice("web-abc", "web", &addresses, 8080);
        let now = k8s_openapi::jiff::Timestamp::now();
        slice["metadata"]["annotations"] =
            json!({"endpoints.kubernetes.io/last-change-trigger-time": now.to_string()});
        self.server.put(slice)
    }

    fn until_answering(&self, pods: &[&str]) -> Result<()> {
        let [to, _] = lab::tcp(10);
        until_answering(&self.lab.client, to, pods)
    }

    fn status(&mut self) -> Result<(Option<i32>, Value)> {
        let said = self
            .lab
            .agent()?
            .ask(&["status", "-o", "json", "--socket", SOCKET])?;
        let status = serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))?;
        Ok((said.code, status))
    }

    /// Waits until the status is as wanted.
    fn until_status(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::until(what, || {
            let (_, status) = self.status().ok()?;
            last.clone_from(&status);
            is_it(&status).then_some(status)
        });
        found.with_context(|| format!("{last:#}"))
    }

    fn health(&self, path: &str) -> Result<u16> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, 10256));
        let namespace = self.lab.node.namespace();
        let response = namespace.run(|| Connection::open(to)?.http(path));
        Ok(response.with_context(|| format!("ask {to}{path}"))?.status)
    }
}

const SOCKET: &str = "/run/clusterip/agent.sock";

/// The whole way: objects that come and go, packets, and what the agent says of it.
#[test]
fn services_of_an_api_server_are_served() -> Result<()> {
    require_root!();
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    cluster.until_answering(&["web-11", "web-12"])?;
    cluster.endpoints(&[13])?;
    cluster.until_answering(&["web-13"])?;
    // A service that was not there, with an address that the server chose.
    let mut other = objects::service("other", "", 80, 8080);
    for field in ["clusterIP", "clusterIPs"] {
        other["spec"]
            .as_object_mut()
            .context("a spec")?
            .remove(field);
    }
    cluster.server.put(other)?;
    let slice = objects::slice("other-abc", "other", &["10.244.0.12".to_owned()], 8080);
    cluster.server.put(slice)?;
    let address = cluster
        .server
        .objects("services")
        .into_iter()
        .find(|it| it["metadata"]["name"] == "other")
        .and_then(|it| it["spec"]["clusterIP"].as_str()?.parse::<Ipv4Addr>().ok())
        .context("an address")?;
    let to = SocketAddr::from((address, 80));
    until_answering(&cluster.lab.client, to, &["web-12"])?;
    let (code, status) = cluster.status()?;
    assert_eq!(code, Some(0), "{status:#}");
    assert_eq!(status["source"]["kind"], "kubernetes");
    assert_eq!(status["source"]["server"], cluster.server.url());
    assert_eq!(status["source"]["lost"], Value::Null);
    // The server keeps what it gave out: the agent keeps nothing.
    let kept = cluster.lab.node.namespace().run(|| {
        let state = std::path::Path::new(clusterip_tests::agent::STATE);
        Ok(state.join("allocations.json").exists())
    })?;
    assert!(!kept, "an allocation was written down");
    cluster.server.delete("services", "default", "other");
    wait::until("the service is refused", || {
        cluster.lab.client.get(to).is_err().then_some(())
    })?;
    // F8, under kube-proxy's names.
    let metrics = cluster.lab.agent()?.metrics()?;
    let value = |name: &str| -> f64 { metrics.named(name).map(|it| it.value).sum() };
    let latency = "kubeproxy_network_programming_duration_seconds";
    assert!(value(&format!("{latency}_count")) >= 1.0);
    let sum = value(&format!("{latency}_sum"));
    assert!(sum > 0.0 && sum < 60.0, "{sum} s");
    assert!((value("clusterip_kubernetes_api_connected") - 1.0).abs() < 0.1);
    assert!(value("clusterip_kubernetes_api_events_total") >= 3.0);
    assert!(value("kubeproxy_sync_proxy_rules_endpoint_changes_total") >= 3.0);
    Ok(())
}

/// F4: a lost API server changes nothing; and an agent that starts without one leaves what is there.
#[test]
fn f4_packets_go_on_without_an_api_server_and_without_an_agent() -> Result<()> {
    require_root!();
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    cluster.until_answering(&["web-11", "web-12"])?;
    cluster.server.stop();
    let lost = cluster.until_status("the server is missed", |it| {
        let reason = it["source"]["lost"]["reason"].as_str();
        reason.is_some_and(|why| why.contains("Connection refused"))
    })?;
    assert_eq!(lost["healthy"], json!(true), "what was said stays in force");
    assert_eq!(cluster.health("/healthz")?, 200);
    cluster.until_answering(&["web-11", "web-12"])?;
    let page = cluster.lab.agent()?.ask(&["status", "--socket", SOCKET])?;
    ensure!(page.out.contains("lost since"), "{page:?}");
    cluster.lab.agent()?.kill();
    cluster.until_answering(&["web-11", "web-12"])?;
    cluster.lab.agent()?.launch()?;
    let begun = cluster.until_status("it is missed from the start", |it| {
        it["source"]["lost"].is_object()
    })?;
    assert_eq!(begun["source"]["synced"], json!(false));
    assert_eq!(cluster.health("/healthz")?, 503);
    assert_eq!(cluster.health("/livez")?, 200);
    cluster.until_answering(&["web-11", "web-12"])?;
    // What changed meanwhile is found.
    cluster.endpoints(&[12, 13])?;
    cluster.server.resume()?;
    cluster.until_answering(&["web-12", "web-13"])?;
    wait::until("the agent is healthy", || {
        (cluster.health("/healthz").ok()? == 200).then_some(())
    })?;
    cluster.until_status("the server is there", |it| it["source"]["lost"].is_null())?;
    Ok(())
}

/// The way of a `DaemonSet`: the server's address from the environment, its authority and who asks from the account, whose token
/// the kubelet renews in its file.
#[test]
fn an_agent_in_a_pod_is_known_by_its_account_and_stays_known_when_the_token_is_renewed()
-> Result<()> {
    require_root!();
    let mut cluster = Cluster::with_tls()?;
    cluster.account("first")?;
    let arguments = ["--node-name", NODE, "--socket", SOCKET];
    let address = cluster.server.address();
    cluster.lab.agent = Some(Agent::start_in_cluster(
        &cluster.lab.node,
        address,
        &arguments,
    )?);
    cluster.until_answering(&["web-11", "web-12"])?;
    let (_, status) = cluster.status()?;
    assert_eq!(status["source"]["place"], "in-cluster", "{status:#}");
    assert_eq!(status["source"]["server"], cluster.server.url());
    // From now on the first one is refused; the watches that stand are broken off.
    cluster.account("second")?;
    cluster.server.cut();
    cluster.endpoints(&[13])?;
    cluster.until_answering(&["web-13"])?;
    cluster.until_status("it is known again", |it| it["source"]["lost"].is_null())?;
    Ok(())
}

/// Whoever made a service that is refused, or served in part, sees it where they look.
#[test]
fn problems_of_services_are_events_of_theirs() -> Result<()> {
    require_root!();
    let mut cluster = Cluster::new()?;
    let mut node_port = objects::service("door", "10.96.0.20", 80, 8080);
    node_port["spec"]["type"] = json!("NodePort");
    cluster.server.put(node_port)?;
    let mut odd = objects::service("odd", "10.96.0.21", 80, 8080);
    odd["metadata"]["annotations"] = json!({"clusterip.dev/algorithm": "fastest"});
    cluster.server.put(odd)?;
    cluster.start()?;
    let event = |reason: &str, name: &str| {
        let events = cluster.server.objects("events").into_iter();
        events
            .into_iter()
            .find(|it| it["reason"] == reason && it["involvedObject"]["name"] == name)
    };
    let problem = wait::until("the problem is an Event", || {
        event("ClusterIPProblem", "odd")
    })?;
    let message = problem["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("fastest: must be round-robin, random, maglev"),
        "{message}"
    );
    assert_eq!(problem["type"], "Warning");
    assert_eq!(problem["reportingInstance"], NODE);
    let uid = cluster
        .server
        .objects("services")
        .into_iter()
        .find(|it| it["metadata"]["name"] == "odd");
    let uid = uid.context("the service")?["metadata"]["uid"].clone();
    assert_eq!(problem["involvedObject"]["uid"], uid, "describe finds it");
    let count = cluster.server.objects("events").len();
    assert_eq!(count, 1, "{:#?}", cluster.server.objects("events"));
    let (_, status) = cluster.status()?;
    assert_eq!(status["dataplane"]["unserved"], json!(0));
    Ok(())
}

/// Their kubelets write their addresses in turn into the one object that both have.
#[test]
fn two_machines_with_the_name_of_one_node_are_found_out() -> Result<()> {
    require_root!();
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    cluster.until_answering(&["web-11", "web-12"])?;
    let (_, status) = cluster.status()?;
    assert_eq!(status["problems"], json!([]), "{status:#}");
    let mut other = objects::node(NODE, "zone-b");
    other["status"]["addresses"][0]["address"] = json!("192.0.2.99");
    cluster.server.put(other)?;
    let status = cluster.until_status("it is said", |it| it["problems"][0].is_object())?;
    let problem = &status["problems"][0];
    assert_eq!(problem["object"], format!("Node {NODE}"), "{problem:#}");
    assert_eq!(problem["value"], "192.0.2.99");
    let message = problem["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("does another one have the same node name?"),
        "{message}"
    );
    // Services are served all the same.
    cluster.until_answering(&["web-11", "web-12"])?;
    cluster.server.put(objects::node(NODE, "zone-a"))?;
    cluster.until_status("it is right again", |it| it["problems"] == json!([]))?;
    Ok(())
}

/// F7: the node's own object is followed too.
#[test]
fn f7_a_node_that_is_drained_by_the_cluster_is_not_healthy() -> Result<()> {
    require_root!();
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let mut node = objects::node(NODE, "zone-a");
    node["spec"]["taints"] =
        json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    cluster.server.put(node)?;
    wait::until("the node is not eligible", || {
        (cluster.health("/healthz").ok()? == 503).then_some(())
    })?;
    assert_eq!(cluster.health("/livez")?, 200);
    cluster.server.put(objects::node(NODE, "zone-a"))?;
    wait::until("the node is eligible again", || {
        (cluster.health("/healthz").ok()? == 200).then_some(())
    })
}
