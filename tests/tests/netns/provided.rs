//! Addresses that an agent gives load balancers in a cluster, on the uplinks' link: two nodes whose objects are on one API server.
#![expect(
    clippy::indexing_slicing,
    reason = "in JSON a field that is not there reads as null, and is made by being written"
)]

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{Agent, ApiServer, apiserver::objects, require_root, wait};
use serde_json::{Value, json};

use crate::link::{BOTH, Link, MACS, NODES, Wires, arguments};

const CLASS: &str = "clusterip.dev/pool";

fn node(number: usize, ready: &str) -> Value {
    let mut node = objects::node(NODES[number], "zone-a");
    let last = number + 1;
    node["spec"] = json!({});
    node["status"]["conditions"][0]["status"] = json!(ready);
    node["status"]["addresses"] = json!([
        {"type": "InternalIP", "address": format!("172.20.1.{last}")},
        {"type": "InternalIP", "address": format!("fd00:c0:1::{last}")},
    ]);
    node
}

/// A load balancer of both families whose endpoints are the pods of both nodes.
fn balancer(server: &ApiServer, class: Option<&str>) -> Result<()> {
    let mut service = objects::service("web", "10.96.0.11", 80, 8080);
    let spec = &mut service["spec"];
    spec["type"] = json!("LoadBalancer");
    spec["clusterIPs"] = json!(["10.96.0.11", "fd00:10:96::b"]);
    spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
    spec["ipFamilyPolicy"] = json!("RequireDualStack");
    if let Some(class) = class {
        spec["loadBalancerClass"] = json!(class);
    }
    server.put(service)?;
    for (kind, pods) in [
        ("IPv4", ["10.244.0.11", "10.244.0.21"]),
        ("IPv6", ["fd00:10:244::b", "fd00:10:244::15"]),
    ] {
        let pods = pods.map(str::to_owned);
        let mut slice = objects::slice(&format!("web-{}", kind.to_lowercase()), "web", &pods, 8080);
        slice["addressType"] = json!(kind);
        for (endpoint, node) in slice["endpoints"]
            .as_array_mut()
            .context("endpoints")?
            .iter_mut()
            .zip(NODES)
        {
            endpoint["nodeName"] = json!(node);
        }
        server.put(slice)?;
    }
    Ok(())
}

fn given(server: &ApiServer) -> Option<Vec<IpAddr>> {
    let services = server.objects("services");
    let ingress = services.first()?["status"]["loadBalancer"]["ingress"].as_array()?;
    let all: Option<Vec<IpAddr>> = ingress
        .iter()
        .map(|it| it["ip"].as_str()?.parse().ok())
        .collect();
    all.filter(|all| all.len() == 2)
}

/// Which node announces an address, as both agents say.
fn announcer(link: &Link, address: IpAddr) -> Result<usize> {
    wait::until(&format!("both agents say who announces {address}"), || {
        let said = link.agents().ok()?.map(|agent| {
            let said = agent.ask(&["get", "services", "web", "-o", "json"]).ok()?;
            let document: Value = serde_json::from_str(&said.out).ok()?;
            let all = document["services"][0]["announced"].as_array()?.clone();
            let own = all.into_iter().find(|it| it["address"] == json!(address))?;
            NODES.iter().position(|node| own["node"] == *node)
        });
        said[0].filter(|_| said[0] == said[1])
    })
}

#[test]
fn a_load_balancer_of_the_class_gets_addresses_that_a_client_on_the_link_reaches() -> Result<()> {
    require_root!();
    let wires = Wires::new()?;
    wires.bridge.ip("addr add 172.20.1.200/24 dev br0\n")?;
    let server = ApiServer::start_in(&wires.bridge, SocketAddr::from(([172, 20, 1, 200], 0)))?;
    server.put(node(0, "True"))?;
    server.put(node(1, "True"))?;
    balancer(&server, Some(CLASS))?;
    let kubeconfig = server.kubeconfig()?;
    let start = |on, node| {
        let class = ["--load-balancer-class", CLASS];
        Agent::start_by(
            on,
            kubeconfig.path(),
            &[&arguments(node), &class[..]].concat(),
        )
    };
    let near = start(&wires.lab.node, NODES[0])?;
    let far = start(&wires.node, NODES[1])?;
    let mut link = wires.with(near, far);
    let addresses = wait::until("it has addresses", || given(&server))?;
    for address in &addresses {
        link.is_served(*address, &BOTH)?;
        let node = announcer(&link, *address)?;
        link.is_neighbour(*address, MACS[node])?;
    }
    // F4: as with any address; and what was given stays.
    link.lab.agent()?.kill();
    link.far.kill();
    for address in &addresses {
        link.client.ip(&format!("neigh flush to {address}\n"))?;
        link.is_served(*address, &BOTH)?;
    }
    link.lab.agent()?.resume()?;
    link.far.resume()?;
    ensure!(given(&server).as_ref() == Some(&addresses));
    // A node that goes: the other one announces, and goes on giving.
    let address = *addresses.first().context("an address")?;
    let first = announcer(&link, address)?;
    server.put(node(first, "Unknown"))?;
    link.is_neighbour(address, MACS[1 - first])?;
    link.is_served(address, &BOTH)?;
    server.put(node(first, "True"))?;
    link.is_neighbour(address, MACS[first])?;
    let patches = server.requests();
    let patches = patches.iter().filter(|it| it.starts_with("patch")).count();
    ensure!(patches == 1, "the status was written {patches} times");
    // One of no class is nobody's here.
    server.delete("services", "default", "web");
    balancer(&server, None)?;
    wait::until("it is not served there", || {
        let agent = link.lab.agent.as_ref()?;
        let said = agent.ask(&["get", "services", "web", "-o", "json"]).ok()?;
        let document: Value = serde_json::from_str(&said.out).ok()?;
        let service = &document["services"][0];
        (service["name"] == "web" && service["announced"] == json!([])).then_some(())
    })?;
    ensure!(given(&server).is_none());
    Ok(())
}
