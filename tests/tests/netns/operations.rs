//! `docs/operations.md`, section by section: the symptom is provoked, and the commands print what the document says.

use std::{collections::BTreeSet, io::ErrorKind, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Outside,
    client::Connection,
    lab::{self, Lab},
    manifests::{self, NODE},
    playbook::{self, play},
    require_root, wait,
};

/// Longer than a refusal takes, and used up where a packet is dropped.
const SOON: Duration = Duration::from_millis(300);

fn lab(backends: &[u8]) -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in backends {
        lab.backend("web", *number)?;
    }
    Ok(lab)
}

/// A service of one family.
const WEB: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, clusterIP: 10.96.0.10, \
                   ports: [{port: 80, targetPort: 8080}]}\n";

/// With a service of this manifest, and its backends.
fn lab_with(service: &str, backends: &[u8]) -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.manifests.put("web.yaml", service)?;
    for number in backends {
        lab.backend("web", *number)?;
    }
    Ok(lab)
}

/// How a call by a client ends that gets no answer.
fn fails(lab: &Lab, to: &str) -> Result<ErrorKind> {
    let to: std::net::SocketAddr = to.parse()?;
    let call = || std::net::TcpStream::connect_timeout(&to, SOON).map(drop);
    let error = lab.client.run(call).err();
    error.map(|it| it.kind()).context("it answers")
}

fn outcome(lab: &mut Lab, name: &str) -> Result<()> {
    let agent = lab.agent()?;
    wait::until(&format!("packets end in {name}"), || {
        (agent.metrics().ok()?.outcome(name) > 0).then_some(())
    })
}

#[test]
fn every_section_with_commands_is_played() -> Result<()> {
    let text = include_str!("operations.rs");
    let played: BTreeSet<&str> = text
        .match_indices("play(&lab, \"")
        .filter_map(|(at, start)| text.get(at + start.len()..)?.split('"').next())
        .collect();
    let headings = playbook::headings()?;
    ensure!(headings.len() > 10, "{headings:?}");
    for heading in headings {
        ensure!(
            played.contains(heading.as_str()),
            "nothing plays {heading:?}"
        );
    }
    Ok(())
}

#[test]
fn b7_connection_refused_for_want_of_an_endpoint() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    let probe = "{periodSeconds: 1, failureThreshold: 1, httpGet: {port: 9999, path: /ready}}";
    let text = manifests::probed(lab.pod("web-11")?, "web", probe);
    lab.manifests.put("pod-web-11.yaml", &text)?;
    lab.start()?;
    wait::until("the probe fails", || {
        let said = lab.agent.as_ref()?.ask(&["get", "endpoints", "web"]).ok()?;
        said.out.contains("readiness:fails").then_some(())
    })?;
    assert_eq!(fails(&lab, "10.96.0.10:80")?, ErrorKind::ConnectionRefused);
    outcome(&mut lab, "no-endpoint")?;
    play(&lab, "Connection refused")
}

#[test]
fn b9_connection_refused_at_another_port() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start()?;
    assert_eq!(
        fails(&lab, "10.96.0.10:8080")?,
        ErrorKind::ConnectionRefused
    );
    outcome(&mut lab, "no-service")?;
    play(&lab, "Connection refused, but the pods are ready")
}

#[test]
fn b8_it_hangs_by_a_local_policy() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: 10.96.0.10, internalTrafficPolicy: Local, \
                ports: [{port: 80, targetPort: 8080}]}\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-1, \
                labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{port: 8080, protocol: TCP}]\nendpoints: \
                [{addresses: [10.244.1.7], nodeName: node-b, targetRef: {kind: Pod, name: web-1, namespace: default}}]\n";
    lab.manifests.put("web.yaml", text)?;
    lab.start()?;
    assert_eq!(fails(&lab, "10.96.0.10:80")?, ErrorKind::TimedOut);
    outcome(&mut lab, "no-local-endpoint")?;
    play(&lab, "It hangs: the policy is Local")
}

#[test]
fn b9_it_hangs_at_an_address_without_a_service() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start()?;
    assert_eq!(fails(&lab, "10.96.0.99:80")?, ErrorKind::TimedOut);
    outcome(&mut lab, "unallocated")?;
    play(&lab, "It hangs: an address without a service")
}

#[test]
fn it_hangs_where_no_device_has_hooks() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    // Over the flag of every test's agent: the environment is not enough.
    let file = lab.manifests.path().join("agent.conf");
    std::fs::write(
        &file,
        "apiVersion: clusterip.dev/v1alpha1\nkind: AgentConfiguration\npodInterfaces: [cali*]\n",
    )?;
    let file = file.display().to_string();
    lab.start_with(&["--node-name", NODE, "--config", &file])?;
    ensure!(fails(&lab, "10.96.0.10:80").is_ok());
    play(&lab, "It hangs: the pod's device has no hooks")
}

