//! A cluster node: a network namespace that forwards between its pods, and a bpffs and a `/run` for its agent.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Mutex,
};

use anyhow::{Context as _, Result};

use crate::{Namespace, Pod, pod::PodSpec};

/// Address of the node itself, as it is a pod's neighbour.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The same for IPv6.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);

/// Routing as a node has it. `default` is for devices to come.
const SYSCTLS: [(&str, &str); 8] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
];

/// A node. Its namespaces vanish with it.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    links: Mutex<Vec<String>>,
}

impl Node {
    /// A node that only this process can see.
    ///
    /// # Errors
    /// Namespaces, sysctls or `ip` failed.
    pub fn anonymous() -> Result<Self> {
        Self::within(Namespace::anonymous()?)
    }

    /// A node that `ip netns` knows by `name`.
    ///
    /// # Errors
    /// As for [`Namespace::named`] and [`Node::anonymous`].
    pub fn named(name: &str) -> Result<Self> {
        Self::within(Namespace::named(name)?)
    }

    fn within(namespace: Namespace) -> Result<Self> {
        let namespace = namespace.with_mounts()?;
        namespace
            .run(|| set(&SYSCTLS))
            .context("set the node's sysctls")?;
        namespace.ip(&format!(
            "link set lo up\n\
             addr add {NODE_V4}/32 dev lo\n\
             addr add {NODE_V6}/128 dev lo nodad\n"
        ))?;
        Ok(Self {
            namespace,
            links: Mutex::default(),
        })
    }

    /// Where its agent runs.
    #[must_use]
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Adds a pod: reachable at once when this returns.
    ///
    /// # Errors
    /// Namespaces, sysctls or `ip` failed.
    pub fn pod(&self, spec: &PodSpec) -> Result<Pod> {
        let link = self.link_name(&spec.name);
        Pod::join(spec, &self.namespace, link)
    }

    /// A device name for the pod's link that no other has: `vethWEB1` for `web-1`. The kernel takes 15 characters.
    fn link_name(&self, pod: &str) -> String {
        let letters = pod.chars().filter(char::is_ascii_alphanumeric);
        let short: String = letters.map(|c| c.to_ascii_uppercase()).take(8).collect();
        let mut links = self
            .links
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut name = format!("veth{short}");
        let mut number = 0;
        while links.contains(&name) {
            number += 1;
            name = format!("veth{short}_{number}");
        }
        links.push(name.clone());
        name
    }

    /// Names below a folder of the bpffs that the agent uses: what is pinned. Empty if the folder is not there.
    ///
    /// # Errors
    /// The folder could not be read.
    pub fn pins(&self, folder: &Path) -> io::Result<Vec<String>> {
        self.namespace.run(|| {
            let mut names = Vec::new();
            list(folder, &mut names)?;
            names.sort();
            Ok(names)
        })
    }

    /// The node's address of the family of `like`.
    #[must_use]
    pub const fn address(like: IpAddr) -> IpAddr {
        match like {
            IpAddr::V4(_) => IpAddr::V4(NODE_V4),
            IpAddr::V6(_) => IpAddr::V6(NODE_V6),
        }
    }
}

/// Sets sysctls of the calling thread's network namespace.
pub(crate) fn set(sysctls: &[(&str, &str)]) -> io::Result<()> {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/net/{name}");
        fs::write(&path, value)
            .map_err(|error| io::Error::new(error.kind(), format!("{path} = {value}: {error}")))?;
    }
    Ok(())
}

fn list(folder: &Path, names: &mut Vec<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        names.push(entry.path().display().to_string());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), names)?;
        }
    }
    Ok(())
}
