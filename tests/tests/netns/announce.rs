//! Addresses of the pool of load balancers on the uplinks' link: clients that have nothing but a route to the link, two nodes
//! with agents, and a machine that has an address that is not its own.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Agent, Outside, Pod, client,
    lab::{self, Lab},
    manifests, require_root, wait,
};
use serde_json::Value;

use crate::link::{BOTH, FOREIGN, Link, MACS, NODES, POOL, ROUTES, Wires, arguments};

/// Both nodes and their pods are ready, and the agents know it by manifests.
fn stage() -> Result<Link> {
    let wires = Wires::new()?;
    far_ready(&wires.lab, &wires.backend, true)?;
    ready(&wires.lab, 0, true)?;
    ready(&wires.lab, 1, true)?;
    let manifests = wires.lab.manifests.path();
    let near = Agent::start(&wires.lab.node, manifests, &arguments(NODES[0]))?;
    let far = Agent::start(&wires.node, manifests, &arguments(NODES[1]))?;
    Ok(wires.with(near, far))
}

fn far_ready(lab: &Lab, backend: &Pod, is_ready: bool) -> Result<()> {
    let pod = manifests::pod(backend, "web", is_ready).replace(manifests::NODE, NODES[1]);
    lab.manifests.put("pod-web-21.yaml", &pod)
}

fn ready(lab: &Lab, node: usize, is_ready: bool) -> Result<()> {
    let name = NODES.get(node).context("one of two nodes")?;
    let last = node + 1;
    let status = if is_ready { "True" } else { "Unknown" };
    let text = format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\nstatus:\n  conditions:\n\
         \x20   - type: Ready\n      status: \"{status}\"\n  addresses:\n\
         \x20   - type: InternalIP\n      address: 172.20.1.{last}\n\
         \x20   - type: InternalIP\n      address: \"fd00:c0:1::{last}\"\n"
    );
    lab.manifests.put(&format!("node-{name}.yaml"), &text)
}

/// A service `pooled` of the pods `web`, with more lines in its specification.
fn service(lab: &Lab, more: &str) -> Result<()> {
    let service = manifests::Service::new("pooled", &lab::vips(11)).tcp(80, 8080);
    let text = service
        .yaml()
        .replace("type: ClusterIP", "type: LoadBalancer")
        .replace("app: pooled", "app: web")
        .replace("spec:\n", &format!("spec:\n{more}"));
    lab.manifests.put("service-pooled.yaml", &text)
}

/// The service as an agent shows it.
fn shown(agent: &Agent) -> Option<Value> {
    let said = agent
        .ask(&["get", "services", "pooled", "-o", "json"])
        .ok()?;
    let document: Value = serde_json::from_str(&said.out).ok()?;
    document.pointer("/services/0").cloned()
}

/// The addresses of the service, and the number of the node that announces each.
fn announced(agent: &Agent) -> Option<Vec<(IpAddr, usize)>> {
    let service = shown(agent)?;
    let all = service.get("announced")?.as_array()?.iter().map(|it| {
        let address = it.get("address")?.as_str()?.parse().ok()?;
        let node = it.get("node")?.as_str()?;
        Some((address, NODES.iter().position(|name| *name == node)?))
    });
    let all: Vec<_> = all.collect::<Option<_>>()?;
    (all.len() == 2).then_some(all)
}

/// What both agents say, once it is the same.
fn agreed(link: &Link) -> Result<Vec<(IpAddr, usize)>> {
    let [near, far] = link.agents()?;
    wait::until("both agents say the same", || {
        let said = announced(near)?;
        (Some(&said) == announced(far).as_ref()).then_some(said)
    })
}

#[test]
fn one_of_two_nodes_announces_an_address_and_the_other_one_when_that_is_not_ready() -> Result<()> {
    require_root!();
    let link = stage()?;
    service(&link.lab, "")?;
    for (address, node) in agreed(&link)? {
        link.is_served(address, &BOTH)?;
        link.is_neighbour(address, MACS[node])?;
        let other = 1 - node;
        ready(&link.lab, node, false)?;
        // Nobody sends anything to it: the client is told.
        link.is_neighbour(address, MACS[other])?;
        link.is_served(address, &BOTH)?;
        ready(&link.lab, node, true)?;
        link.is_neighbour(address, MACS[node])?;
        link.is_served(address, &BOTH)?;
    }
    let answered = |agent: &Agent| Ok::<_, anyhow::Error>(agent.metrics()?.outcome("announced"));
    let before = [answered(link.agents()?[0])?, answered(link.agents()?[1])?];
    for (address, node) in agreed(&link)? {
        link.client.ip(&format!("neigh flush to {address}\n"))?;
        link.is_served(address, &BOTH)?;
        let other = 1 - node;
        let now = answered(link.agents()?[other])?;
        let of_other = agreed(&link)?
            .iter()
            .filter(|(_, node)| *node == other)
            .count();
        ensure!(
            of_other > 0 || now == before[other],
            "node {other} answered for {address}"
        );
    }
    let all = agreed(&link)?;
    for (node, agent) in link.agents()?.into_iter().enumerate() {
        let own = all.iter().filter(|(_, by)| *by == node).count();
        wait::until(&format!("node {node} counts {own} addresses"), || {
            let metrics = agent.metrics().ok()?;
            let mut gauge = metrics.named("clusterip_announced_addresses");
            (gauge.next()?.value.to_string() == own.to_string()).then_some(())
        })?;
    }
    Ok(())
}

