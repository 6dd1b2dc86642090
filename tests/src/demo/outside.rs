//! A client outside of the cluster, on the link of the node's uplink: it has no route to a pod or to a `ClusterIP`, and finds
//! addresses of load balancers as a machine finds its neighbours.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::stage::Stage;
use crate::{Agent, Namespace, Node, Outside, metrics::Frontend, wait};

/// The node's device to it.
const UPLINK: &str = "up0";
/// The number of their network.
const NETWORK: u8 = 1;
/// What load balancers get addresses from.
const POOL: &str = "203.0.113.0/28";

/// A way to a service port from outside.
pub(super) struct Way {
    pub(super) frontend: Frontend,
    /// What it is.
    pub(super) told: String,
}

/// The machine, named for other shells to look in if there is a prefix.
pub(super) fn join(node: &Node, prefix: Option<&str>) -> Result<Outside> {
    let machine = match prefix {
        None => Namespace::anonymous()?,
        Some(prefix) => Namespace::named(&format!("{prefix}-outside"))?,
    };
    let outside = Outside::between(node, UPLINK, NETWORK, machine)?;
    outside.namespace().ip(&format!(
        "link set lo up\nroute add {POOL} dev port{NETWORK}\n"
    ))?;
    Ok(outside)
}

/// What the agent is told of it.
pub(super) fn arguments() -> Vec<String> {
    let [node, _] = Outside::node_addresses(NETWORK);
    [
        ["--uplinks", UPLINK],
        ["--load-balancer-pool", POOL],
        ["--nodeport-addresses", &format!("{node}/32")],
    ]
    .concat()
    .into_iter()
    .map(ToOwned::to_owned)
    .collect()
}

/// Which of the frontends are for clients outside, and what they are; none where no service is for them.
pub(super) fn ways(frontends: &[Frontend], stage: &Stage) -> Result<Vec<Way>> {
    let nodes = Outside::node_addresses(NETWORK);
    let found = wait::until("the agent tells who announces which address", || {
        let services = services(stage.agent())?;
        let mut ways = Vec::new();
        for frontend in frontends {
            let ip = frontend.address.ip();
            let told = if nodes.contains(&ip) {
                "node port".to_owned()
            } else if let Some(node) = announcer(&services, ip) {
                format!("load balancer, announced by {}", node.as_str()?)
            } else {
                continue;
            };
            ways.push(Way {
                frontend: frontend.clone(),
                told,
            });
        }
        Some(ways)
    });
    found.with_context(|| stage.agent().log())
}

/// The node that announces an address, if that is one of the pool.
fn announcer(services: &[Value], ip: IpAddr) -> Option<&Value> {
    let announced = services
        .iter()
        .filter_map(|it| it.get("announced")?.as_array());
    let mut announced = announced.flatten();
    let own =
        announced.find(|it| it.get("address").and_then(Value::as_str) == Some(&ip.to_string()))?;
    own.get("node")
}

fn services(agent: &Agent) -> Option<Vec<Value>> {
    let said = agent.ask(&["get", "services", "-A", "-o", "json"]).ok()?;
    let document: Value = serde_json::from_str(&said.out).ok()?;
    document.get("services")?.as_array().cloned()
}
