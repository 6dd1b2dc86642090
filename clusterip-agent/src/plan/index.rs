//! Names for ids: whose counters these are.

use std::sync::Arc;

use clusterip_common::abi::{Backend, BackendId, ServiceId, ServiceKey};
use rpds::RedBlackTreeMapSync;

use super::{Layout, layout::PortKey};
use crate::model::{
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
    /// Its id: index of `SERVICE_COUNTS` and `CURSORS`.
    pub id: ServiceId,
    /// Its frontends.
    pub frontends: Vec<ServiceKey>,
    /// Its endpoints and their ids, index of `BACKEND_COUNTS`; by address, then port.
    pub backends: Vec<(BackendId, Backend)>,
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
                    id: *id,
                    frontends: placed.frontends.iter().copied().collect(),
                    backends,
                })
            })
            .collect()
    }
}
