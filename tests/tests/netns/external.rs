//! Clients from outside at addresses that a switch opens to them, and behind a path that takes less than its ends.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Outside, agent::STATE, client::Connection, lab, manifests, require_root, wait,
};

use crate::{
    mtu::known_mtu,
    stage::{BETWEEN, SOON, Stage, TCP_PORT, in_both_modes, node_ports},
};

/// External addresses of the service: nobody has them.
const EXTERNAL: [&str; 2] = ["203.0.113.20", "2001:db8:113::14"];
/// As the service has them.
pub(crate) const SPEC: &str = "  externalIPs: [\"203.0.113.20\", \"2001:db8:113::14\"]\n";
const BOTH: [&str; 2] = ["web-11", "web-21"];
/// The link to the other node, once it is narrow.
const NARROW: u32 = 1_300;
/// More than the first window, in segments of the full size.
const SOME: u64 = 3_000_000;

fn external(port: u16) -> [SocketAddr; 2] {
    EXTERNAL.map(|ip| SocketAddr::new(ip.parse().expect("an address"), port))
}

/// The client outside has a route to them.
pub(crate) fn lead(stage: &Stage) -> Result<()> {
    let [v4, v6] = Outside::node_addresses(1);
    let [first, second] = EXTERNAL;
    stage.outside.namespace().ip(&format!(
        "route add {first}/32 via {v4}\nroute add {second}/128 via {v6}\n"
    ))
}

/// E3
#[test]
fn e2_external_addresses_answer_where_they_are_allowed() -> Result<()> {
    require_root!();
    in_both_modes(SPEC, &["--allow-external-ips=on"], allowed)
}

fn allowed(stage: &Stage) -> Result<()> {
    lead(stage)?;
    let before = stage.sent_at_drivers();
    for (to, node) in external(80).into_iter().zip(Outside::node_addresses(1)) {
        stage.is_served(to, &BOTH, node)?;
        // E3
        let pod = stage.lab.client.get(to)?.pod;
        ensure!(BOTH.contains(&pod.as_str()), "a pod is answered by {pod}");
    }
    stage.went_by_drivers(before)
}

#[test]
fn e2_external_addresses_are_nobodys_by_default() -> Result<()> {
    require_root!();
    let stage = Stage::with(SPEC, &[])?;
    lead(&stage)?;
    for (to, node) in node_ports(TCP_PORT)
        .into_iter()
        .zip(Outside::node_addresses(1))
    {
        stage.is_served(to, &BOTH, node)?;
    }
    let flows = stage.outcome("new-flow");
    for to in external(80) {
        let open = || TcpStream::connect_timeout(&to, SOON);
        stage
            .outside
            .namespace()
            .run(open)
            .expect_err("nobody has that address");
        stage.lab.client.run(open).expect_err("for a pod neither");
    }
    ensure!(stage.outcome("new-flow") == flows, "no flow was opened");
    Ok(())
}

/// B9
#[test]
fn e1_cluster_ips_answer_outside_where_they_are_exposed() -> Result<()> {
    require_root!();
    in_both_modes("", &["--expose-cluster-ips=on"], exposed)
}

fn exposed(stage: &Stage) -> Result<()> {
    for (to, node) in lab::tcp(10).into_iter().zip(Outside::node_addresses(1)) {
        stage.is_served(to, &BOTH, node)?;
        // B9: a port that it has not is refused, an address that nobody has is dropped.
        let other = SocketAddr::new(to.ip(), to.port() + 1);
        let error = stage
            .outside
            .namespace()
            .run(|| Connection::open(other))
            .expect_err("no such port");
        ensure!(
            error.kind() == ErrorKind::ConnectionRefused,
            "{other}: {error}"
        );
    }
    for to in lab::tcp(99) {
        stage.is_dropped(to, "unallocated")?;
    }
    Ok(())
}

