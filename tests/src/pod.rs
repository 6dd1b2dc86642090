//! Pods: network namespaces that a routed veth pair joins to their node.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};

use crate::{
    Namespace, Node,
    client::{self, Answer},
    node, resolv,
    sys::{Feature, set_feature},
};

/// The pod's router in each family: an address of the node's end of the link, the same for all pods.
const GATEWAY_V4: &str = "169.254.1.1";
const GATEWAY_V6: &str = "fe80::1";

/// The pod's end of the link.
const DEVICE: &str = "eth0";

/// Without this a new address of IPv6 may not be used for a second.
const SYSCTLS: [(&str, &str); 2] = [
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
];

/// What a pod is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodSpec {
    /// Name of the pod, and what its server answers with.
    pub name: String,
    /// Its addresses, at most one per family.
    pub addresses: Vec<IpAddr>,
    /// Name under `ip netns`, if it shall have one.
    pub namespace: Option<String>,
}

/// A pod. Its link and namespace vanish with it.
#[derive(Debug)]
pub struct Pod {
    name: String,
    addresses: Vec<IpAddr>,
    namespace: Namespace,
    node: Namespace,
    link: String,
    resolv_conf: Option<resolv::Named>,
}

impl Pod {
    /// Makes it: called by [`Node::pod`].
    pub(crate) fn join(spec: &PodSpec, node: &Namespace, link: String) -> Result<Self> {
        let PodSpec {
            name,
            addresses,
            namespace,
        } = spec;
        let namespace = match namespace {
            Some(name) => Namespace::named(name)?,
            None => Namespace::anonymous()?,
        };
        namespace
            .run(|| node::set(&SYSCTLS))
            .with_context(|| format!("set the sysctls of pod {name}"))?;
        let pod = Self {
            name: name.clone(),
            addresses: addresses.clone(),
            namespace,
            node: node.clone(),
            link,
            resolv_conf: None,
        };
        pod.wire()
            .with_context(|| format!("join pod {name} to its node"))?;
        Ok(pod)
    }

    /// The link, the addresses and the routes of both ends.
    fn wire(&self) -> Result<()> {
        let link = &self.link;
        let inside = self.namespace.path();
        let mut lines = format!(
            "link add name {link} type veth peer name {DEVICE} netns {}\n\
             addr add {GATEWAY_V4}/32 dev {link}\n\
             addr add {GATEWAY_V6}/64 dev {link} nodad\n\
             link set dev {link} up\n",
            inside.display()
        );
        for address in &self.addresses {
            let source = Node::address(*address);
            let length = prefix(*address);
            writeln!(
                lines,
                "route add {address}/{length} dev {link} src {source}"
            )?;
        }
        self.node.ip(&lines)?;
        self.set_up()
    }

    /// Its device, addresses and routes: also those that it lost by being down.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_up(&self) -> Result<()> {
        let mut lines = format!("link set dev lo up\nlink set dev {DEVICE} up\n");
        for address in &self.addresses {
            let (gateway, option) = match address {
                IpAddr::V4(_) => (GATEWAY_V4, ""),
                IpAddr::V6(_) => (GATEWAY_V6, "nodad"),
            };
            let length = prefix(*address);
            writeln!(
                lines,
                "addr replace {address}/{length} dev {DEVICE} {option}"
            )?;
            writeln!(
                lines,
                "route replace default via {gateway} dev {DEVICE} onlink"
            )?;
        }
        self.namespace.ip(&lines)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its addresses, as its specification has them.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// A path to its network namespace that works in every process of the machine while this pod lives.
    #[must_use]
    pub fn netns(&self) -> std::path::PathBuf {
        self.namespace.path()
    }

    /// Its inside.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Name of the node's end of the link.
    #[must_use]
    pub fn link(&self) -> &str {
        &self.link
    }

    /// Does something inside: see [`Namespace::run`].
    ///
    /// # Errors
    /// What `work` says.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        self.namespace.run(work)
    }

    /// One HTTP request on a connection of its own: which pod answered.
    ///
    /// # Errors
    /// As [`client::get`].
    pub fn get(&self, to: SocketAddr) -> io::Result<Answer> {
        self.run(|| client::get(to))
    }

    /// Gives it a `/etc/resolv.conf`, for what is started inside from now on; by `ip netns exec` too, if it has a name.
    ///
    /// # Errors
    /// The kernel or the file system refused.
    pub fn set_resolv_conf(&mut self, text: &str) -> Result<()> {
        self.namespace = self.namespace.clone().with_resolv_conf(text)?;
        let name = self.namespace.name();
        let named = name.map(|name| resolv::Named::write(name, text));
        self.resolv_conf = named.transpose()?;
        Ok(())
    }

    /// Takes the checksum and segmentation offloads away from both ends of the link, or gives them back. Without
    /// them every checksum is on the wire in full and the receiver verifies it; with them a packet carries a partial
    /// one and may be 64 KiB long.
    ///
    /// # Errors
    /// The device refused.
    pub fn set_offloads(&self, on: bool) -> io::Result<()> {
        let switch = |device: &str| {
            let features = [Feature::Tso, Feature::Gso, Feature::TxChecksum];
            features
                .into_iter()
                .try_for_each(|feature| set_feature(device, feature, on))
        };
        // A socket that exists already has copied its route's features; switch before connecting.
        self.namespace.run(|| switch(DEVICE))?;
        self.node.run(|| switch(&self.link))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        // At once rather than when the kernel gets round to the namespace. It fails if the node is gone already.
        drop(self.node.ip(&format!("link delete dev {}\n", self.link)));
    }
}

const fn prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
