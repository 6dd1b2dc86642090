//! Readiness by real probes, from the node's side, of pods that do not say it themselves (rules I).

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Server,
    client::Connection,
    lab::{self, Lab},
    manifests::probed,
    require_root,
    server::Protocol,
    wait,
};

use crate::changes::{under_traffic, until_answering};

/// Where the server listens whose being there is readiness.
const READY: u16 = 9000;

#[test]
fn i1_i3_readiness_by_http_makes_a_pod_join_and_leave() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    let http = format!(
        "{{periodSeconds: 1, failureThreshold: 2, httpGet: {{port: {READY}, path: /ready}}}}"
    );
    let text = probed(lab.pod("web-12")?, "web", &http);
    lab.manifests.put("pod-web-12.yaml", &text)?;
    lab.start()?;
    for to in lab::tcp(10) {
        until_answering(&lab.client, to, &["web-11"])?;
        let ready = Server::start(lab.pod("web-12")?, &[(Protocol::Tcp, READY)])?;
        until_answering(&lab.client, to, &["web-11", "web-12"])?;
        let mut connection = wait::until("a connection to web-12", || {
            let connection = lab.client.run(|| Connection::open(to));
            let mut connection = connection.ok()?;
            (connection.get().ok()?.pod == "web-12").then_some(connection)
        })?;
        drop(ready);
        until_answering(&lab.client, to, &["web-11"])?;
        assert_eq!(connection.get()?.pod, "web-12", "C1, I3: flows go on");
    }
    Ok(())
}

#[test]
fn i2_a_command_runs_in_the_pods_network() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    for (number, address) in [(11, "10.244.0.11"), (12, "10.244.0.99")] {
        let name = format!("web-{number}");
        let command = format!(
            "{{periodSeconds: 1, timeoutSeconds: 10, exec: {{command: [sh, -c, \"ip addr | grep -q {address}/\"]}}}}"
        );
        let text = probed(lab.pod(&name)?, "web", &command);
        lab.manifests.put(&format!("pod-{name}.yaml"), &text)?;
    }
    lab.start()?;
    for to in lab::tcp(10) {
        until_answering(&lab.client, to, &["web-11"])?;
    }
    Ok(())
}

#[test]
fn i4_a_pod_whose_file_is_gone_is_gone_after_its_grace_period() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let tcp = "{periodSeconds: 1, tcpSocket: {port: 8080}}\n  terminationGracePeriodSeconds: 1";
    let text = probed(lab.pod("web-11")?, "web", tcp);
    lab.manifests.put("pod-web-11.yaml", &text)?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    until_answering(&lab.client, to, &["web-11"])?;
    lab.manifests.remove("pod-web-11.yaml")?;
    wait::until("the pod is gone", || lab.client.get(to).err())?;
    Ok(())
}

#[test]
fn f4_a_restart_loses_no_request_to_pods_that_are_ready_by_their_probes() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    // The delay would leave the service without endpoints, if a restart forgot who runs already.
    let tcp = "{initialDelaySeconds: 60, periodSeconds: 1, tcpSocket: {port: 8080}}";
    for number in [11, 12] {
        lab.backend("web", number)?;
        let name = format!("web-{number}");
        let text = probed(lab.pod(&name)?, "web", tcp);
        lab.manifests.put(&format!("pod-{name}.yaml"), &text)?;
    }
    lab.start()?;
    let [to, _] = lab::tcp(10);
    until_answering(&lab.client, to, &["web-11", "web-12"])?;
    let agent = lab.agent.as_mut().context("the agent")?;
    under_traffic(&lab.client, to, || {
        agent.stop()?;
        agent.resume()?;
        agent.kill();
        agent.resume()?;
        until_answering(&lab.client, to, &["web-11", "web-12"])
    })
}
