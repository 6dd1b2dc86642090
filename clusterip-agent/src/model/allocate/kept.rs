//! What of allocations is kept across restarts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::Allocator;
use crate::model::{
    node_ports::{KeptPorts, PortKey},
    object::ObjectName,
};

/// Who has what, as it is kept across restarts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Allocations {
    /// Addresses.
    pub addresses: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// Released addresses that only their last owner may have already.
    pub resting: BTreeMap<IpAddr, ObjectName>,
    /// Node ports.
    pub node_ports: KeptPorts,
}

/// What is different. Each entry says what is so from now on, whatever was before: to carry out a row of changes twice is the
/// same as once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// The addresses of services; empty for one that has none any more.
    pub addresses: BTreeMap<ObjectName, Vec<IpAddr>>,
    /// Who had a released address last; none if it does not rest any more.
    pub resting: BTreeMap<IpAddr, Option<ObjectName>>,
    /// The node ports of services; empty for one that has none any more.
    pub node_ports: BTreeMap<ObjectName, BTreeMap<PortKey, u16>>,
}

impl Allocations {
    /// Nobody has anything.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            addresses: BTreeMap::new(),
            resting: BTreeMap::new(),
            node_ports: KeptPorts::new(),
        }
    }

    /// Makes it what it is after changes.
    pub fn apply(&mut self, changes: Changes) {
        let Changes {
            addresses,
            resting,
            node_ports,
        } = changes;
        for (name, addresses) in addresses {
            if addresses.is_empty() {
                self.addresses.remove(&name);
            } else {
                self.addresses.insert(name, addresses);
            }
        }
        for (address, owner) in resting {
            match owner {
                Some(owner) => drop(self.resting.insert(address, owner)),
                None => drop(self.resting.remove(&address)),
            }
        }
        for (name, ports) in node_ports {
            if ports.is_empty() {
                self.node_ports.remove(&name);
            } else {
                self.node_ports.insert(name, ports);
            }
        }
    }

    /// The addresses for which `is_apart` holds, and all the rest.
    #[must_use]
    pub fn divided(self, is_apart: impl Fn(IpAddr) -> bool) -> (Self, Self) {
        let (mut apart, mut rest) = (Self::new(), Self::new());
        for (name, addresses) in self.addresses {
            let (those, others): (Vec<_>, Vec<_>) = addresses
                .into_iter()
                .partition(|address| is_apart(*address));
            for (part, addresses) in [(&mut apart, those), (&mut rest, others)] {
                if !addresses.is_empty() {
                    part.addresses.insert(name.clone(), addresses);
                }
            }
        }
        (apart.resting, rest.resting) = self
            .resting
            .into_iter()
            .partition(|(address, _)| is_apart(*address));
        rest.node_ports = self.node_ports;
        (apart, rest)
    }

    /// The first address that two services have.
    #[must_use]
    pub fn twice(&self) -> Option<IpAddr> {
        let mut seen = BTreeSet::new();
        let mut all = self.addresses.values().flatten().copied();
        all.find(|address| !seen.insert(*address))
    }
}

impl Changes {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            addresses,
            resting,
            node_ports,
        } = self;
        addresses.is_empty() && resting.is_empty() && node_ports.is_empty()
    }
}

impl Allocator {
    /// Who has addresses now.
    pub fn owners(&self) -> impl Iterator<Item = &ObjectName> {
        self.held.keys()
    }

    /// Who has this one.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&ObjectName> {
        self.owners.get(&address)
    }
}
