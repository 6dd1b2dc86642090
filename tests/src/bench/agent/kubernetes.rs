//! The real agent and an API server: the first listing, its memory, and the way from a change on the wire to the maps.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Scale,
    clock::{Cost, Summary, milliseconds},
    cluster::{Cluster, FIRST_VIP, PORT},
    process::{Heads, PATIENCE, PAUSE, room, status},
    report::Row,
};
use crate::{
    Agent, ApiServer, Node,
    apiserver::{Streaming, objects},
    manifests::NODE,
};

/// What an agent is that has listed a cluster and programmed it, by both kinds of list; then what a change takes.
pub(super) fn api_server(scale: &Scale, rows: &mut Vec<Row>) -> Result<()> {
    for (streaming, what) in [
        (Streaming::Supported, "streaming list"),
        (Streaming::Refused, "list in pages"),
    ] {
        let cluster = scale.many;
        let size = cluster.size();
        let node = Node::anonymous()?;
        let server = server(&node, &cluster)?;
        server.set_streaming(streaming);
        let agent = started(&node, &cluster, &server)?;
        let asked = server.first_request().context("the server was asked")?;
        let wall = asked.elapsed();
        let id = agent.id().context("the agent runs")?;
        let name = format!("first request until ready, {what}, {size}");
        rows.push(Row::figure(name, "ms", milliseconds(wall)));
        for (figure, word) in [("VmRSS", "resident"), ("VmHWM", "peak")] {
            let name = format!("{word} memory, {what}, {size}");
            let row = Row::figure(name, "MiB", status(id, figure)?);
            rows.push(scale.goal(row, 250.0));
        }
        let heads = Heads::open(&node)?;
        let mut costs = Vec::new();
        for round in 1..=scale.rounds * 10 {
            let before = heads.first()?;
            let slice = slice(&cluster, 0, round);
            let start = Instant::now();
            server.put(slice)?;
            while heads.first()? == before {
                ensure!(
                    start.elapsed() < PATIENCE,
                    "a changed slice has no effect\n{}",
                    agent.log()
                );
                thread::sleep(PAUSE);
            }
            let wall = start.elapsed();
            costs.push(Cost {
                wall,
                ..Cost::default()
            });
        }
        let name = format!("a slice changed until programmed, {what}, {size}");
        rows.push(scale.goal(Row::time(name, &Summary::of(&costs)), 5.0));
    }
    Ok(())
}

fn server(node: &Node, cluster: &Cluster) -> Result<ApiServer> {
    let loopback = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let server = ApiServer::start_in(node.namespace(), loopback)?;
    server.put(objects::node(NODE, "zone-a"))?;
    for index in 0..cluster.services {
        let address = address(FIRST_VIP, index)?.to_string();
        server.put(objects::service(&name(index), &address, PORT, 8080))?;
        server.put(slice(cluster, index, 0))?;
    }
    Ok(server)
}

/// The slice of a service; in odd rounds its first endpoint has another address than in even ones.
fn slice(cluster: &Cluster, index: usize, round: usize) -> serde_json::Value {
    let first = index * cluster.endpoints;
    let moved = |place: usize| {
        if place == 0 && round % 2 == 1 {
            4_000_000
        } else {
            0
        }
    };
    let addresses: Vec<String> = (0..cluster.endpoints)
        .filter_map(|place| {
            let number = first + place + moved(place);
            Some(
                address(Ipv4Addr::new(10, 128, 0, 0), number)
                    .ok()?
                    .to_string(),
            )
        })
        .collect();
    let service = name(index);
    objects::slice(&format!("{service}-abcde"), &service, &addresses, 8080)
}

fn address(first: Ipv4Addr, offset: usize) -> Result<Ipv4Addr> {
    Ok(Ipv4Addr::from_bits(
        first.to_bits() + u32::try_from(offset)?,
    ))
}

fn name(index: usize) -> String {
    format!("service-{index:05}")
}

fn started(node: &Node, cluster: &Cluster, server: &ApiServer) -> Result<Agent> {
    let file = server.kubeconfig()?;
    let [services, backends] = room(cluster);
    let more = [
        "--node-name",
        NODE,
        "--max-services",
        &services,
        "--max-backends",
        &backends,
    ];
    Agent::start_by(node, file.path(), &more)
}
