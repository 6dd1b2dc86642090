//! A node with a client and a pod, and whoever translates between them.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    services::{CLIENT, CLIENTS, POD, Services},
    way::{Abilities, Kind, Way},
    worker::Worker,
};
use crate::{Agent, Cgroup, Node, Pod, manifests::Manifests, namespace::Namespace, pod::PodSpec};

/// How long the agent may take for its first programming.
const PATIENCE: Duration = Duration::from_mins(5);
/// Entries of the agent's tables: room for the largest number of services, and for each connection of a run.
const ROOM: [&str; 6] = [
    "--max-services",
    "131072",
    "--max-backends",
    "131072",
    "--max-flows",
    "262144",
];

/// A way that packets can be sent on. Taken down in the order of the fields.
#[derive(Debug)]
#[expect(dead_code, reason = "what is held until the stage is taken down")]
pub(super) struct Stage {
    /// Who sends and receives.
    pub(super) worker: Worker,
    agent: Option<Agent>,
    cgroup: Option<Cgroup>,
    manifests: Option<Manifests>,
    client: Pod,
    pod: Pod,
    node: Node,
    /// How long the rules took to load, or the agent to be ready.
    pub(super) loading: Duration,
}

impl Stage {
    /// Sets one up. `program` is what becomes the worker when its first argument is `worker`.
    ///
    /// # Errors
    /// Namespaces, rules or the agent failed.
    pub(super) fn new(
        program: &Path,
        way: &Way,
        services: Services,
        abilities: Abilities,
    ) -> Result<Self> {
        let node = Node::anonymous()?;
        let client = node.pod(&spec("client", CLIENT))?;
        let pod = node.pod(&spec("web-0", POD))?;
        more_addresses(&node, &client)?;
        let start = Instant::now();
        let mut manifests = None;
        let mut cgroup = None;
        let mut agent = None;
        let called = match way.kind {
            Kind::Direct => Services(0),
            Kind::Nobody => services,
            Kind::Iptables => {
                let rules = super::rules::iptables(services);
                load(node.namespace(), "iptables-restore", &[], &rules)?;
                services
            }
            Kind::Nftables => {
                let rules = super::rules::nftables(services);
                load(node.namespace(), "nft", &["-f", "-"], &rules)?;
                services
            }
            Kind::Packets(_) | Kind::Sockets => {
                let folder = Manifests::new()?;
                services.write(folder.path())?;
                if way.kind == Kind::Sockets {
                    cgroup = Some(Cgroup::new()?);
                }
                let place = cgroup.as_ref().map(|it| it.path().display().to_string());
                let mut arguments = ROOM.to_vec();
                arguments.extend(abilities.arguments(way.kind));
                if let Some(place) = &place {
                    arguments.extend(["--socket-lb", "all", "--cgroup", place]);
                }
                // Beside the measurement, where there is a processor for it.
                let aside: &[&str] = if super::worker::processors() > 1 {
                    &["taskset", "-c", "0"]
                } else {
                    &[]
                };
                agent = Some(Agent::start_patiently(
                    &node,
                    folder.path(),
                    &arguments,
                    aside,
                    PATIENCE,
                )?);
                manifests = Some(folder);
                services
            }
        };
        let loading = start.elapsed();
        let worker = Worker::start(program, &client, &pod, cgroup.as_ref(), called)?;
        Ok(Self {
            worker,
            agent,
            cgroup,
            manifests,
            client,
            pod,
            node,
            loading,
        })
    }
}

impl Stage {
    /// What the agent said, if there is one: worth reading when nothing comes through.
    pub(super) fn log(&self) -> String {
        self.agent.as_ref().map_or_else(String::new, Agent::log)
    }
}

fn spec(name: &str, address: std::net::Ipv4Addr) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        addresses: vec![address.into()],
        namespace: None,
    }
}

fn more_addresses(node: &Node, client: &Pod) -> Result<()> {
    let (mut inside, mut outside) = (String::new(), String::new());
    for number in 0..CLIENTS {
        let address = super::worker::client(number);
        writeln!(inside, "addr add {address}/32 dev eth0")?;
        writeln!(outside, "route add {address}/32 dev {}", client.link())?;
    }
    client.namespace().ip(&inside)?;
    node.namespace().ip(&outside)
}

/// Hands rules to a program.
pub(in crate::bench) fn load(
    node: &Namespace,
    program: &str,
    arguments: &[&str],
    rules: &str,
) -> Result<()> {
    let mut child = node
        .command(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program} (Debian packages iptables, nftables)"))?;
    let mut input = child.stdin.take().context("its input")?;
    let written = input.write_all(rules.as_bytes());
    drop(input);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {said}");
    written.with_context(|| format!("hand the rules to {program}"))
}
