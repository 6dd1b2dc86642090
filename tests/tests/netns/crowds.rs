//! Clients from outside that are many at once, at one backend.

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Outside, Server,
    client::Answer,
    crowd::{Counters, Crowd},
    require_root,
};

use crate::stage::{Stage, TCP_PORT, node_ports};

/// Connections,
const MANY: usize = 20_000;
/// and the ports that each of two clients has for its half of them.
const PORTS: std::ops::Range<u16> = 40_000..50_000;
/// The backend that has them all.
const FAR: &str = "web-21";
/// Servers that share its ports.
const SERVERS: usize = 4;

/// E2, C6, F4: two clients have the same ports, so one connection of each two gets another one. All of them live through a crash of
/// the agent. Of the four of families and modes these are two: what a packet of each comes to is for the vectors to say.
#[test]
fn e8_f4_twenty_thousand_connections_at_once_have_ports_of_their_own_at_one_backend() -> Result<()>
{
    require_root!();
    crowd(Stage::with("", &["--uplink-mode", "tc"])?, IpAddr::is_ipv4)
}

/// The same at drivers, over IPv6.
#[test]
fn e8_f4_twenty_thousand_connections_at_once_go_on_at_drivers() -> Result<()> {
    require_root!();
    crowd(
        Stage::with("", &["--uplink-mode", "auto"])?,
        IpAddr::is_ipv6,
    )
}

fn crowd(mut stage: Stage, is_wanted: impl Fn(&IpAddr) -> bool) -> Result<()> {
    stage.lab.ready("web-11", false)?;
    let nobody = Server::start(&stage.backend, &[])?;
    drop(std::mem::replace(&mut stage.server, nobody));
    let _counters = Counters::open(&stage.backend, 8080, SERVERS)?;
    let more = ["172.20.1.3".parse()?, "fd00:c0:1::3".parse()?];
    let port = stage.outside.device();
    stage.outside.namespace().ip(&format!(
        "addr add 172.20.1.3/24 dev {port}\naddr add fd00:c0:1::3/64 dev {port} nodad\n"
    ))?;
    // Its other connections are not to have these.
    let range = || fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 65000");
    stage.outside.namespace().run(range)?;
    let own = stage.outside.addresses().into_iter().zip(more);
    let nodes = Outside::node_addresses(1);
    let all = node_ports(TCP_PORT).into_iter().zip(own).zip(nodes);
    for ((to, (one, other)), node) in all.filter(|(_, node)| is_wanted(node)) {
        stage.is_served(to, &[FAR], node)?;
        let (opened, refused) = (stage.outcome("new-flow"), stage.outcome("ports-exhausted"));
        let sent = stage.sent_at_drivers();
        let clients: Vec<SocketAddr> = [one, other]
            .into_iter()
            .flat_map(|ip| PORTS.map(move |port| SocketAddr::new(ip, port)))
            .collect();
        ensure!(clients.len() == MANY);
        let crowd = Crowd::open(stage.outside.namespace(), &clients, to)?;
        let seen = crowd.ask().context("the first time")?;
        have_ports_of_their_own(&clients, &seen, node)?;
        let new = stage.outcome("new-flow") - opened;
        ensure!(new == MANY as u64, "{to}: {new} flows");
        ensure!(stage.outcome("ports-exhausted") == refused);
        stage.went_by_drivers(sent)?;
        stage.lab.agent()?.kill();
        ensure!(crowd.ask().context("after a crash")? == seen);
        stage.lab.agent()?.resume()?;
        ensure!(crowd.ask().context("after a start")? == seen);
        ensure!(stage.outcome("flow-table-full") == 0);
    }
    Ok(())
}

/// Whether the backend sees the node alone, under as many ports as there are clients.
fn have_ports_of_their_own(clients: &[SocketAddr], seen: &[Answer], node: IpAddr) -> Result<()> {
    ensure!(seen.len() == clients.len());
    for answer in seen {
        ensure!(
            answer.pod == FAR && answer.client.ip() == node,
            "{answer:?}"
        );
    }
    let ports: BTreeSet<u16> = seen.iter().map(|answer| answer.client.port()).collect();
    ensure!(ports.len() == clients.len(), "{} ports", ports.len());
    // Of both clients that have a port, the one that came first has kept it.
    let kept = clients
        .iter()
        .zip(seen)
        .filter(|(client, answer)| client.port() == answer.client.port());
    ensure!(kept.count() == PORTS.len());
    Ok(())
}
