//! What an earlier agent left in the dataplane, in the words of the model.

use std::{collections::BTreeMap, net::IpAddr};

use super::{
    allocate::place_of, cluster::Cluster, node_ports::PortKey, object::ObjectName,
    service::Protocol,
};

/// What services had in the dataplane.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Left {
    /// Their addresses.
    pub addresses: ServedAddresses,
    /// Their node ports; one may be there more than once.
    pub node_ports: Vec<ServedNodePort>,
}

/// Addresses that are served, and what is known of each.
pub type ServedAddresses = BTreeMap<IpAddr, Served>;

/// Whose address it is, as the dataplane keeps it: a hash of the service's namespace and name, or 0 if it is not known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Owner(pub u64);

impl Owner {
    /// The owner of that name.
    #[must_use]
    pub fn of(name: &ObjectName) -> Self {
        Self(place_of(&name.to_string()))
    }

    /// Whether it is known.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }
}

/// The services by the words that the dataplane has for them.
#[must_use]
pub(super) fn owners(cluster: &Cluster) -> BTreeMap<Owner, &ObjectName> {
    let names = cluster.services();
    names.map(|name| (Owner::of(name), name)).collect()
}

/// A node port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServedNodePort {
    /// Whose it is.
    pub owner: Owner,
    /// Which port of the service.
    pub key: PortKey,
    /// The number on the nodes.
    pub node_port: u16,
}

/// One address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Served {
    /// Whose it is.
    pub owner: Owner,
    /// Its ports.
    pub ports: Vec<ServedPort>,
}

/// One port of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServedPort {
    /// The service port.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where new flows go: addresses and ports.
    pub endpoints: Vec<(IpAddr, u16)>,
}
