//! From the maps' words back to the model's: what an earlier agent left.

use std::{collections::BTreeSet, net::IpAddr};

use clusterip_common::{
    abi::{Scope, Service, ServiceKey},
    wire::Proto,
};

use super::{Tables, desired::owner_of, tables::slots_of};
use crate::model::{
    served::{Served, ServedAddresses, ServedPort},
    service::Protocol,
};

/// The addresses that the tables serve.
#[must_use]
pub fn served(tables: &Tables) -> ServedAddresses {
    let mut all = ServedAddresses::new();
    let of_cluster = tables.services.iter();
    for (key, head) in of_cluster.filter(|(key, _)| key.scope == Scope::CLUSTER) {
        let address = IpAddr::from(key.address).to_canonical();
        let served: &mut Served = all.entry(address).or_default();
        if key.is_address() {
            served.owner = owner_of(head);
        } else if let Some(port) = port(tables, key, head) {
            served.ports.push(port);
        }
    }
    all
}

fn port(tables: &Tables, key: &ServiceKey, head: &Service) -> Option<ServedPort> {
    let protocol = match key.protocol {
        Proto::TCP => Protocol::Tcp,
        Proto::UDP => Protocol::Udp,
        Proto::SCTP => Protocol::Sctp,
        _ => return None,
    };
    let ids: BTreeSet<_> = slots_of(head)
        .filter_map(|slot| tables.slots.get(&slot))
        .collect();
    let backends = ids.into_iter().filter_map(|id| tables.backends.get(id));
    let endpoints = backends
        .filter(|backend| backend.service == head.id)
        .map(|backend| {
            let address = IpAddr::from(backend.address).to_canonical();
            (address, backend.port.get())
        });
    Some(ServedPort {
        port: key.port.get(),
        protocol,
        endpoints: endpoints.collect(),
    })
}
