//! What clients outside call: two nodes, one of them with an agent, and a machine outside.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Cgroup, Node, Outside, Pod, Server, client,
    lab::{self, Lab, PORTS, spec},
    manifests,
    outside::as_a_card,
    wait,
};

/// The node's devices to the client, and to the other node.
pub(crate) const UPLINK: &str = "up0";
pub(crate) const BETWEEN: &str = "up1";
/// As the manifests have them.
pub(crate) const TCP_PORT: u16 = 30_080;
pub(crate) const UDP_PORT: u16 = 30_053;
/// Addresses of the load balancer: nobody has them.
pub(crate) const BALANCER: [&str; 2] = ["203.0.113.10", "2001:db8:113::a"];
/// Requests that reach everybody.
pub(crate) const SOME: usize = 8;
/// How long a connection that is dropped is waited for.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// Two nodes that route each other's pods, one of them with an agent, and a machine outside that knows of no pods.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) outside: Outside,
    pub(crate) server: Server,
    pub(crate) backend: Pod,
    pub(crate) far: Node,
    pub(crate) cgroup: Cgroup,
    /// Whether what is for the other node goes on at the drivers of the uplinks.
    pub(crate) at_driver: bool,
    /// Of the agent's call.
    pub(crate) arguments: Vec<String>,
}

/// The values of `--uplink-mode` that serve.
pub(crate) const MODES: [&str; 2] = ["tc", "auto"];

/// Does something on a stage of each mode.
pub(crate) fn in_both_modes(
    more: &str,
    arguments: &[&str],
    act: impl Fn(&Stage) -> Result<()>,
) -> Result<()> {
    for mode in MODES {
        let arguments = [&["--uplink-mode", mode], arguments].concat();
        let stage = Stage::with(more, &arguments)?;
        act(&stage).with_context(|| format!("--uplink-mode {mode}"))?;
    }
    Ok(())
}

impl Stage {
    /// Backends `web-11` here and `web-21` there; `more` are further lines of the service's specification.
    pub(crate) fn new(more: &str) -> Result<Self> {
        Self::with(more, &[])
    }

    /// As above, with further arguments of the agent.
    pub(crate) fn with(more: &str, arguments: &[&str]) -> Result<Self> {
        let mut lab = Lab::new()?;
        let outside = Outside::join(&lab.node, UPLINK, 1)?;
        lab.backend("web", 11)?;
        let far = Node::anonymous()?;
        let backend = far.pod(&spec("web-21", 21))?;
        let server = Server::start(&backend, &PORTS)?;
        // 172.20.9.0/24 lies between them.
        lab.node.namespace().ip(&format!(
            "link add name {BETWEEN} type veth peer name up0 netns {}\n\
             addr add 172.20.9.1/24 dev {BETWEEN}\nlink set dev {BETWEEN} up\n\
             addr add fd00:c0:9::1/64 dev {BETWEEN} nodad\n",
            far.namespace().path().display()
        ))?;
        // The way back to the client's network leads elsewhere: an answer that is not by way of this node is lost.
        far.namespace().ip(
            "addr add 172.20.9.2/24 dev up0\naddr add fd00:c0:9::2/64 dev up0 nodad\nlink set dev up0 up\n\
             route add 10.244.0.2/32 via 172.20.9.1\nroute add fd00:10:244::2/128 via fd00:c0:9::1\n\
             route add 172.20.1.1/32 via 172.20.9.1\nroute add fd00:c0:1::1/128 via fd00:c0:9::1\n",
        )?;
        lab.node.namespace().ip(
            "route add 10.244.0.21/32 via 172.20.9.2\nroute add fd00:10:244::15/128 via fd00:c0:9::2\n",
        )?;
        outside.namespace().ip(&format!(
            "route add {}/32 via {}\nroute add {}/128 via {}\n",
            BALANCER[0],
            Outside::node_addresses(1)[0],
            BALANCER[1],
            Outside::node_addresses(1)[1],
        ))?;
        if arguments.contains(&"auto") {
            outside.as_a_card()?;
            as_a_card(far.namespace(), "up0")?;
        }
        let pod = manifests::pod(&backend, "web", true).replace(manifests::NODE, "node-b");
        lab.manifests.put("pod-web-21.yaml", &pod)?;
        let cgroup = Cgroup::new()?;
        let mut stage = Self {
            lab,
            outside,
            server,
            backend,
            far,
            cgroup,
            at_driver: arguments.contains(&"auto"),
            arguments: Vec::new(),
        };
        stage.node_object()?;
        stage.service(more)?;
        let path = stage.cgroup.path().display().to_string();
        let own = [
            "--node-name",
            manifests::NODE,
            "--uplinks",
            "up*",
            "--pod-cidr",
            "10.244.0.0/16,fd00:10:244::/48",
            "--socket-lb",
            "host",
            "--cgroup",
            &path,
        ];
        let arguments = [&own[..], arguments].concat();
        stage.lab.start_with(&arguments)?;
        stage.arguments = arguments.iter().map(ToString::to_string).collect();
        stage.is_attached()?;
        Ok(stage)
    }

