//! Past the stack (`--forwarding redirect`): that packets go there, and what becomes of them when ways change under traffic.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Agent, Namespace, Pod, Server,
    client::{self, Connection},
    lab::{self, Lab, PORTS},
    manifests::{NODE, pod},
    require_root, wait,
};

use crate::{changes::under_traffic, mtu};

pub(crate) const REDIRECT: [&str; 4] = ["--node-name", NODE, "--forwarding", "redirect"];
/// How long one answer is waited for where one may be lost.
const SOON: Duration = Duration::from_millis(200);

/// Packets that went each way so far.
pub(crate) fn went(lab: &Lab, way: &str) -> Result<u64> {
    let agent = lab.agent.as_ref().context("the agent runs")?;
    Ok(agent.metrics()?.forwarded(way))
}

/// Packets that the stack of a node has forwarded, of IPv4.
fn forwarded(node: &Namespace) -> Result<u64> {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let mut rows = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    let found = pairs.find(|(name, _)| *name == "ForwDatagrams");
    Ok(found.context("ForwDatagrams")?.1.parse()?)
}

/// Two pods with the same addresses; a route leads to one of them. They are all that is behind service `web`.
struct Twins {
    lab: Lab,
    one: Pod,
    two: Pod,
    _servers: [Server; 2],
}

impl Twins {
    fn new() -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.service("web", 10)?;
        let two = lab.node.pod(&lab::spec("two", 11))?;
        let away = two.addresses().iter().map(|address| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            format!("route del {address}/{length} dev {}\n", two.link())
        });
        lab.node.namespace().ip(&away.collect::<String>())?;
        let one = lab.node.pod(&lab::spec("one", 11))?;
        let servers = [Server::start(&one, &PORTS)?, Server::start(&two, &PORTS)?];
        lab.manifests.put("pod.yaml", &pod(&one, "web", true))?;
        lab.start_with(&REDIRECT)?;
        Ok(Self {
            lab,
            one,
            two,
            _servers: servers,
        })
    }

    /// Leads the pods' addresses to one of them.
    fn lead(&self, to: &Pod) -> Result<()> {
        let routes = to.addresses().iter().map(|address| {
            let length = if address.is_ipv4() { 32 } else { 128 };
            format!("route replace {address}/{length} dev {}\n", to.link())
        });
        self.lab.node.namespace().ip(&routes.collect::<String>())
    }

    fn socket(&self, to: SocketAddr) -> Result<UdpSocket> {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let any: SocketAddr = any.parse()?;
        let socket = self.lab.client.run(|| client::udp_at(any))?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(socket)
    }
}