#[test]
fn e1_it_does_not_answer_from_outside() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    let outside = Outside::join(&lab.node, "up0", 1)?;
    // As the text has it.
    let stack = ["--forwarding", "stack"];
    lab.start_with(&[&["--node-name", NODE, "--uplinks", "up*"], &stack[..]].concat())?;
    wait::until("the uplink has hooks", || {
        let said = lab.agent.as_ref()?.ask(&["get", "interfaces"]).ok()?;
        said.out.contains("up0").then_some(())
    })?;
    let [to, _] = lab::tcp(10);
    let call = || std::net::TcpStream::connect_timeout(&to, SOON).map(drop);
    ensure!(outside.namespace().run(call).is_err());
    outcome(&mut lab, "from-outside")?;
    play(&lab, "It does not answer from outside")
}

#[test]
fn b3_uneven_by_affinity() -> Result<()> {
    require_root!();
    let affine = WEB.replace("clusterIP", "sessionAffinity: ClientIP, clusterIP");
    let mut lab = lab_with(&affine, &[11, 12])?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    let mut pods = BTreeSet::new();
    for _ in 0..6 {
        pods.insert(lab.client.get(to)?.pod);
    }
    assert_eq!(pods.len(), 1, "{pods:?}");
    play(&lab, "Uneven: one client always meets the same pod")
}

#[test]
fn c1_uneven_by_connections_that_stay() -> Result<()> {
    require_root!();
    let mut lab = lab_with(WEB, &[11])?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut connection = lab.client.run(|| Connection::open(to))?;
        connection.get()?;
        kept.push(connection);
    }
    lab.backend("web", 12)?;
    wait::until("the new pod is an endpoint", || {
        let said = lab.agent.as_ref()?.ask(&["get", "endpoints", "web"]).ok()?;
        said.out.contains("10.244.0.12").then_some(())
    })?;
    for connection in &mut kept {
        assert_eq!(connection.get()?.pod, "web-11");
    }
    play(&lab, "Uneven: few connections that stay")
}

#[test]
fn f4_after_a_restart_of_the_agent() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start()?;
    lab.agent()?.stop()?;
    lab.client
        .get(lab::tcp(10)[0])
        .context("without an agent")?;
    play(&lab, "After a restart of the agent")?;
    let agent = lab.agent()?;
    assert_eq!(agent.ask(&["status", "--brief"])?.code, Some(1));
    agent.resume()?;
    let said = agent.ask(&["status", "--brief"])?;
    assert_eq!(
        (said.code, &said.out[..8]),
        (Some(0), "healthy:"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn a_change_with_a_fault_has_no_effect_and_is_told() -> Result<()> {
    require_root!();
    let mut lab = lab_with(WEB, &[11])?;
    lab.start()?;
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec:\n  selector: {app: web}\n  ports: [{port: eighty}]\n";
    lab.manifests.put("api.yaml", text)?;
    wait::until("the problem is told", || {
        let said = lab.agent.as_ref()?.ask(&["status", "--brief"]).ok()?;
        said.out.contains(" 1 problems").then_some(())
    })?;
    lab.client
        .get(lab::tcp(10)[0])
        .context("the others are served")?;
    play(&lab, "A change has no effect")
}

#[test]
fn services_that_do_not_fit_are_not_answered_and_told() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start_with(&["--node-name", NODE, "--max-services", "6"])?;
    lab.service("late", 20)?;
    wait::until("it does not fit", || {
        let said = lab.agent.as_ref()?.ask(&["status", "--brief"]).ok()?;
        said.out.contains("not fit").then_some(())
    })?;
    assert_eq!(lab.agent()?.ask(&["status", "--brief"])?.code, Some(1));
    play(&lab, "New services are not answered")
}

#[test]
fn c10_connections_break_after_a_service_was_made_anew() -> Result<()> {
    require_root!();
    let mut lab = lab_with(WEB, &[11])?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    let mut connection = lab.client.run(|| Connection::open(to))?;
    connection.get()?;
    let text = WEB.replace("targetPort: 8080", "targetPort: 9090");
    lab.manifests.put("web.yaml", &text)?;
    wait::until("the flow is stale", || {
        let said = lab.agent.as_ref()?.ask(&["get", "flows"]).ok()?;
        said.out.contains("stale").then_some(())
    })?;
    play(&lab, "Connections break after a service was made anew")
}

#[test]
fn j5_names_that_do_not_resolve() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start()?;
    play(&lab, "Names do not resolve")
}

#[test]
fn a_command_that_does_not_reach_the_agent() -> Result<()> {
    require_root!();
    let mut lab = lab(&[11])?;
    lab.start()?;
    play(&lab, "A command cannot reach the agent")
}
