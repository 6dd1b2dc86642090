//! Clients from outside that are many, far away, not what they say they are, or there while something changes.

use std::{
    fmt::Write as _,
    fs, io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Load, Namespace, Outside,
    client::{self, Connection},
    load::Plan,
    require_root, wait,
};

use crate::stage::{SOON, Stage, TCP_PORT, UDP_PORT, UPLINK, balancers, in_both_modes, node_ports};

const BOTH: [&str; 2] = ["web-11", "web-21"];
/// Of one client outside, and the addresses that many of them have.
const MANY: u16 = 20_000;
const ADDRESSES: u16 = 20;

/// All ways from outside to the service's TCP port.
fn ways() -> Vec<SocketAddr> {
    node_ports(TCP_PORT)
        .into_iter()
        .chain(balancers(80))
        .collect()
}

const fn like(all: [IpAddr; 2], to: SocketAddr) -> IpAddr {
    let [v4, v6] = all;
    if to.is_ipv4() { v4 } else { v6 }
}

/// The manifest of the stage, changed.
fn rewrite(stage: &Stage, file: &str, change: impl FnOnce(String) -> String) -> Result<()> {
    let path = stage.lab.manifests.path().join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    stage.lab.manifests.put(file, &change(text))
}

#[test]
fn e1_who_comes_from_outside_with_a_pods_address_is_dropped_and_counted() -> Result<()> {
    require_root!();
    in_both_modes("", &[], pods_address)
}

fn pods_address(stage: &Stage) -> Result<()> {
    // The client pod's, and no other pod's.
    rewrite(stage, "node.yaml", |text| {
        let ranges = "spec:\n  podCIDRs: [\"10.244.0.0/29\", \"fd00:10:244::/125\"]\n";
        format!("{text}{ranges}")
    })?;
    let machine = stage.outside.namespace();
    machine.ip("addr add 10.244.0.3/32 dev lo\naddr add fd00:10:244::3/128 dev lo nodad\n")?;
    let spoofed = ["10.244.0.3".parse()?, "fd00:10:244::3".parse()?];
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        let before = stage.outcome("spoofed");
        let from = like(spoofed, to);
        wait::until(&format!("{from} to {to} is dropped"), || {
            let send = || UdpSocket::bind((from, 0))?.send_to(b"hello", to);
            machine.run(send).ok()?;
            (stage.outcome("spoofed") > before).then_some(())
        })?;
    }
    // A pod of another node may come in there, and so may anybody.
    for (to, node) in node_ports(TCP_PORT)
        .into_iter()
        .zip(Outside::node_addresses(1))
    {
        stage.is_served(to, &BOTH, node)?;
    }
    let pod = stage.lab.client.get(ways().remove(0))?.pod;
    ensure!(
        BOTH.contains(&pod.as_str()),
        "the pod itself is answered by {pod}"
    );
    Ok(())
}

#[test]
fn e5_a_load_balancer_that_proxies_is_not_served() -> Result<()> {
    require_root!();
    in_both_modes("", &[], proxied)
}

fn proxied(stage: &Stage) -> Result<()> {
    let nodes = Outside::node_addresses(1);
    for to in balancers(80) {
        stage.is_served(to, &BOTH, like(nodes, to))?;
    }
    rewrite(stage, "service-web.yaml", |text| {
        let (spec, status) = text.split_once("status:").expect("it has one");
        let proxies = status.lines().map(|line| {
            let mode = if line.contains("ip:") {
                "      ipMode: Proxy\n"
            } else {
                ""
            };
            format!("{line}\n{mode}")
        });
        format!("{spec}status:{}", proxies.collect::<String>())
    })?;
    for to in balancers(80) {
        wait::until(&format!("{to} is nobody's"), || {
            let open = || TcpStream::connect_timeout(&to, SOON);
            stage.outside.namespace().run(open).err().map(drop)
        })?;
    }
    let flows = stage.outcome("new-flow");
    for to in balancers(80) {
        let open = || TcpStream::connect_timeout(&to, SOON);
        stage
            .outside
            .namespace()
            .run(open)
            .expect_err("from outside");
        stage.lab.client.run(open).expect_err("from a pod");
    }
    ensure!(stage.outcome("new-flow") == flows, "no flow was opened");
    for to in node_ports(TCP_PORT) {
        stage.is_served(to, &BOTH, like(nodes, to))?;
    }
    Ok(())
}

#[test]
fn e8_a_port_that_a_socket_of_the_node_has_is_not_taken() -> Result<()> {
    require_root!();
    in_both_modes("", &[], held_port)
}

