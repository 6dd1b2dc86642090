//! A cluster of two nodes, each with its agent: what the Node objects say decides, and changes apply at once. And a node whose pods
//! are joined as another network plugin does it.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Agent, Cgroup, Node, Outside, Pod, Server,
    lab::{self, Lab, PORTS, spec},
    manifests, require_root, wait,
};

/// How many connections show who is reached: round robin reaches everybody within twice their number.
const SOME: usize = 8;
/// How long a connection that is refused without a word is waited for.
const SOON: Duration = Duration::from_millis(200);

/// A second node with a client and a backend of its own.
struct Far {
    agent: Agent,
    client: Pod,
    _server: Server,
    _backend: Pod,
    _node: Node,
}

/// Two nodes that route each other's pods. Both agents read the same manifests.
fn two_nodes() -> Result<(Lab, Far)> {
    let mut lab = Lab::new()?;
    lab.backend("web", 11)?;
    let node = Node::anonymous()?;
    let (client, backend) = (node.pod(&spec("far", 3))?, node.pod(&spec("web-21", 21))?);
    let server = Server::start(&backend, &PORTS)?;
    // 172.20.9.0/24 lies between them.
    lab.node.namespace().ip(&format!(
        "link add name up0 type veth peer name up0 netns {}\n\
         addr add 172.20.9.1/24 dev up0\nlink set dev up0 up\n\
         addr add fd00:c0:9::1/64 dev up0 nodad\n",
        node.namespace().path().display()
    ))?;
    node.namespace().ip(
        "addr add 172.20.9.2/24 dev up0\naddr add fd00:c0:9::2/64 dev up0 nodad\nlink set dev up0 up\n\
         route add 10.244.0.2/32 via 172.20.9.1\nroute add 10.244.0.11/32 via 172.20.9.1\n\
         route add fd00:10:244::2/128 via fd00:c0:9::1\nroute add fd00:10:244::b/128 via fd00:c0:9::1\n",
    )?;
    lab.node.namespace().ip(
        "route add 10.244.0.3/32 via 172.20.9.2\nroute add 10.244.0.21/32 via 172.20.9.2\n\
         route add fd00:10:244::3/128 via fd00:c0:9::2\nroute add fd00:10:244::15/128 via fd00:c0:9::2\n",
    )?;
    let far_pod = manifests::pod(&backend, "web", true).replace(manifests::NODE, "node-b");
    lab.manifests.put("pod-web-21.yaml", &far_pod)?;
    node_object(&lab, manifests::NODE, "east")?;
    node_object(&lab, "node-b", "west")?;
    service(&lab, "")?;
    lab.start()?;
    let agent = Agent::start(&node, lab.manifests.path(), &["--node-name", "node-b"])?;
    let far = Far {
        agent,
        client,
        _server: server,
        _backend: backend,
        _node: node,
    };
    Ok((lab, far))
}

fn node_object(lab: &Lab, name: &str, zone: &str) -> Result<()> {
    let text = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  labels: {{topology.kubernetes.io/zone: {zone}}}\n"
    );
    lab.manifests.put(&format!("node-{name}.yaml"), &text)
}

/// The service with one more line in its specification.
fn service(lab: &Lab, line: &str) -> Result<()> {
    let service = manifests::Service::new("web", &lab::vips(10)).tcp(80, 8080);
    let text = service.yaml().replace("spec:\n", &format!("spec:\n{line}"));
    lab.manifests.put("service-web.yaml", &text)
}

/// Waits until exactly these are reached from a pod, in both families.
fn reaches(client: &Pod, wanted: &[&str]) -> Result<()> {
    for to in lab::tcp(10) {
        let mut last = BTreeSet::new();
        let seen = wait::until("the right ones are reached", || {
            let answers = (0..SOME).map(|_| Some(client.get(to).ok()?.pod));
            last = answers.collect::<Option<BTreeSet<String>>>()?;
            last.iter().eq(wanted).then_some(())
        });
        seen.with_context(|| {
            format!(
                "{} reaches {last:?} by {to}, wanted {wanted:?}",
                client.name()
            )
        })?;
    }
    Ok(())
}

#[test]
fn a7_each_node_of_a_cluster_keeps_a_local_policy_to_its_own_pods() -> Result<()> {
    require_root!();
    let (lab, far) = two_nodes()?;
    let both = ["web-11", "web-21"];
    reaches(&lab.client, &both)?;
    reaches(&far.client, &both)?;
    service(&lab, "  internalTrafficPolicy: Local\n")?;
    reaches(&lab.client, &["web-11"])?;
    reaches(&far.client, &["web-21"])?;
    // B8: without a local endpoint its packets are dropped, and only there.
    lab.ready("web-11", false)?;
    let [to, _]: [SocketAddr; 2] = lab::tcp(10);
    wait::until("the near node drops", || {
        lab.client
            .run(|| TcpStream::connect_timeout(&to, SOON))
            .err()?;
        let metrics = lab.agent.as_ref()?.metrics().ok()?;
        (metrics.outcome("no-local-endpoint") > 0).then_some(())
    })
    .with_context(|| far.agent.log())?;
    reaches(&far.client, &["web-21"])?;
    lab.ready("web-11", true)?;
    reaches(&lab.client, &["web-11"])?;
    Ok(())
}