/// Who answers a datagram; None if nobody does soon.
fn ask(socket: &UdpSocket, to: SocketAddr, number: u32) -> Result<Option<String>> {
    let text = format!("question {number}.");
    match client::udp_ask_at(socket, to, &text) {
        Ok((answer, from)) => {
            ensure!(from == to, "C11: the answer to {to} came from {from}");
            ensure!(answer.contains(&text), "{answer:?} to {text:?}");
            Ok(answer.split_whitespace().next().map(str::to_owned))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Asks until `wanted` answers; how many questions nobody answered before that.
fn lost_until(socket: &UdpSocket, to: SocketAddr, wanted: &str) -> Result<u32> {
    let (mut lost, mut number) = (0, 0);
    wait::until(&format!("{wanted} answers at {to}"), || {
        number += 1;
        match ask(socket, to, number) {
            Ok(Some(name)) if name == wanted => Some(Ok(())),
            Ok(Some(_)) => None,
            Ok(None) => {
                lost += 1;
                None
            }
            Err(error) => Some(Err(error)),
        }
    })??;
    Ok(lost)
}

#[test]
fn d10_between_pods_of_one_node_no_packet_meets_the_stack() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start_with(&REDIRECT)?;
    // The neighbours get to know each other by the first packets.
    for to in lab::tcp(10) {
        for _ in 0..4 {
            lab.client.get(to)?;
        }
    }
    wait::until("the way is known", || {
        let before = went(&lab, "peer").ok()?;
        lab::tcp(10)
            .iter()
            .try_for_each(|to| lab.client.get(*to).map(drop))
            .ok()?;
        (went(&lab, "peer").ok()? > before).then_some(())
    })?;
    let before = (went(&lab, "peer")?, forwarded(lab.node.namespace())?);
    for to in lab::tcp(10) {
        for _ in 0..100 {
            lab.client.get(to)?;
        }
        lab.client.run(|| Connection::open(to)?.upload(1_000_000))?;
        lab.client
            .run(|| Connection::open(to)?.download(1_000_000))?;
    }
    for to in lab::udp(10) {
        for number in 0..100 {
            let text = number.to_string();
            let (_, from) = lab.client.run(|| client::udp_from(to, &text))?;
            ensure!(from == to, "C11: {from} answers for {to}");
        }
    }
    let (straight, by_stack) = (
        went(&lab, "peer")? - before.0,
        forwarded(lab.node.namespace())? - before.1,
    );
    // A connection has at least four packets each way.
    ensure!(
        straight >= 2 * (100 * 8 + 100 * 2),
        "{straight} went straight on"
    );
    ensure!(
        by_stack <= straight / 50,
        "{by_stack} were forwarded by the stack, {straight} went past it"
    );
    Ok(())
}

#[test]
fn a_route_that_is_moved_is_followed_at_once_and_without_the_agent_too() -> Result<()> {
    require_root!();
    let mut twins = Twins::new()?;
    for to in lab::udp(10) {
        let socket = twins.socket(to)?;
        for _ in 0..5 {
            for pod in [&twins.two, &twins.one] {
                twins.lead(pod)?;
                let lost = lost_until(&socket, to, pod.name())?;
                ensure!(lost == 0, "{lost} questions to {to} were lost");
            }
        }
    }
    ensure!(went(&twins.lab, "peer")? > 0, "packets went past the stack");
    twins.lab.agent()?.kill();
    for to in lab::udp(10) {
        let socket = twins.socket(to)?;
        for pod in [&twins.two, &twins.one] {
            twins.lead(pod)?;
            let lost = lost_until(&socket, to, pod.name())?;
            ensure!(lost == 0, "{lost} questions to {to} were lost");
        }
    }
    Ok(())
}

#[test]
fn a_pod_that_goes_while_its_successor_has_the_address_loses_what_is_under_way() -> Result<()> {
    require_root!();
    let twins = Twins::new()?;
    let Twins {
        lab,
        one,
        two,
        _servers,
    } = twins;
    // Second best, until the first one goes.
    let routes = two.addresses().iter().map(|address| {
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!(
            "route append {address}/{length} dev {} metric 2000\n",
            two.link()
        )
    });
    lab.node.namespace().ip(&routes.collect::<String>())?;
    let sockets = lab::udp(10).map(|to| {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = lab
            .client
            .run(|| client::udp_at(any.parse().map_err(io::Error::other)?));
        (to, socket)
    });
    let mut open = Vec::new();
    for (to, socket) in sockets {
        let socket = socket?;
        socket.set_read_timeout(Some(SOON))?;
        lost_until(&socket, to, "one")?;
        open.push((to, socket));
    }
    ensure!(went(&lab, "peer")? > 0, "packets went past the stack");
    drop(one);
    for (to, socket) in open {
        let lost = lost_until(&socket, to, "two")?;
        ensure!(lost <= 1, "{lost} questions to {to} were lost");
    }
    Ok(())
}

#[test]
fn a_neighbour_that_is_forgotten_or_changes_is_the_stacks_until_it_is_known() -> Result<()> {
    require_root!();
    let twins = Twins::new()?;
    let (node, link) = (twins.lab.node.namespace(), twins.one.link());
    for (to, address) in lab::udp(10).into_iter().zip(twins.one.addresses()) {
        let socket = twins.socket(to)?;
        lost_until(&socket, to, "one")?;
        let before = went(&twins.lab, "stack-no-neighbour")?;
        for number in 0..10 {
            node.ip(&format!("neigh del {address} dev {link}\n"))?;
            ensure!(ask(&socket, to, number)?.is_some(), "{to}: lost");
        }
        let after = went(&twins.lab, "stack-no-neighbour")?;
        ensure!(after > before, "the stack has asked for {address}");
        twins.one.namespace().ip(&format!(
            "link set dev eth0 address 02:00:00:00:77:0{}\n",
            u8::from(to.is_ipv4())
        ))?;
        node.ip(&format!("neigh flush dev {link}\n"))?;
        for number in 10..20 {
            ensure!(ask(&socket, to, number)?.is_some(), "{to}: lost");
        }
    }
    Ok(())
}

#[test]
fn f4_forwarding_is_changed_under_traffic() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start()?;
    let Lab { agent, client, .. } = &mut lab;
    let agent = agent.as_mut().context("the agent runs")?;
    let mut change = |arguments: &[&str]| -> Result<()> {
        agent.stop()?;
        agent.set_arguments(arguments);
        agent.resume()
    };
    for to in lab::tcp(10) {
        under_traffic(client, to, || {
            change(&REDIRECT)?;
            change(&["--node-name", NODE])
        })?;
        let mut kept = client.run(|| Connection::open(to))?;
        let before = client.run(|| kept.get())?;
        change(&REDIRECT)?;
        ensure!(client.run(|| kept.get())? == before, "C1: {to}");
        change(&["--node-name", NODE])?;
        ensure!(client.run(|| kept.get())? == before, "C1: {to}");
    }
    Ok(())
}

#[test]
fn d10_a_pod_of_another_node_is_sent_to_by_the_uplink() -> Result<()> {
    require_root!();
    let path = mtu::path(&[
        "--forwarding",
        "redirect",
        "--uplinks",
        "up0",
        "--pod-cidr",
        "10.244.0.0/16,fd00:10:244::/48",
    ])?;
    let lab = path.lab();
    for to in lab::tcp(10) {
        // The way is looked up by the first packets, and the neighbours are found by the stack.
        lab.client.get(to)?;
        let sent = || anyhow::Ok([went(lab, "neighbour")?, went(lab, "peer")?]);
        let (before, by_stack) = (sent()?, forwarded(lab.node.namespace())?);
        for _ in 0..20 {
            lab.client.get(to)?;
        }
        let after = sent()?;
        let [requests, replies] = [after[0] - before[0], after[1] - before[1]];
        ensure!(requests >= 40, "{requests} packets by the uplink");
        ensure!(
            replies >= 40,
            "{replies} packets from there straight to the pod"
        );
        let by_stack = forwarded(lab.node.namespace())? - by_stack;
        ensure!(by_stack == 0, "{by_stack} packets by the stack");
    }
    Ok(())
}

#[test]
fn interfaces_say_how_packets_go_on() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start_with(&REDIRECT)?;
    let said = |agent: &Agent, words: &[&str]| -> Result<String> {
        let said = agent.ask(words)?;
        ensure!(said.code == Some(0), "{words:?}: {}", said.error);
        Ok(said.out)
    };
    let agent = lab.agent()?;
    let interfaces = said(agent, &["get", "interfaces"])?;
    ensure!(
        interfaces
            .lines()
            .filter(|line| line.contains("redirect"))
            .count()
            == 2,
        "client and backend:\n{interfaces}"
    );
    let status = said(agent, &["status"])?;
    ensure!(status.contains("forwarding redirect"), "{status}");
    Ok(())
}
