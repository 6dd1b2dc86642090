//! What is not the node: machines that a veth pair joins to it. The node's end is an uplink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};

use crate::{
    Namespace, Node, node,
    sys::{Feature, set_feature},
};

/// The machine's end of the link to a node; it may have one to several.
fn port(number: u8) -> String {
    format!("port{number}")
}

/// A machine sends by its link at once, and hands on what is not for itself.
const SYSCTLS: [(&str, &str); 5] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
];

/// A machine beside a node, which reaches everything by way of the node.
#[derive(Debug)]
pub struct Outside {
    namespace: Namespace,
    node: Namespace,
    link: String,
    number: u8,
}

impl Outside {
    /// A machine joined to a node by a device `link` of the node, in a network of its own: 172.20.`number`.0/24 and its like
    /// in IPv6, where the node is 1 and the machine 2.
    ///
    /// # Errors
    /// Namespaces, sysctls or `ip` failed.
    pub fn join(node: &Node, link: &str, number: u8) -> Result<Self> {
        let outside = Self::between(node, link, number, Namespace::anonymous()?)?;
        outside.namespace.ip("link set lo up\n")?;
        let [v4, v6] = Self::node_addresses(number);
        outside.namespace.ip(&format!(
            "route add default via {v4}\nroute add default via {v6}\n"
        ))?;
        Ok(outside)
    }

    /// As [`Outside::join`], for a machine that there is already: a router between two nodes. It gets no routes.
    ///
    /// # Errors
    /// As for [`Outside::join`].
    pub fn between(node: &Node, link: &str, number: u8, machine: Namespace) -> Result<Self> {
        machine
            .run(|| node::set(&SYSCTLS))
            .with_context(|| format!("set the sysctls of the machine at {link}"))?;
        let outside = Self {
            namespace: machine,
            node: node.namespace().clone(),
            link: link.to_owned(),
            number,
        };
        outside.wire()?;
        Ok(outside)
    }

    /// Joins it again after the node's device was deleted.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn wire(&self) -> Result<()> {
        let Self {
            namespace,
            node,
            link,
            number,
        } = self;
        let port = port(*number);
        let there = namespace.path();
        let [v4, v6] = Self::node_addresses(*number);
        node.ip(&format!(
            "link add name {link} type veth peer name {port} netns {}\n\
             addr add {v4}/24 dev {link}\n\
             addr add {v6}/64 dev {link} nodad\n\
             link set dev {link} up\n",
            there.display()
        ))?;
        let [v4, v6] = self.addresses();
        namespace.ip(&format!(
            "addr add {v4}/24 dev {port}\n\
             addr add {v6}/64 dev {port} nodad\n\
             link set dev {port} up\n"
        ))
    }

    /// The node's addresses in network `number`.
    #[must_use]
    pub fn node_addresses(number: u8) -> [IpAddr; 2] {
        addresses(number, 1)
    }

    /// Its own addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        addresses(self.number, 2)
    }

    /// Where it is.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The node's device to it.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Sets how long a packet on the link may be.
    ///
    /// # Errors
    /// `ip` failed.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        let set = |device: &str| format!("link set dev {device} mtu {mtu}\n");
        self.node.ip(&set(&self.link))?;
        self.namespace.ip(&set(&port(self.number)))
    }

    /// The machine's end is as a card on a wire is: see [`as_a_card`].
    ///
    /// # Errors
    /// The device refused.
    pub fn as_a_card(&self) -> std::io::Result<()> {
        as_a_card(&self.namespace, &port(self.number))
    }

    /// Whether what the machine sends has checksums that are only begun.
    ///
    /// # Errors
    /// The device refused.
    pub fn set_checksums(&self, begun: bool) -> std::io::Result<()> {
        let device = port(self.number);
        let switch = || set_feature(&device, Feature::TxChecksum, begun);
        self.namespace.run(switch)
    }

    /// Whether the machine's end takes frames that a program at the driver of the other end sends.
    ///
    /// # Errors
    /// The device refused.
    pub fn set_receive_offload(&self, on: bool) -> std::io::Result<()> {
        let device = port(self.number);
        self.namespace
            .run(|| set_feature(&device, Feature::Gro, on))
    }

    /// The machine's device.
    #[must_use]
    pub fn device(&self) -> String {
        port(self.number)
    }

    /// A Node object of this name with its addresses.
    #[must_use]
    pub fn node_yaml(&self, name: &str) -> String {
        let entries = self
            .addresses()
            .map(|ip| format!("    - type: InternalIP\n      address: \"{ip}\"\n"));
        format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\nstatus:\n  addresses:\n{}",
            entries.concat()
        )
    }
}

/// A veth does as a card on a wire does: what leaves it has whole checksums, and it takes frames that a program at the driver of
/// its other end sends.
///
/// # Errors
/// The device refused.
pub fn as_a_card(machine: &Namespace, device: &str) -> std::io::Result<()> {
    machine.run(|| {
        set_feature(device, Feature::TxChecksum, false)?;
        set_feature(device, Feature::Gro, true)
    })
}

impl Drop for Outside {
    fn drop(&mut self) {
        // At once rather than when the kernel gets round to the namespace. It fails if the node is gone already.
        drop(self.node.ip(&format!("link delete dev {}\n", self.link)));
    }
}

fn addresses(number: u8, host: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0xc0, number.into(), 0, 0, 0, 0, host.into());
    [Ipv4Addr::new(172, 20, number, host).into(), v6.into()]
}
