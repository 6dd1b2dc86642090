//! F4: the agent stops, crashes and starts again; `cleanup` leaves nothing.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};
use clusterip_agent::dataplane::attach::Mode;
use clusterip_tests::{
    Node, Pod,
    agent::BPFFS,
    client::{self, Connection},
    lab::{self, Lab},
    metrics::ServicePort,
    require_root,
};

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    Ok(lab)
}

/// Programs on the node's end of a pod's link, by TCX and by clsact.
fn attached(lab: &Lab, pod: &Pod) -> Result<Vec<String>> {
    attached_to(lab, pod.link())
}

/// Programs on a device of the node, by TCX and by clsact.
pub(crate) fn attached_to(lab: &Lab, link: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    // A kernel without TCX does not know the question.
    let links =
        (Mode::detect() == Mode::Tcx).then_some([TcAttachType::Ingress, TcAttachType::Egress]);
    for hook in links.into_iter().flatten() {
        let query = || SchedClassifier::query_tcx(link, hook).map_err(std::io::Error::other);
        let (_revision, programs) = lab.node.namespace().run(query)?;
        found.extend(
            programs
                .iter()
                .map(|info| format!("{link} tcx {:?}", info.name_as_str())),
        );
    }
    for (hook, direction) in [("ingress", "ingress"), ("egress", "egress")] {
        let mut tc = lab.node.namespace().command("tc");
        let output = tc
            .args(["filter", "show", "dev", link, hook])
            .output()
            .context("run tc")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        found.extend(
            text.lines()
                .map(|line| format!("{link} clsact {direction} {}", without_id(line))),
        );
    }
    Ok(found)
}

/// A filter's line without the number of its program: the next agent puts its own in the same place.
fn without_id(line: &str) -> String {
    let mut after_id = false;
    let words = line
        .split_whitespace()
        .filter(|word| !std::mem::replace(&mut after_id, *word == "id"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn f4_traffic_goes_on_while_the_agent_is_away() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    for crash in [false, true] {
        let mut connections = Vec::new();
        for to in lab::tcp(10) {
            let mut connection = lab.client.run(|| Connection::open(to))?;
            let pod = connection.get()?.pod;
            connections.push((to, connection, pod));
        }
        let agent = lab.agent()?;
        if crash {
            agent.kill();
        } else {
            agent.stop()?;
        }
        for (to, connection, pod) in &mut connections {
            assert_eq!(
                connection.get()?.pod,
                *pod,
                "an established connection goes on"
            );
            lab.client.get(*to).context("a new connection is made")?;
        }
        lab.agent()?.resume()?;
        for (to, connection, pod) in &mut connections {
            assert_eq!(connection.get()?.pod, *pod, "and on after the restart");
            lab.client.get(*to)?;
        }
        for to in lab::udp(10) {
            let (_answer, from) = lab.client.run(|| client::udp_from(to, "hello"))?;
            assert_eq!(from, to);
        }
    }
    Ok(())
}

#[test]
fn f4_a_restart_adopts_programs_and_counters() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let port = ServicePort::new("web", "tcp-80", "TCP");
    for to in lab::tcp(10) {
        lab.client.get(to)?;
    }
    let before = attached(&lab, &lab.client)?;
    assert!(!before.is_empty(), "the programs are attached");
    let agent = lab.agent()?;
    let counted = agent.metrics()?.service_flows(&port);
    let pins = lab.node.pins(Path::new(BPFFS))?;
    let agent = lab.agent()?;
    agent.stop()?;
    agent.resume()?;
    assert_eq!(agent.metrics()?.service_flows(&port), counted);
    assert_eq!(lab.node.pins(Path::new(BPFFS))?, pins);
    assert_eq!(
        attached(&lab, &lab.client)?,
        before,
        "no program is attached twice"
    );
    Ok(())
}

#[test]
fn f4_what_changed_while_the_agent_was_away_is_programmed_at_its_start() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    lab.agent()?.stop()?;
    lab.ready("web-11", false)?;
    lab.service("api", 20)?;
    lab.backend("api", 21)?;
    lab.agent()?.resume()?;
    for to in lab::tcp(10) {
        for _ in 0..4 {
            assert_eq!(lab.client.get(to)?.pod, "web-12");
        }
    }
    for to in lab::tcp(20) {
        assert_eq!(lab.client.get(to)?.pod, "api-21");
    }
    Ok(())
}

#[test]
fn cleanup_leaves_nothing_pinned_or_attached() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    for to in lab::tcp(10) {
        lab.client.get(to)?;
    }
    assert!(!lab.node.pins(Path::new(BPFFS))?.is_empty());
    let agent = lab.agent()?;
    agent.stop()?;
    agent.cleanup()?;
    // The kernel has files of its own in a bpffs.
    let everything = Path::new("/sys/fs/bpf");
    let fresh = Node::anonymous()?.pins(everything)?;
    assert_eq!(lab.node.pins(everything)?, fresh);
    for pod in lab.pods() {
        assert_eq!(attached(&lab, pod)?, Vec::<String>::new());
    }
    for to in lab::tcp(10) {
        lab.client.get(to).expect_err("nobody translates any more");
    }
    // Twice is as good as once.
    lab.agent()?.cleanup()
}