fn held_port(stage: &Stage) -> Result<()> {
    let (machine, node) = (stage.outside.namespace(), stage.lab.node.namespace());
    for (number, to) in ways().into_iter().enumerate() {
        let own = like(stage.outside.addresses(), to);
        let as_node = like(Outside::node_addresses(1), to);
        stage.is_served(to, &BOTH, as_node)?;
        let port = 50_000 + 2 * u16::try_from(number)?;
        let seen = |port: u16| -> Result<SocketAddr> {
            let ask = || Connection::open_from((own, port).into(), to)?.get();
            Ok(machine.run(ask)?.client)
        };
        ensure!(
            seen(port)? == (as_node, port).into(),
            "{to}: kept if it is free"
        );
        let held = node.run(|| TcpListener::bind((as_node, port + 1)))?;
        let seen = seen(port + 1)?;
        ensure!(
            seen.ip() == as_node && seen.port() != port + 1,
            "{to}: {seen}"
        );
        drop(held);
    }
    ensure!(stage.outcome("ports-exhausted") == 0);
    Ok(())
}

/// A client in a network of its own, which the stage's machine outside leads to the node: a link of this MTU between them.
fn behind_a_router(stage: &Stage, mtu: u32) -> Result<Namespace> {
    let client = Namespace::anonymous()?;
    let router = stage.outside.namespace();
    router.ip(&format!(
        "link add name lan0 mtu {mtu} type veth peer name eth0 mtu {mtu} netns {}\n\
         addr add 172.20.7.1/24 dev lan0\nlink set dev lan0 up\naddr add fd00:c0:7::1/64 dev lan0 nodad\n",
        client.path().display()
    ))?;
    client.ip(
        "link set lo up\naddr add 172.20.7.2/24 dev eth0\nlink set dev eth0 up\n\
         addr add fd00:c0:7::2/64 dev eth0 nodad\n\
         route add default via 172.20.7.1\nroute add default via fd00:c0:7::1\n",
    )?;
    let [v4, v6] = stage.outside.addresses();
    stage.lab.node.namespace().ip(&format!(
        "route add 172.20.7.0/24 via {v4}\nroute add fd00:c0:7::/64 via {v6}\n"
    ))?;
    Ok(client)
}

#[test]
fn e2_d7_a_client_behind_a_router_is_served_whatever_its_mtu() -> Result<()> {
    require_root!();
    for policy in ["Cluster", "Local"] {
        let stage = Stage::new(&format!("  externalTrafficPolicy: {policy}\n"))?;
        let client = behind_a_router(&stage, 1_300)?;
        let own = ["172.20.7.2".parse()?, "fd00:c0:7::2".parse()?];
        for to in ways() {
            let seen_as = match policy {
                "Cluster" => like(Outside::node_addresses(1), to),
                _ => like(own, to),
            };
            let answer = wait::until(&format!("{to} answers behind a router"), || {
                client.run(|| client::get(to)).ok()
            })?;
            ensure!(answer.client.ip() == seen_as, "{to}: {answer:?}");
            // The router tells the node, and the node the backend, that segments are too long.
            let mut connection = client.run(|| Connection::open(to))?;
            connection.download(1_000_000).context("a download")?;
            connection.upload(1_000_000).context("an upload")?;
        }
    }
    Ok(())
}

fn plan() -> Plan {
    Plan {
        to: ways(),
        kept: 40,
        pause: Duration::from_millis(50),
        rate: 100,
    }
}

#[test]
fn c1_e2_a_local_service_is_updated_pod_by_pod_without_a_lost_connection() -> Result<()> {
    require_root!();
    let mut stage = Stage::new("  externalTrafficPolicy: Local\n")?;
    stage.lab.backend("web", 12)?;
    let clients = stage.outside.addresses();
    let local = ["web-11", "web-12"];
    for to in ways() {
        stage.is_served(to, &local, like(clients, to))?;
    }
    let load = Load::start_in(stage.outside.namespace(), "outside", &plan())?;
    for _ in 0..2 {
        for (old, new) in [("web-11", "web-12"), ("web-12", "web-11")] {
            stage.lab.ready(old, false)?;
            for to in ways() {
                stage.is_served(to, &[new], like(clients, to))?;
            }
            load.advance(100, 50)?;
            stage.lab.ready(old, true)?;
            for to in ways() {
                stage.is_served(to, &local, like(clients, to))?;
            }
        }
    }
    load.finish()?;
    Ok(())
}