/// The addresses of a service towards the outside, once it has so many.
fn addresses(stage: &Stage, name: &str, count: usize) -> Result<Vec<SocketAddr>> {
    wait::until(&format!("{name} has {count} addresses"), || {
        let agent = stage.lab.agent.as_ref()?;
        let said = agent.ask(&["get", "services", name, "-o", "json"]).ok()?;
        let document: serde_json::Value = serde_json::from_str(&said.out).ok()?;
        let all = document.pointer("/services/0/externalIPs")?.as_array()?;
        let parsed = all.iter().map(|it| it.as_str()?.parse().ok());
        let all: Option<Vec<IpAddr>> = parsed.collect();
        let all = all.filter(|all| all.len() == count)?;
        Some(all.into_iter().map(|ip| SocketAddr::new(ip, 80)).collect())
    })
}

#[test]
fn g4_a_load_balancer_has_an_address_of_the_pool_and_keeps_it_through_a_crash() -> Result<()> {
    require_root!();
    let pool = "203.0.113.64/28,2001:db8:113:64::/64";
    let mut stage = Stage::with("", &["--load-balancer-pool", pool])?;
    let service = manifests::Service::new("pooled", &lab::vips(11)).tcp(80, 8080);
    let text = service
        .yaml()
        .replace("type: ClusterIP", "type: LoadBalancer")
        .replace("app: pooled", "app: web");
    stage.lab.manifests.put("service-pooled.yaml", &text)?;
    let given = addresses(&stage, "pooled", 2)?;
    for (to, node) in given.iter().zip(Outside::node_addresses(1)) {
        stage.is_served(*to, &BOTH, node)?;
    }
    stage.lab.agent()?.kill();
    stage.lab.agent()?.resume()?;
    ensure!(addresses(&stage, "pooled", 2)? == given);
    for (to, node) in given.iter().zip(Outside::node_addresses(1)) {
        stage.is_served(*to, &BOTH, node)?;
    }
    // And without what it had kept on disk: the maps say whose it is.
    stage.lab.agent()?.kill();
    let node = stage.lab.node.namespace();
    node.run(|| fs::remove_dir_all(STATE))?;
    stage.lab.agent()?.resume()?;
    ensure!(addresses(&stage, "pooled", 2)? == given);
    // Of a service that is none any more nobody has it.
    stage.lab.manifests.put(
        "service-pooled.yaml",
        &service.yaml().replace("app: pooled", "app: web"),
    )?;
    addresses(&stage, "pooled", 0)?;
    let flows = stage.outcome("new-flow");
    for to in given {
        let open = || TcpStream::connect_timeout(&to, SOON);
        let opened = stage.outside.namespace().run(open);
        opened.expect_err("nobody has that address any more");
    }
    ensure!(stage.outcome("new-flow") == flows, "no flow was opened");
    Ok(())
}

/// A connection to this pod.
fn open(stage: &Stage, to: SocketAddr, pod: &str) -> Result<Connection> {
    for _ in 0..4 {
        let mut connection = stage.outside.namespace().run(|| Connection::open(to))?;
        if connection.get()?.pod == pod {
            return Ok(connection);
        }
    }
    anyhow::bail!("{to}: {pod} has no turn")
}

/// C11
#[test]
fn d7_e2_a_client_outside_learns_the_mtu_of_the_path_for_the_nodes_address() -> Result<()> {
    require_root!();
    in_both_modes("", &[], narrow)
}

fn narrow(stage: &Stage) -> Result<()> {
    let machine = stage.outside.namespace();
    stage
        .lab
        .node
        .namespace()
        .ip(&format!("link set dev {BETWEEN} mtu {NARROW}\n"))?;
    for (to, node) in node_ports(TCP_PORT)
        .into_iter()
        .zip(Outside::node_addresses(1))
    {
        stage.is_served(to, &BOTH, node)?;
        ensure!(known_mtu(machine, node)?.is_none(), "nothing yet");
        let mut connection = open(stage, to, "web-21")?;
        connection.upload(SOME).context("an upload")?;
        let known = known_mtu(machine, node)?;
        ensure!(known == Some(NARROW), "{to}: {known:?}");
        let own: IpAddr = match to.ip() {
            IpAddr::V4(_) => "10.244.0.21".parse()?,
            IpAddr::V6(_) => "fd00:10:244::15".parse()?,
        };
        // C11: nothing is told of the backend's own address.
        ensure!(known_mtu(machine, own)?.is_none(), "{own}");
    }
    Ok(())
}
