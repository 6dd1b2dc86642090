//! Who may ask: the inside of the cluster, and whom the operator names. Everyone else is refused, so that the agent is no
//! open resolver.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::snapshot::Snapshot;

/// Who may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    ranges: Vec<IpNet>,
}

impl Access {
    /// Clients in these ranges, besides those that are inside whatever it is configured.
    #[must_use]
    pub const fn new(ranges: Vec<IpNet>) -> Self {
        Self { ranges }
    }

    /// Whether a client may ask: this machine, its links, nodes and pods of the cluster, and the ranges.
    #[must_use]
    pub fn allows(&self, client: IpAddr, snapshot: Option<&Snapshot>) -> bool {
        let client = client.to_canonical();
        let is_near = match client {
            IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
        };
        let is_inside = |snapshot: &Snapshot| {
            snapshot.pods_at(client).next().is_some()
                || snapshot.ranges_around(client.into()).next().is_some()
        };
        is_near
            || self.ranges.iter().any(|range| range.contains(&client))
            || snapshot.is_some_and(is_inside)
    }
}

/// Whether an answer may be sent there at all: a source that is nobody's, or everybody's, is made up.
pub(super) fn is_host(client: IpAddr) -> bool {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            !address.is_unspecified() && !address.is_multicast() && address != Ipv4Addr::BROADCAST
        }
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_multicast(),
    }
}