#[test]
fn f4_e2_no_request_from_outside_fails_while_the_agent_stops_and_crashes() -> Result<()> {
    require_root!();
    let mut stage = Stage::new("")?;
    for to in ways() {
        stage.is_served(to, &BOTH, like(Outside::node_addresses(1), to))?;
    }
    let load = Load::start_in(stage.outside.namespace(), "outside", &plan())?;
    for round in 0..6 {
        let agent = stage.lab.agent()?;
        if round % 2 == 0 {
            agent.stop()?;
        } else {
            agent.kill();
        }
        load.advance(100, 50)?;
        stage.lab.agent()?.resume()?;
        load.advance(100, 50)?;
    }
    load.finish()?;
    Ok(())
}

#[test]
fn e2_an_uplink_that_disappears_is_served_again_once_it_is_back() -> Result<()> {
    require_root!();
    in_both_modes("", &[], uplink_comes_back)
}

fn uplink_comes_back(stage: &Stage) -> Result<()> {
    let nodes = Outside::node_addresses(1);
    let all_are_served =
        || (ways().iter()).try_for_each(|to| stage.is_served(*to, &BOTH, like(nodes, *to)));
    all_are_served()?;
    let node = stage.lab.node.namespace();
    node.ip(&format!("link delete dev {UPLINK}\n"))?;
    for to in balancers(80) {
        let pod = stage.lab.client.get(to)?.pod;
        ensure!(BOTH.contains(&pod.as_str()), "{to}: {pod} meanwhile");
    }
    stage.outside.wire()?;
    stage.outside.namespace().ip(&format!(
        "route add default via {}\nroute add default via {}\n",
        nodes[0], nodes[1]
    ))?;
    if stage.at_driver {
        stage.outside.as_a_card()?;
    }
    stage.is_attached()?;
    all_are_served()
}

/// A datagram from an address and port, and whether its own answer came.
fn ask(from: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let socket = client::udp_at(from)?;
    let (text, mut last) = (from.to_string(), None);
    // One that found no room in a queue is sent again.
    socket.set_read_timeout(Some(SOON))?;
    for _ in 0..5 {
        match client::udp_ask_at(&socket, to, &text) {
            Ok((answer, peer)) if peer == to && answer.ends_with(&format!(" {text}")) => {
                return Ok(());
            }
            other => last = Some(other),
        }
    }
    Err(io::Error::other(format!("{from} to {to}: {last:?}")))
}

#[test]
fn e8_c6_twenty_thousand_clients_at_once_have_ports_of_their_own_at_one_backend() -> Result<()> {
    require_root!();
    let stage = Stage::new("")?;
    stage.lab.ready("web-11", false)?;
    let nodes = Outside::node_addresses(1);
    let each = MANY / ADDRESSES;
    for to in node_ports(UDP_PORT) {
        stage.is_served((to.ip(), TCP_PORT).into(), &["web-21"], like(nodes, to))?;
        let mut lines = String::new();
        let mut clients = Vec::new();
        for number in 0..ADDRESSES {
            let (ip, length, more) = match to {
                SocketAddr::V4(_) => (format!("172.20.1.{}", 100 + number), 24, ""),
                SocketAddr::V6(_) => (format!("fd00:c0:1::1:{number:x}"), 64, " nodad"),
            };
            writeln!(lines, "addr add {ip}/{length} dev port1{more}")?;
            let ip: IpAddr = ip.parse()?;
            // Two of them have the same ports each.
            let first = 40_000 + number / 2 * each;
            clients.extend((first..first + each).map(|port| SocketAddr::new(ip, port)));
        }
        stage.outside.namespace().ip(&lines)?;
        ensure!(clients.len() == usize::from(MANY));
        let (opened, refused) = (stage.outcome("new-flow"), stage.outcome("ports-exhausted"));
        let ask_all = || clients.iter().try_for_each(|from| ask(*from, to));
        stage
            .outside
            .namespace()
            .run(ask_all)
            .context("the first time")?;
        // All of these are known, and none has another one's answers.
        let new = stage.outcome("new-flow") - opened;
        ensure!(new == u64::from(MANY), "{to}: {new} flows");
        ensure!(stage.outcome("ports-exhausted") == refused);
        stage
            .outside
            .namespace()
            .run(ask_all)
            .context("the second time")?;
        let new = stage.outcome("new-flow") - opened;
        ensure!(new == u64::from(MANY), "{to}: {new} flows, the second time");
    }
    Ok(())
}