    /// Waits until both uplinks are served as they are to be.
    pub(crate) fn is_attached(&self) -> Result<()> {
        let wanted = if self.at_driver { "serves" } else { "none" };
        for name in [UPLINK, BETWEEN] {
            wait::until(&format!("{name} has at its driver: {wanted}"), || {
                let agent = self.lab.agent.as_ref()?;
                let said = agent.ask(&["get", "interfaces", name, "-o", "json"]).ok()?;
                let document: serde_json::Value = serde_json::from_str(&said.out).ok()?;
                let driver = document.pointer("/interfaces/0/driver")?.as_str()?;
                driver.starts_with(wanted).then_some(())
            })?;
        }
        Ok(())
    }

    /// Packets that left by a driver; by TC alone none can.
    pub(crate) fn sent_at_drivers(&self) -> u64 {
        let agent = self.lab.agent.as_ref();
        let metrics = agent.and_then(|agent| agent.metrics().ok());
        metrics.map_or(0, |metrics| metrics.forwarded("driver"))
    }

    /// What is for the other node has gone on at drivers since then, if this is a stage of drivers, and else nothing has.
    pub(crate) fn went_by_drivers(&self, before: u64) -> Result<()> {
        let after = self.sent_at_drivers();
        ensure!(
            (after > before) == self.at_driver,
            "{before} packets sent at drivers before, {after} now"
        );
        Ok(())
    }

    /// The node's own object, with the addresses towards the client.
    pub(crate) fn node_object(&self) -> Result<()> {
        let [v4, v6] = Outside::node_addresses(1);
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\nstatus:\n  addresses:\n\
             \x20   - type: InternalIP\n      address: \"{v4}\"\n    - type: InternalIP\n      address: \"{v6}\"\n",
            manifests::NODE
        );
        self.lab.manifests.put("node.yaml", &text)
    }

    pub(crate) fn service(&self, more: &str) -> Result<()> {
        let service = manifests::Service::new("web", &lab::vips(10))
            .tcp(80, 8080)
            .udp(53, 5353);
        let text = service
            .yaml()
            .replace(
                "  type: ClusterIP\n",
                &format!("  type: LoadBalancer\n{more}"),
            )
            .replace(
                "port: 80\n",
                &format!("port: 80\n      nodePort: {TCP_PORT}\n"),
            )
            .replace(
                "port: 53\n",
                &format!("port: 53\n      nodePort: {UDP_PORT}\n"),
            );
        let status = format!(
            "status:\n  loadBalancer:\n    ingress:\n    - ip: {}\n    - ip: \"{}\"\n",
            BALANCER[0], BALANCER[1]
        );
        self.lab
            .manifests
            .put("service-web.yaml", &format!("{text}{status}"))
    }

    /// Who answers by a way, and whom that one takes for its client.
    pub(crate) fn answers(
        &self,
        to: SocketAddr,
        get: impl Fn(SocketAddr) -> io::Result<client::Answer> + Sync,
    ) -> Option<(BTreeSet<String>, BTreeSet<IpAddr>)> {
        let answers: io::Result<Vec<client::Answer>> = (0..SOME)
            .map(|_| self.outside.namespace().run(|| get(to)))
            .collect();
        let answers = answers.ok()?;
        let pods = answers.iter().map(|it| it.pod.clone()).collect();
        let clients = answers.iter().map(|it| it.client.ip()).collect();
        Some((pods, clients))
    }

    /// Waits until exactly these answer a client outside by TCP, and see it under this address.
    pub(crate) fn is_served(&self, to: SocketAddr, pods: &[&str], seen_as: IpAddr) -> Result<()> {
        let mut last = None;
        let served = wait::until(
            &format!("{to} is answered by {pods:?} to {seen_as}"),
            || {
                last = self.answers(to, client::get);
                let (found, clients) = last.as_ref()?;
                (found.iter().eq(pods) && clients.iter().eq([&seen_as])).then_some(())
            },
        );
        ensure!(served.is_ok(), "{served:?}: {last:?}");
        Ok(())
    }

    /// The same by UDP, of which the answer says who it is from.
    pub(crate) fn answers_datagrams(&self, to: SocketAddr, pods: &[&str]) -> Result<()> {
        wait::until(&format!("{to} answers datagrams"), || {
            let mut found = BTreeSet::new();
            for _ in 0..SOME {
                let ask = || client::udp_from(to, "hello");
                let (answer, from) = self.outside.namespace().run(ask).ok()?;
                found.insert(answer.strip_suffix(" hello")?.to_owned());
                if from != to {
                    return None;
                }
            }
            found.iter().eq(pods).then_some(())
        })
    }

    pub(crate) fn outcome(&self, name: &str) -> u64 {
        let metrics = self
            .lab
            .agent
            .as_ref()
            .and_then(|agent| agent.metrics().ok());
        metrics.map_or(0, |metrics| metrics.outcome(name))
    }

    /// Sends SYNs until they are counted as this outcome.
    pub(crate) fn is_dropped(&self, to: SocketAddr, outcome: &str) -> Result<()> {
        let before = self.outcome(outcome);
        wait::until(&format!("{to} is dropped: {outcome}"), || {
            let open = || TcpStream::connect_timeout(&to, SOON);
            self.outside.namespace().run(open).err()?;
            (self.outcome(outcome) > before).then_some(())
        })
    }
}

pub(crate) fn balancers(port: u16) -> [SocketAddr; 2] {
    BALANCER.map(|ip| SocketAddr::new(ip.parse().expect("an address"), port))
}

pub(crate) fn node_ports(port: u16) -> [SocketAddr; 2] {
    Outside::node_addresses(1).map(|ip| SocketAddr::new(ip, port))
}
