//! D7: a path that takes less than the links at its ends is found out through a service.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use clusterip_tests::{
    Agent, Namespace, Node, Outside, Pod, Server,
    client::Connection,
    lab::{self, Lab, PORTS},
    manifests::{NODE, pod},
    pod::PodSpec,
    require_root,
};

/// More than the first window, in segments of the full size.
const SOME: u64 = 3_000_000;
/// The narrow link in the middle of the path.
const NARROW: u32 = 1_400;
/// The link to the client, once it is made narrower still.
const NARROWER: u32 = 1_300;

/// Two nodes and a router between them: `client - node - router -(narrow)- far node - backend`.
pub(crate) struct Path {
    lab: Lab,
    backend: Pod,
    _server: Server,
    _ways: [Outside; 2],
    _far: Node,
}

impl Path {
    /// The near node.
    pub(crate) const fn lab(&self) -> &Lab {
        &self.lab
    }
}

/// `arguments` are further ones of the agent.
pub(crate) fn path(arguments: &[&str]) -> Result<Path> {
    let mut lab = Lab::new()?;
    let far = Node::anonymous()?;
    let router = Namespace::anonymous()?;
    router.ip("link set lo up\n")?;
    let near_way = Outside::between(&lab.node, "up0", 1, router.clone())?;
    let far_way = Outside::between(&far, "up0", 2, router.clone())?;
    far_way.set_mtu(NARROW)?;
    // Pods of the far node.
    let spec = PodSpec {
        name: "web-far".to_owned(),
        addresses: vec!["10.244.1.11".parse()?, "fd00:10:244:1::11".parse()?],
        namespace: None,
    };
    let (near_pods, far_pods) = (
        ["10.244.0.0/24", "fd00:10:244:0::/64"],
        ["10.244.1.0/24", "fd00:10:244:1::/64"],
    );
    lead(lab.node.namespace(), far_pods, near_way.addresses())?;
    lead(far.namespace(), near_pods, far_way.addresses())?;
    lead(&router, near_pods, Outside::node_addresses(1))?;
    lead(&router, far_pods, Outside::node_addresses(2))?;
    let backend = far.pod(&spec)?;
    let server = Server::start(&backend, &PORTS)?;
    lab.service("web", 10)?;
    lab.manifests.put("pod.yaml", &pod(&backend, "web", true))?;
    lab.start_with(&[&["--node-name", NODE], arguments].concat())?;
    Ok(Path {
        lab,
        backend,
        _server: server,
        _ways: [near_way, far_way],
        _far: far,
    })
}

/// Routes of a machine to ranges of either family.
fn lead(from: &Namespace, to: [&str; 2], via: [IpAddr; 2]) -> Result<()> {
    to.iter()
        .zip(via)
        .try_for_each(|(net, via)| from.ip(&format!("route add {net} via {via}\n")))
}

/// What a machine knows of the longest packet to an address.
pub(crate) fn known_mtu(machine: &Namespace, to: IpAddr) -> Result<Option<u32>> {
    let mut ip = machine.command("ip");
    let output = ip.args(["route", "get", &to.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.contains(&to.to_string()), "ip route get {to}: {text}");
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).and_then(|mtu| mtu.parse().ok()))
}

fn upload(from: &Pod, to: SocketAddr) -> Result<()> {
    Ok(from.run(|| Connection::open(to)?.upload(SOME))?)
}

#[test]
fn d7_a_client_learns_the_mtu_of_the_path_for_the_service_address() -> Result<()> {
    require_root!();
    let path = path(&[])?;
    let Path { lab, backend, .. } = &path;
    for (vip, own) in lab::tcp(10).into_iter().zip(backend.addresses()) {
        ensure!(
            known_mtu(lab.client.namespace(), vip.ip())?.is_none(),
            "nothing yet"
        );
        upload(&lab.client, vip)?;
        ensure!(
            known_mtu(lab.client.namespace(), vip.ip())? == Some(NARROW),
            "{vip}: {:?}",
            known_mtu(lab.client.namespace(), vip.ip())
        );
        // C11: nothing is told of the backend's own address.
        ensure!(known_mtu(lab.client.namespace(), *own)?.is_none(), "{own}");
    }
    let metrics = lab.agent.as_ref().map(Agent::metrics);
    let errors = metrics
        .transpose()?
        .map_or(0, |metrics| metrics.outcome("icmp-error"));
    ensure!(errors >= 2, "{errors} errors were translated");
    Ok(())
}

#[test]
fn d7_a_backend_learns_the_mtu_of_the_path_to_its_client() -> Result<()> {
    require_root!();
    let path = path(&[])?;
    let Path { lab, backend, .. } = &path;
    lab.node.namespace().ip(&format!(
        "link set dev {} mtu {NARROWER}\n",
        lab.client.link()
    ))?;
    for (vip, client) in lab::tcp(10).into_iter().zip(lab.client.addresses()) {
        lab.client.run(|| Connection::open(vip)?.download(SOME))?;
        ensure!(
            known_mtu(backend.namespace(), *client)? == Some(NARROWER),
            "{client}: {:?}",
            known_mtu(backend.namespace(), *client)
        );
    }
    Ok(())
}
