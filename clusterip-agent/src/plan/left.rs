//! From the maps' words back to the model's: what an earlier agent left.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use clusterip_common::{
    abi::{Scope, Service, ServiceId, ServiceKey},
    wire::{Addr, Proto},
};

use super::{Tables, desired::owner_of, tables::slots_of};
use crate::model::{
    node_ports::PortKey,
    served::{Left, Owner, Served, ServedNodePort, ServedPort},
    service::Protocol,
};

/// The addresses and node ports that the tables serve. Whose an address towards the outside is, only the `ClusterIP` says that
/// leads to the same balancer: with internalTrafficPolicy Local there may be none.
#[must_use]
pub fn served(tables: &Tables) -> Left {
    let mut left = Left::default();
    let mut callers: BTreeMap<ServiceId, &ServiceKey> = BTreeMap::new();
    let of_cluster = tables.services.iter();
    for (key, head) in of_cluster.filter(|(key, _)| key.scope == Scope::CLUSTER) {
        let served: &mut Served = left.addresses.entry(canonical(key.address)).or_default();
        if key.is_address() {
            served.owner = owner_of(head);
        } else if let Some(port) = port(tables, key, head) {
            served.ports.push(port);
            callers.insert(head.id, key);
        }
    }
    let outside = tables.frontends();
    for (key, head) in outside.filter(|(key, _)| key.scope != Scope::CLUSTER) {
        let Some(caller) = callers.get(&head.id) else {
            continue;
        };
        let known = left.addresses.get(&canonical(caller.address));
        let owner = known.map_or_else(Owner::default, |known| known.owner);
        if key.scope != Scope::LOOPBACK {
            let served = left.addresses.entry(canonical(key.address));
            served.or_default().owner = owner;
        } else if let Some(protocol) = protocol(key) {
            left.node_ports.push(ServedNodePort {
                owner,
                key: PortKey {
                    port: caller.port.get(),
                    protocol,
                },
                node_port: key.port.get(),
            });
        }
    }
    left
}

fn canonical(address: Addr) -> IpAddr {
    IpAddr::from(address).to_canonical()
}

const fn protocol(key: &ServiceKey) -> Option<Protocol> {
    match key.protocol {
        Proto::TCP => Some(Protocol::Tcp),
        Proto::UDP => Some(Protocol::Udp),
        Proto::SCTP => Some(Protocol::Sctp),
        _ => None,
    }
}

fn port(tables: &Tables, key: &ServiceKey, head: &Service) -> Option<ServedPort> {
    let protocol = protocol(key)?;
    let ids: BTreeSet<_> = slots_of(head)
        .filter_map(|slot| tables.slots.get(&slot))
        .collect();
    let backends = ids.into_iter().filter_map(|id| tables.backends.get(id));
    let endpoints = backends
        .filter(|backend| backend.service == head.id)
        .map(|backend| (canonical(backend.address), backend.port.get()));
    Some(ServedPort {
        port: key.port.get(),
        protocol,
        endpoints: endpoints.collect(),
    })
}
