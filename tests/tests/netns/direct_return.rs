//! Direct server return: two nodes with agents, each with a link of its own to the client, which the backend's node answers itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Agent, Outside,
    client::{self, Connection},
    manifests, require_root, wait,
};

use crate::stage::{BALANCER, MODES, SOME, SOON, Stage, TCP_PORT, UDP_PORT, balancers, node_ports};

/// More than the first window, in segments of the full size.
const MUCH: u64 = 2_000_000;
/// Bytes of a datagram that leaves no room for what was called.
const LONG: usize = 1_300;

/// Of the agent that answers what another one forwards.
const fn far_arguments(mode: &str) -> [&str; 12] {
    [
        "--node-name",
        "node-b",
        "--uplinks",
        "up*",
        "--uplink-mode",
        mode,
        "--pod-cidr",
        "10.244.0.0/16,fd00:10:244::/48",
        "--socket-lb",
        "off",
        "--direct-server-return",
        "accept",
    ]
}

/// The stage, and an agent on its other node, which has a link to the client too.
struct Nodes {
    stage: Stage,
    far: Agent,
    _link: Outside,
}

impl Nodes {
    fn new(mode: &str) -> Result<Self> {
        let stage = Stage::with("", &["--uplink-mode", mode, "--direct-server-return", "on"])?;
        let link = Outside::between(&stage.far, "up2", 2, stage.outside.namespace().clone())?;
        let [v4, v6] = stage.outside.addresses();
        let [next4, next6] = link.addresses();
        stage.far.namespace().ip(&format!(
            "route add {v4}/32 via {next4}\nroute add {v6}/128 via {next6}\n"
        ))?;
        let near = object(
            "node-a",
            Outside::node_addresses(1),
            ["10.244.0.11/32", "fd00:10:244::b/128"],
        );
        stage.lab.manifests.put("node.yaml", &near)?;
        let own: [IpAddr; 2] = ["172.20.9.2".parse()?, "fd00:c0:9::2".parse()?];
        let far = object("node-b", own, ["10.244.0.21/32", "fd00:10:244::15/128"]);
        stage.lab.manifests.put("node-b.yaml", &far)?;
        let far = Agent::start(&stage.far, stage.lab.manifests.path(), &far_arguments(mode))?;
        Ok(Self {
            stage,
            far,
            _link: link,
        })
    }

    /// Whom each pod takes for its client.
    fn clients(&self, to: SocketAddr) -> Option<BTreeMap<String, BTreeSet<IpAddr>>> {
        let mut seen: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for _ in 0..SOME {
            let answer = self.stage.outside.namespace().run(|| client::get(to));
            let answer = answer.ok()?;
            seen.entry(answer.pod)
                .or_default()
                .insert(answer.client.ip());
        }
        Some(seen)
    }

    /// A connection that the other node's pod has.
    fn to_far(&self, to: SocketAddr) -> Result<Connection> {
        let open = || {
            let mut kept = Connection::open(to)?;
            let pod = kept.get()?.pod;
            Ok((pod == "web-21").then_some(kept))
        };
        wait::until(&format!("{to} is answered by the other node's pod"), || {
            self.stage.outside.namespace().run(open).ok().flatten()
        })
    }

    fn returned(&self) -> Result<u64> {
        Ok(self.far.metrics()?.outcome("returned"))
    }
}

fn object(name: &str, addresses: [IpAddr; 2], pods: [&str; 2]) -> String {
    let [v4, v6] = addresses;
    let [pods4, pods6] = pods;
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\nspec:\n  podCIDRs: [\"{pods4}\", \"{pods6}\"]\nstatus:\n  addresses:\n\
         \x20   - type: InternalIP\n      address: \"{v4}\"\n    - type: InternalIP\n      address: \"{v6}\"\n"
    )
}

#[test]
fn e2_a_backend_of_another_node_answers_the_client_itself_and_sees_it() -> Result<()> {
    require_root!();
    for mode in MODES {
        answers_itself(&Nodes::new(mode)?).with_context(|| format!("--uplink-mode {mode}"))?;
    }
    Ok(())
}

