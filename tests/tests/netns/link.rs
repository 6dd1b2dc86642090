//! Two nodes, a client and a machine on one link, for addresses of the pool of load balancers.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Agent, Namespace, Node, Pod, Server, client,
    lab::{Lab, PORTS, spec},
    manifests, wait,
};

pub(crate) const POOL: &str = "203.0.113.64/28,2001:db8:113:64::/64";
/// Routes to it: it is on the link.
pub(crate) const ROUTES: &str =
    "route add 203.0.113.64/28 dev port1\nroute add 2001:db8:113:64::/64 dev port1\n";
pub(crate) const NODES: [&str; 2] = [manifests::NODE, "node-b"];
pub(crate) const BOTH: [&str; 2] = ["web-11", "web-21"];

/// Link addresses of the nodes, and of the machine that has what is not its own.
pub(crate) const MACS: [&str; 2] = ["02:00:00:00:0a:01", "02:00:00:00:0a:02"];
pub(crate) const FOREIGN: &str = "02:00:00:00:0a:09";

/// What is there before the agents are: each by a port of a bridge.
pub(crate) struct Wires {
    pub(crate) lab: Lab,
    server: Server,
    pub(crate) backend: Pod,
    pub(crate) node: Node,
    client: Namespace,
    foreign: Namespace,
    pub(crate) bridge: Namespace,
}

/// The same with an agent on each node; the near one is the laboratory's.
pub(crate) struct Link {
    pub(crate) lab: Lab,
    pub(crate) far: Agent,
    _server: Server,
    pub(crate) backend: Pod,
    _node: Node,
    pub(crate) client: Namespace,
    pub(crate) foreign: Namespace,
    _bridge: Namespace,
}

/// Joins a namespace to the bridge: 172.20.1.`number` and its like in IPv6.
fn join(bridge: &Namespace, namespace: &Namespace, device: &str, number: u8) -> Result<()> {
    bridge.ip(&format!(
        "link add name at{number} type veth peer name {device} netns {}\n\
         link set dev at{number} master br0\nlink set dev at{number} up\n",
        namespace.path().display()
    ))?;
    namespace.ip(&format!(
        "link set dev {device} address 02:00:00:00:0a:{number:02x}\n\
         addr add 172.20.1.{number}/24 dev {device}\nlink set dev {device} up\n\
         addr add fd00:c0:1::{number:x}/64 dev {device} nodad\n"
    ))
}

impl Wires {
    pub(crate) fn new() -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.backend("web", 11)?;
        let node = Node::anonymous()?;
        let backend = node.pod(&spec("web-21", 21))?;
        let server = Server::start(&backend, &PORTS)?;
        let [bridge, client, foreign] = [(); 3].map(|()| Namespace::anonymous());
        let (bridge, client, foreign) = (bridge?, client?, foreign?);
        bridge.ip("link set lo up\nlink add name br0 type bridge\nlink set dev br0 up\n")?;
        for (namespace, device, number) in [
            (lab.node.namespace(), "up0", 1),
            (node.namespace(), "up0", 2),
            (&client, "port1", 7),
            (&foreign, "port1", 9),
        ] {
            join(&bridge, namespace, device, number)?;
        }
        client.ip(&format!("link set lo up\n{ROUTES}"))?;
        foreign.ip("link set lo up\n")?;
        lab.node.namespace().ip(
            "route add 10.244.0.21/32 via 172.20.1.2\nroute add fd00:10:244::15/128 via fd00:c0:1::2\n",
        )?;
        node.namespace().ip(
            "route add 10.244.0.11/32 via 172.20.1.1\nroute add fd00:10:244::b/128 via fd00:c0:1::1\n",
        )?;
        Ok(Self {
            lab,
            server,
            backend,
            node,
            client,
            foreign,
            bridge,
        })
    }

    /// With agents that were started.
    pub(crate) fn with(self, near: Agent, far: Agent) -> Link {
        let Self {
            mut lab,
            server,
            backend,
            node,
            client,
            foreign,
            bridge,
        } = self;
        lab.agent = Some(near);
        Link {
            lab,
            far,
            _server: server,
            backend,
            _node: node,
            client,
            foreign,
            _bridge: bridge,
        }
    }
}

/// What the agent of a node is told, wherever its objects come from.
pub(crate) fn arguments(node: &str) -> Vec<&str> {
    let own = ["--node-name", node, "--uplinks", "up0"];
    let pods = ["--pod-cidr", "10.244.0.0/16,fd00:10:244::/48"];
    [&own[..], &["--load-balancer-pool", POOL], &pods].concat()
}

impl Link {
    /// The agents, as the nodes are numbered.
    pub(crate) fn agents(&self) -> Result<[&Agent; 2]> {
        let near = self.lab.agent.as_ref().context("it was started")?;
        Ok([near, &self.far])
    }

    /// A connection from the client is answered by all of these.
    pub(crate) fn is_served(&self, address: IpAddr, pods: &[&str]) -> Result<()> {
        let to = SocketAddr::new(address, 80);
        let mut last = Vec::new();
        wait::until(&format!("{to} is answered by {pods:?}"), || {
            let answers = (0..8).map(|_| self.client.run(|| client::get(to)));
            let answers: Result<Vec<_>, _> = answers.collect();
            last = answers.ok()?.into_iter().map(|it| it.pod).collect();
            last.sort();
            last.dedup();
            (last == pods).then_some(())
        })
        .with_context(|| format!("{last:?}"))
    }

    /// Whom the client takes an address for.
    pub(crate) fn neighbour(&self, address: IpAddr) -> Result<String> {
        let mut command = self.client.command("ip");
        let out = command
            .args(["neigh", "show", "to", &address.to_string()])
            .output()?;
        let text = String::from_utf8(out.stdout)?;
        let mac = text
            .split_once("lladdr ")
            .and_then(|(_, rest)| rest.split(' ').next());
        Ok(mac.unwrap_or_default().to_owned())
    }

    pub(crate) fn is_neighbour(&self, address: IpAddr, mac: &str) -> Result<()> {
        let mut last = String::new();
        wait::until(&format!("{address} is taken for {mac}"), || {
            last = self.neighbour(address).ok()?;
            (last == mac).then_some(())
        })
        .with_context(|| last)
    }
}
