//! Readiness by real probes, from the node's side, of pods that do not say it themselves (rules I); and whom a policy
//! lets be reached.

use std::{io::ErrorKind, net::TcpStream, time::Duration};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Server,
    client::Connection,
    lab::{self, Lab},
    manifests::{self, probed},
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

/// A7, B8: what is elsewhere only is dropped and counted; what is nowhere is refused.
#[test]
fn b8_a_local_policy_without_an_endpoint_here_drops() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let service = manifests::Service::new("web", &lab::vips(10)).tcp(80, 8080);
    let local = format!("{}  internalTrafficPolicy: Local\n", service.yaml());
    lab.manifests.put("service-web.yaml", &local)?;
    lab.backend("web", 11)?;
    let here = manifests::pod(lab.pod("web-11")?, "web", true);
    let elsewhere = here.replace(manifests::NODE, "node-z");
    lab.manifests.put("pod-web-11.yaml", &elsewhere)?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    let dropped = |lab: &mut Lab| -> Result<f64> {
        let metrics = lab.agent()?.metrics()?;
        let samples = metrics.named("clusterip_outcome_packets_total");
        let of_it = samples.filter(|it| {
            let outcome = it.labels.get("outcome");
            outcome.is_some_and(|outcome| outcome == "no-local-endpoint")
        });
        Ok(of_it.map(|it| it.value).sum())
    };
    let attempt = lab.client.run(|| {
        let attempt = TcpStream::connect_timeout(&to, Duration::from_millis(200));
        Ok(attempt.err().map(|error| error.kind()))
    })?;
    assert_eq!(attempt, Some(ErrorKind::TimedOut), "dropped, not refused");
    assert!(dropped(&mut lab)? > 0.0, "and counted");
    lab.manifests.put("pod-web-11.yaml", &here)?;
    until_answering(&lab.client, to, &["web-11"])?;
    lab.ready("web-11", false)?;
    wait::until("connections are refused", || {
        let refused = lab.client.get(to).err()?;
        (refused.kind() == ErrorKind::ConnectionRefused).then_some(())
    })
}
