//! Names for ids: whose counters these are.

use std::{collections::BTreeSet, sync::Arc};

use clusterip_common::{
    abi::{Backend, BackendId, Scope, ServiceId, ServiceKey},
    wire::{Addr, Be16},
};
use rpds::RedBlackTreeMapSync;

use super::{Layout, layout::PortKey};
use crate::model::{
    facts::TrafficPolicy,
    object::ObjectName,
    service::{Family, Protocol},
};

/// A balancer and its ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placement {
    /// Name of the service port.
    pub port_name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Family.
    pub family: Family,
    /// By which policy its endpoints are chosen.
    pub policy: TrafficPolicy,
    /// Its id: index of `SERVICE_COUNTS` and `CURSORS`.
    pub id: ServiceId,
    /// Its frontends.
    pub frontends: Vec<ServiceKey>,
    /// Its endpoints and their ids, index of `BACKEND_COUNTS`; by address, then port.
    pub backends: Vec<(BackendId, Backend)>,
}

impl Placement {
    /// What clients call: each address and port once, whoever calls it, but for node ports of the loopback device.
    pub fn called(&self) -> impl Iterator<Item = (Addr, Be16)> + use<> {
        let keys = self.frontends.iter();
        let called = keys.filter(|key| key.scope != Scope::LOOPBACK);
        let all: BTreeSet<(Addr, Be16)> = called.map(|key| (key.address, key.port)).collect();
        all.into_iter()
    }

    /// Its addresses that have an entry of their own.
    pub fn cluster_addresses(&self) -> impl Iterator<Item = Addr> {
        let keys = self.frontends.iter();
        keys.filter(|key| key.scope == Scope::CLUSTER)
            .map(|key| key.address)
    }
}

/// Where each service is. Cloning costs nothing.
#[derive(Clone, Default, Debug)]
pub struct Index {
    /// The balancers of each service that has one.
    pub services: RedBlackTreeMapSync<ObjectName, Arc<[Placement]>>,
}

impl Index {
    /// Takes over where a service is now.
    pub fn update(&mut self, name: &ObjectName, layout: &Layout) {
        let placements = layout.placements(name);
        if placements.is_empty() {
            self.services.remove_mut(name);
        } else {
            self.services.insert_mut(name.clone(), placements.into());
        }
    }
}

impl Layout {
    /// Where a service is.
    #[must_use]
    pub fn placements(&self, name: &ObjectName) -> Vec<Placement> {
        let ports = self.services.get(name).into_iter().flatten();
        ports
            .filter_map(|(key, id)| {
                let placed = self.balancers.get(id)?;
                let PortKey {
                    name,
                    protocol,
                    family,
                    policy,
                } = key;
                let members = placed.members.values();
                let mut backends: Vec<(BackendId, Backend)> = members
                    .filter_map(|member| {
                        let backend = self.tables().backends.get(&member.id)?;
                        Some((member.id, *backend))
                    })
                    .collect();
                // It stays for as long as the service does.
                backends.shrink_to_fit();
                Some(Placement {
                    port_name: name.clone(),
                    protocol: *protocol,
                    family: *family,
                    policy: *policy,
                    id: *id,
                    frontends: placed.frontends.iter().copied().collect(),
                    backends,
                })
            })
            .collect()
    }
}