fn answers_itself(nodes: &Nodes) -> Result<()> {
    let stage = &nodes.stage;
    let own = stage.outside.addresses();
    let as_node = Outside::node_addresses(1);
    for ways in [node_ports(TCP_PORT), balancers(80)] {
        for (to, (own, as_node)) in ways.into_iter().zip(own.into_iter().zip(as_node)) {
            let wanted = BTreeMap::from([
                ("web-11".to_owned(), BTreeSet::from([as_node])),
                ("web-21".to_owned(), BTreeSet::from([own])),
            ]);
            let mut last = None;
            let served = wait::until(&format!("{to} is served by both nodes"), || {
                last = nodes.clients(to);
                (last.as_ref()? == &wanted).then_some(())
            });
            ensure!(served.is_ok(), "{served:?}: {last:?}");
        }
    }
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        stage.answers_datagrams(to, &["web-11", "web-21"])?;
        // D7: of a flow that begins with one that has no room for a note.
        let long = "x".repeat(LONG);
        for _ in 0..SOME {
            let ask = || client::udp_from(to, &long);
            let (_, from) = stage.outside.namespace().run(ask)?;
            ensure!(from == to, "{from} answers, {to} was asked");
        }
    }
    let before = (nodes.returned()?, stage.sent_at_drivers());
    for to in node_ports(TCP_PORT) {
        // D7, D10
        let mut kept = nodes.to_far(to)?;
        let within = stage.outside.namespace();
        within.run(|| kept.upload(MUCH))?;
        let mut kept = nodes.to_far(to)?;
        within.run(|| kept.download(MUCH))?;
    }
    ensure!(
        nodes.returned()? > before.0 + 100,
        "{} answers left past the node that was called",
        nodes.returned()? - before.0
    );
    stage.went_by_drivers(before.1)?;
    ensure!(
        nodes.far.metrics()?.outcome("forwarded") > 0,
        "flows are counted"
    );
    Ok(())
}

/// E2
#[test]
fn f4_a_client_who_is_forwarded_outlives_both_agents() -> Result<()> {
    require_root!();
    let mut nodes = Nodes::new("tc")?;
    let ways = [node_ports(TCP_PORT), balancers(80)].concat();
    let kept: Result<Vec<Connection>> = ways.iter().map(|to| nodes.to_far(*to)).collect();
    let mut kept = kept?;
    nodes.far.kill();
    nodes.stage.lab.agent()?.kill();
    let outside = nodes.stage.outside.namespace().clone();
    let talk = |kept: &mut Vec<Connection>| -> Result<()> {
        for connection in kept {
            let answer = outside.run(|| connection.get())?;
            ensure!(answer.pod == "web-21", "{} answers", answer.pod);
        }
        Ok(())
    };
    talk(&mut kept)?;
    nodes.far.resume()?;
    nodes.stage.lab.agent()?.resume()?;
    talk(&mut kept)?;
    for to in ways {
        nodes.to_far(to)?;
    }
    Ok(())
}

/// What is not known to this node is not done in its name.
#[test]
fn e1_a_client_who_was_forwarded_to_no_service_gets_no_answer() -> Result<()> {
    require_root!();
    let nodes = Nodes::new("tc")?;
    let stage = &nodes.stage;
    let balancer = balancers(80)[0];
    nodes.to_far(balancer)?;
    // The other node's agent has another idea of what there is: the service is called by no address there.
    let elsewhere = manifests::Manifests::new()?;
    let copy = |name: &str| -> Result<()> {
        let text = std::fs::read_to_string(stage.lab.manifests.path().join(name))?;
        elsewhere.put(name, &text.replace(BALANCER[0], "203.0.113.99"))
    };
    for name in [
        "node.yaml",
        "node-b.yaml",
        "pod-web-21.yaml",
        "service-web.yaml",
    ] {
        copy(name)?;
    }
    let Nodes { stage, far, _link } = nodes;
    drop(far);
    let far = Agent::start(&stage.far, elsewhere.path(), &far_arguments("tc"))?;
    wait::until("what is not known is refused", || {
        let open = || std::net::TcpStream::connect_timeout(&balancer, SOON);
        let _either = stage.outside.namespace().run(open);
        (far.metrics().ok()?.outcome("forward-refused") > 0).then_some(())
    })
}
