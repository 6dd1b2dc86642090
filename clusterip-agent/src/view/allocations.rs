//! `get allocations`

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Clock, Selection, VERSION};
use crate::{
    model::{allocate::Assigned, node_ports::AssignedPort, object::ObjectName},
    reconcile::Published,
};

/// The document of `get allocations -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationsView {
    /// See [`VERSION`].
    pub version: u32,
    /// Addresses as numbers, then those that rest, then node ports.
    pub allocations: Vec<Allocation>,
}

/// An address or a node port, and whose it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// ClusterIP or NodePort.
    pub kind: String,
    /// The address, of a ClusterIP.
    pub address: Option<IpAddr>,
    /// The number on the nodes, of a NodePort.
    pub node_port: Option<u16>,
    /// `80/TCP`: the service port that a node port is for; empty for an address.
    pub port: String,
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// static: asked for by the service; automatic: chosen; resting: released, and not given to another yet.
    pub how: String,
    /// Since when the service has been there; 0 for what rests.
    pub age_seconds: u64,
    /// What else there is to know: not kept on disk yet, or why it rests.
    pub note: String,
}

/// Who has what.
#[must_use]
pub fn allocations(
    published: &Published,
    selection: &Selection,
    clock: Clock<'_>,
) -> AllocationsView {
    let mut addresses = Vec::new();
    let mut ports = Vec::new();
    let wanted = published.snapshot.services.iter();
    for (name, service) in wanted.filter(|(name, _)| selection.has(name)) {
        let age = clock.age(name, service.about.created);
        let held = service.about.addresses.iter();
        addresses.extend(held.map(|assigned| of_address(name, assigned, age)));
        let held = service.about.node_ports.iter();
        ports.extend(held.map(|assigned| of_port(name, *assigned, age)));
    }
    addresses.sort_by_key(|it: &Allocation| it.address);
    let resting = published.resting.iter();
    let resting = resting.filter(|(_, owner)| selection.has(owner));
    addresses.extend(resting.map(|(address, owner)| Allocation {
        how: "resting".to_owned(),
        note: "free for others when no flow to its last owner lives".to_owned(),
        ..blank("ClusterIP", owner, Some(*address))
    }));
    ports.sort_by_key(|it: &Allocation| it.node_port);
    addresses.extend(ports);
    AllocationsView {
        version: VERSION,
        allocations: addresses,
    }
}

fn of_address(name: &ObjectName, assigned: &Assigned, age_seconds: u64) -> Allocation {
    let Assigned {
        address,
        automatic,
        provisional,
    } = *assigned;
    Allocation {
        how: how(automatic).to_owned(),
        age_seconds,
        note: note(provisional).to_owned(),
        ..blank("ClusterIP", name, Some(address))
    }
}

fn of_port(name: &ObjectName, assigned: AssignedPort, age_seconds: u64) -> Allocation {
    let AssignedPort {
        key,
        node_port,
        automatic,
        provisional,
    } = assigned;
    Allocation {
        node_port: Some(node_port),
        port: format!("{}/{}", key.port, key.protocol),
        how: how(automatic).to_owned(),
        age_seconds,
        note: note(provisional).to_owned(),
        ..blank("NodePort", name, None)
    }
}

fn blank(kind: &str, name: &ObjectName, address: Option<IpAddr>) -> Allocation {
    Allocation {
        kind: kind.to_owned(),
        address,
        node_port: None,
        port: String::new(),
        namespace: name.namespace.to_string(),
        service: name.name.to_string(),
        how: String::new(),
        age_seconds: 0,
        note: String::new(),
    }
}

const fn how(automatic: bool) -> &'static str {
    if automatic { "automatic" } else { "static" }
}

const fn note(provisional: bool) -> &'static str {
    if provisional {
        "not kept on disk yet: may change at the next start"
    } else {
        ""
    }
}
