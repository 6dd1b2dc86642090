//! What the agent tells a service manager, what SIGHUP changes while it runs, and its log as JSON.

use std::{fs, os::unix::net::UnixDatagram, path::Path};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Agent,
    lab::{self, Lab},
    manifests, require_root, wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Where a service manager would listen.
struct Manager(UnixDatagram);

impl Manager {
    fn bind(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).context("listen for the agent")?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Waits for a message with these lines in it; what comes before is dropped.
    fn hear(&self, lines: &[&str]) -> Result<String> {
        let mut all = Vec::new();
        let heard = wait::until(&format!("the manager hears {lines:?}"), || {
            let mut message = [0; 1024];
            let length = self.0.recv(&mut message).ok()?;
            let text = String::from_utf8_lossy(message.get(..length)?).into_owned();
            all.push(text.clone());
            let has = |wanted: &&str| text.lines().any(|line| line.starts_with(*wanted));
            lines.iter().all(has).then_some(text)
        });
        heard.with_context(|| format!("heard {all:?}"))
    }
}

fn hang_up(agent: &Agent) -> Result<()> {
    let id = agent.id().context("the agent runs")?;
    kill(Pid::from_raw(id.try_into()?), Signal::SIGHUP).context("SIGHUP")
}

#[test]
fn a_service_manager_hears_and_sighup_changes_what_can_change() -> Result<()> {
    require_root!();
    let folder = tempfile::tempdir()?;
    let (config, socket) = (folder.path().join("c.yaml"), folder.path().join("notify"));
    let write = |text: &str| fs::write(&config, text).context("write the configuration");
    write("logFormat: json\npodInterfaces: [none*]\n")?;
    let manager = Manager::bind(&socket)?;
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let (config_text, socket_text) = (
        config.to_str().context("a path")?,
        socket.to_str().context("a path")?,
    );
    let agent = Agent::start_in(
        &lab.node,
        lab.manifests.path(),
        &["--node-name", manifests::NODE, "--config", config_text],
        &[("NOTIFY_SOCKET", socket_text), ("WATCHDOG_USEC", "400000")],
    )?;
    let agent = lab.agent.insert(agent);
    manager.hear(&["READY=1"])?;
    manager.hear(&["STATUS=1 services, 0 problems"])?;
    manager.hear(&["WATCHDOG=1"])?;
    // The log so far, line by line.
    let messages = agent.log_objects()?;
    for message in &messages {
        for key in ["time", "level", "target", "message"] {
            assert!(message[key].is_string(), "{key}: {message}");
        }
    }
    let of = |text: &str| messages.iter().find(|it| it["message"] == text);
    assert_eq!(of("started").context("started")?["node"], manifests::NODE);
    assert_eq!(of("programmed").context("programmed")?["services"], 1);

    // What can change does, the rest says that it does not.
    write("logFormat: text\npodInterfaces: [veth*]\nmaxFlows: 64\n")?;
    hang_up(agent)?;
    manager.hear(&["RELOADING=1", "MONOTONIC_USEC="])?;
    manager.hear(&["READY=1"])?;
    let attached = |agent: &Agent| {
        let metrics = agent.metrics().ok()?;
        let devices = metrics.named("clusterip_interfaces").next()?.value;
        (devices > 0.0).then_some(())
    };
    wait::until("the pods' devices are attached to", || attached(agent))?;
    let [to, _] = lab::tcp(10);
    assert_eq!(lab.client.get(to)?.pod, "web-11");
    let log = agent.log();
    let mut refused = log
        .lines()
        .filter(|line| line.contains("old value stays in force"));
    assert!(refused.all(|line| line.contains("max-flows")), "{log}");
    assert!(log.contains("old value stays in force"), "{log}");
    assert!(log.contains(r#"reloaded changed=["pod-interfaces", "log-format"]"#));

    // A configuration that is wrong changes nothing.
    write("logFormat: json\npodInterfaces: [none*]\nmaxFlows: 0\n")?;
    hang_up(agent)?;
    manager.hear(&["RELOADING=1"])?;
    manager.hear(&["READY=1"])?;
    let log = agent.log();
    let wrong = log
        .lines()
        .find(|line| line.contains("the configuration is wrong"));
    let wrong = wrong.context("a line about the configuration")?;
    assert!(wrong.contains("c.yaml:3:11: maxFlows"), "{wrong}");
    assert!(wrong.starts_with('['), "still as text: {wrong}");
    assert_eq!(lab.client.get(to)?.pod, "web-11");
    agent.stop()?;
    manager.hear(&["STOPPING=1", "STATUS="])?;
    Ok(())
}