#[test]
fn f4_neighbours_are_answered_while_no_agent_runs() -> Result<()> {
    require_root!();
    let mut link = stage()?;
    service(&link.lab, "")?;
    let all = agreed(&link)?;
    for (address, _) in &all {
        link.is_served(*address, &BOTH)?;
    }
    link.lab.agent()?.kill();
    link.far.kill();
    for (address, node) in &all {
        link.client.ip(&format!("neigh flush to {address}\n"))?;
        link.is_served(*address, &BOTH)?;
        link.is_neighbour(*address, MACS[*node])?;
    }
    link.lab.agent()?.resume()?;
    link.far.resume()?;
    ensure!(agreed(&link)? == all, "nothing has moved");
    for (address, _) in all {
        link.client.ip(&format!("neigh flush to {address}\n"))?;
        link.is_served(address, &BOTH)?;
    }
    Ok(())
}

#[test]
fn a7_a_local_policy_is_announced_where_its_endpoints_are_ready() -> Result<()> {
    require_root!();
    let link = stage()?;
    service(&link.lab, "  externalTrafficPolicy: Local\n")?;
    let moves = |node: usize| {
        wait::until(&format!("node {node} announces"), || {
            let all = agreed(&link).ok()?;
            all.iter().all(|(_, it)| *it == node).then_some(all)
        })
    };
    link.lab.ready("web-11", false)?;
    for (address, _) in moves(1)? {
        link.is_served(address, &BOTH[1..])?;
        link.is_neighbour(address, MACS[1])?;
    }
    link.lab.ready("web-11", true)?;
    far_ready(&link.lab, &link.backend, false)?;
    for (address, _) in moves(0)? {
        link.is_neighbour(address, MACS[0])?;
        link.is_served(address, &BOTH[..1])?;
    }
    Ok(())
}

#[test]
fn an_address_that_somebody_else_has_is_reported_and_announced_when_it_is_free() -> Result<()> {
    require_root!();
    let link = stage()?;
    for (address, prefix, family) in [
        ("203.0.113.70", 32, "IPv4"),
        ("2001:db8:113:64::70", 128, "IPv6"),
    ] {
        let lease = |verb: &str| {
            let change = format!("addr {verb} {address}/{prefix} dev port1");
            let nodad = if verb == "add" && family == "IPv6" {
                " nodad"
            } else {
                ""
            };
            link.foreign.ip(&format!("{change}{nodad}\n"))
        };
        let is_reported = |wanted: bool| {
            wait::until(&format!("{address}: conflict {wanted}"), || {
                let mut told = false;
                for agent in link.agents().ok()? {
                    let problems = shown(agent)?.get("problems")?.to_string();
                    told |= problems.contains(address) && problems.contains(FOREIGN);
                }
                (told == wanted).then_some(())
            })
        };
        lease("add")?;
        let vip = lab::vips(11)[usize::from(family == "IPv6")];
        let service = manifests::Service::new("pooled", &[vip]).tcp(80, 8080);
        let text = service
            .yaml()
            .replace("type: ClusterIP", "type: LoadBalancer")
            .replace("app: pooled", "app: web")
            .replace(
                "spec:\n",
                &format!("spec:\n  loadBalancerIP: \"{address}\"\n"),
            );
        link.lab.manifests.put("service-pooled.yaml", &text)?;
        is_reported(true)?;
        let ip: IpAddr = address.parse()?;
        let to = SocketAddr::new(ip, 80);
        let open = || std::net::TcpStream::connect_timeout(&to, Duration::from_secs(2));
        let refused = link.client.run(open).expect_err("nothing listens there");
        ensure!(
            refused.kind() == std::io::ErrorKind::ConnectionRefused,
            "{refused}"
        );
        link.is_neighbour(ip, FOREIGN)?;
        lease("del")?;
        is_reported(false)?;
        link.is_served(ip, &BOTH)?;
        ensure!(MACS.contains(&link.neighbour(ip)?.as_str()));
        if family == "IPv4" {
            // Somebody takes it later on, and asks for a neighbour by it.
            lease("add")?;
            let ask = || UdpSocket::bind((ip, 0))?.send_to(b"?", "172.20.1.77:9");
            link.foreign.run(ask)?;
            is_reported(true)?;
            lease("del")?;
            is_reported(false)?;
            link.is_served(ip, &BOTH)?;
        }
        // Another one of that name would be a change of this one, whose addresses stay.
        link.lab.manifests.remove("service-pooled.yaml")?;
        for agent in link.agents()? {
            wait::until("the service is gone", || {
                shown(agent).is_none().then_some(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_node_alone_announces_all_and_again_on_an_uplink_that_comes_back() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let outside = Outside::join(&lab.node, "up0", 1)?;
    outside.namespace().ip(ROUTES)?;
    lab.backend("web", 11)?;
    service(&lab, "")?;
    lab.start_with(&[
        "--node-name",
        manifests::NODE,
        "--uplinks",
        "up*",
        "--load-balancer-pool",
        POOL,
    ])?;
    let agent = lab.agent.as_ref().context("it was started")?;
    let addresses = wait::until("there are two addresses", || announced(agent))?;
    let is_served = || -> Result<()> {
        for (address, _) in &addresses {
            let to = SocketAddr::new(*address, 80);
            wait::until(&format!("{to} answers"), || {
                outside.namespace().run(|| client::get(to)).ok()
            })?;
        }
        Ok(())
    };
    is_served()?;
    lab.node.namespace().ip("link delete dev up0\n")?;
    outside.wire()?;
    outside.namespace().ip(ROUTES)?;
    is_served()
}