#[test]
fn a8_a9_a_node_that_moves_to_another_zone_reaches_what_is_near_there_at_once() -> Result<()> {
    require_root!();
    let (lab, far) = two_nodes()?;
    service(&lab, "  trafficDistribution: PreferSameZone\n")?;
    reaches(&lab.client, &["web-11"])?;
    reaches(&far.client, &["web-21"])?;
    // Nothing but a label of a Node object changes.
    let both = ["web-11", "web-21"];
    node_object(&lab, "node-b", "east")?;
    reaches(&lab.client, &both)?;
    reaches(&far.client, &both)?;
    service(&lab, "  trafficDistribution: PreferSameNode\n")?;
    reaches(&lab.client, &["web-11"])?;
    reaches(&far.client, &["web-21"])?;
    // A node without a zone has nothing near by zone: all serve. Its own pods are near all the same.
    lab.manifests.remove("node-node-b.yaml")?;
    reaches(&far.client, &["web-21"])?;
    service(&lab, "  trafficDistribution: PreferSameZone\n")?;
    reaches(&far.client, &both)
}

#[test]
fn e1_the_pod_ranges_of_a_node_are_inside_as_long_as_its_object_has_them() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let outside = Outside::join(&lab.node, "up0", 1)?;
    lab.start_with(&["--node-name", manifests::NODE, "--uplinks", "up*"])?;
    let ranges = |v4: &str, v6: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: node-b}}\n\
             spec: {{podCIDR: {v4}, podCIDRs: [{v4}, \"{v6}\"]}}\n"
        );
        lab.manifests.put("node-b.yaml", &text)
    };
    let refused = || Some(lab.agent.as_ref()?.metrics().ok()?.outcome("from-outside"));
    let reached = |to: SocketAddr| {
        let open = || TcpStream::connect_timeout(&to, SOON).map(drop);
        outside.namespace().run(open).is_ok()
    };
    for to in lab::tcp(10) {
        wait::until("the uplink refuses", || {
            let before = refused()?;
            (!reached(to) && refused()? > before).then_some(())
        })?;
    }
    ranges("172.20.1.0/24", "fd00:c0:1::/64")?;
    for to in lab::tcp(10) {
        wait::until("they are a node's pods", || reached(to).then_some(()))?;
    }
    ranges("172.20.2.0/24", "fd00:c0:2::/64")?;
    for to in lab::tcp(10) {
        wait::until("they are nobody's", || {
            let before = refused()?;
            (!reached(to) && refused()? > before).then_some(())
        })?;
    }
    Ok(())
}

/// What the DaemonSet gives a pod, and the unit of systemd a service: three capabilities and no more.
const CONFINED: [&str; 4] = [
    "setpriv",
    "--bounding-set=-all,+bpf,+perfmon,+net_admin",
    "--inh-caps=-all",
    "--no-new-privs",
];

#[test]
fn three_capabilities_are_enough_for_pods_and_for_the_nodes_own_processes() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let cgroup = Cgroup::new()?;
    let at = cgroup.path().display().to_string();
    let arguments = [
        "--node-name",
        manifests::NODE,
        "--socket-lb",
        "all",
        "--cgroup",
        &at,
    ];
    let confined = || Agent::launched(&lab.node, lab.manifests.path(), &arguments, &[], &CONFINED);
    let mut agent = confined()?;
    reaches(&lab.client, &["web-11"])?;
    let status = agent
        .id()
        .map(|id| std::fs::read_to_string(format!("/proc/{id}/status")));
    let status = status.context("it runs")??;
    let effective = status.lines().find(|line| line.starts_with("CapEff:"));
    // 12 is CAP_NET_ADMIN, 38 CAP_PERFMON, 39 CAP_BPF.
    assert_eq!(effective, Some("CapEff:\t000000c000001000"), "{status}");
    // Adopting what is there needs no more.
    agent.stop()?;
    agent.resume()?;
    reaches(&lab.client, &["web-11"])
}

/// A pod of the laboratory as the bridge plugin joins it (flannel and k3s too): the node's side of its link is a port of `cni0`,
/// and its neighbours are on the same network, so that they answer it by the bridge and not by way of the node's routes.
fn onto_bridge(node: &Node, pod: &Pod) -> Result<()> {
    let link = pod.link();
    let [v4, v6] = pod.addresses() else {
        anyhow::bail!("one address of each family");
    };
    node.namespace().ip(&format!(
        "route del {v4}/32 dev {link}\nroute del {v6}/128 dev {link}\n\
         addr flush dev {link}\nlink set dev {link} master cni0\n"
    ))?;
    pod.namespace().ip(&format!(
        "addr flush dev eth0\n\
         addr add {v4}/24 dev eth0\naddr add {v6}/64 dev eth0 nodad\n\
         route add default via 10.244.0.254\nroute replace default via fd00:10:244::fe\n"
    ))
}

#[test]
fn pods_on_a_bridge_are_served_and_reach_themselves() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in [11, 12] {
        lab.backend("web", number)?;
    }
    lab.node.namespace().ip(
        "link add cni0 type bridge\naddr add 10.244.0.254/24 dev cni0\n\
         addr add fd00:10:244::fe/64 dev cni0 nodad\nlink set dev cni0 up\n",
    )?;
    for pod in lab.pods() {
        onto_bridge(&lab.node, pod)?;
    }
    lab.start()?;
    let both = ["web-11", "web-12"];
    reaches(&lab.client, &both)?;
    // D13: a backend that gets itself has an answer as well; the reply goes back over its own port of the bridge.
    reaches(lab.pod("web-11")?, &both)?;
    // C11: the reply of a neighbour comes by the bridge, past the node's routes, and still in the service's name.
    let udp = lab::udp(10);
    for to in udp {
        let (_, from) = lab
            .client
            .run(|| clusterip_tests::client::udp_from(to, "hello"))?;
        assert_eq!(from, to);
    }
    Ok(())
}
