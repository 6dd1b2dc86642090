//! Manifests that a test writes: a folder for the agent to watch, and the texts in it.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::{NamedTempFile, TempDir};

use crate::{Pod, server::Protocol};

/// A folder of manifests, removed when dropped.
#[derive(Debug)]
pub struct Manifests {
    folder: TempDir,
}

impl Manifests {
    /// An empty one.
    ///
    /// # Errors
    /// The file system refused.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("clusterip-manifests-")
            .tempdir();
        Ok(Self {
            folder: folder.context("make a folder for manifests")?,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file at one stroke: no reader sees half of it.
    ///
    /// # Errors
    /// The file system refused.
    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        let write = || -> io::Result<()> {
            // Beside the folder, as the agent watches what is in it.
            let mut file = NamedTempFile::new()?;
            io::Write::write_all(&mut file, text.as_bytes())?;
            let target = self.file(name);
            match file.persist(&target) {
                Ok(_file) => Ok(()),
                // The temporary folder is another file system: an ordinary write has to do.
                Err(_) => fs::write(target, text),
            }
        };
        write().with_context(|| format!("write manifest {name}"))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// It is not there.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.file(name)).with_context(|| format!("remove manifest {name}"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

/// A Service of type ClusterIP, port by port. Its pods are those with the label `app` of its name.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    addresses: Vec<IpAddr>,
    ports: Vec<(Protocol, u16, u16)>,
}

impl Service {
    /// One without ports.
    #[must_use]
    pub fn new(name: &str, addresses: &[IpAddr]) -> Self {
        Self {
            name: name.to_owned(),
            addresses: addresses.to_vec(),
            ports: Vec::new(),
        }
    }

    /// Adds a TCP port and its target.
    #[must_use]
    pub fn tcp(mut self, port: u16, target: u16) -> Self {
        self.ports.push((Protocol::Tcp, port, target));
        self
    }

    /// Adds a UDP port and its target.
    #[must_use]
    pub fn udp(mut self, port: u16, target: u16) -> Self {
        self.ports.push((Protocol::Udp, port, target));
        self
    }

    /// Adds an SCTP port and its target.
    #[must_use]
    pub fn sctp(mut self, port: u16, target: u16) -> Self {
        self.ports.push((Protocol::Sctp, port, target));
        self
    }

    /// The manifest.
    #[must_use]
    pub fn yaml(&self) -> String {
        let Self {
            name,
            addresses,
            ports,
        } = self;
        let list = |items: Vec<String>| items.concat();
        let families = match addresses.as_slice() {
            [] => String::new(),
            [first, rest @ ..] => format!(
                "  ipFamilyPolicy: {}\n  clusterIP: \"{first}\"\n  clusterIPs:\n{}  ipFamilies:\n{}",
                if rest.is_empty() {
                    "SingleStack"
                } else {
                    "RequireDualStack"
                },
                list(
                    addresses
                        .iter()
                        .map(|ip| format!("    - \"{ip}\"\n"))
                        .collect()
                ),
                list(
                    addresses
                        .iter()
                        .map(|ip| format!("    - {}\n", family(*ip)))
                        .collect()
                ),
            ),
        };
        let port = |&(protocol, port, target): &(Protocol, u16, u16)| {
            format!(
                "    - name: {}\n      protocol: {}\n      port: {port}\n      targetPort: {target}\n",
                Self::port_name(protocol, port),
                protocol.word(),
            )
        };
        let ports = list(ports.iter().map(port).collect());
        format!(
            "apiVersion: v1\n\
             kind: Service\n\
             metadata:\n  name: {name}\n\
             spec:\n  type: ClusterIP\n  selector:\n    app: {name}\n{families}  ports:\n{ports}"
        )
    }

    /// The name that its ports get.
    #[must_use]
    pub fn port_name(protocol: Protocol, port: u16) -> String {
        format!("{}-{port}", protocol.word().to_ascii_lowercase())
    }
}

impl Protocol {
    /// As Kubernetes writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

/// The Pod object of a pod of the topology, with the label `app`.
#[must_use]
pub fn pod(pod: &Pod, app: &str, ready: bool) -> String {
    let name = pod.name();
    let status = if ready { "True" } else { "False" };
    let entries = |ip: &IpAddr| format!("    - ip: \"{ip}\"\n");
    let list: Vec<_> = pod.addresses().iter().map(entries).collect();
    let addresses = pod.addresses().first().map_or_else(String::new, |first| {
        format!("  podIP: \"{first}\"\n  podIPs:\n{}", list.concat())
    });
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  name: {name}\n  labels:\n    app: {app}\n\
         spec:\n  nodeName: {NODE}\n  containers:\n    - name: main\n      image: demo\n\
         status:\n  phase: Running\n  conditions:\n    - type: Ready\n      status: \"{status}\"\n{addresses}"
    )
}

/// The Pod object of a pod of the topology, which does not say whether it is ready: `probe` is its readiness probe, as
/// a line of YAML. Commands run in its own network namespace.
#[must_use]
pub fn probed(pod: &Pod, app: &str, probe: &str) -> String {
    let name = pod.name();
    let entries = |ip: &IpAddr| format!("    - ip: \"{ip}\"\n");
    let list: Vec<_> = pod.addresses().iter().map(entries).collect();
    let list = list.concat();
    let netns = pod.netns();
    let netns = netns.display();
    format!(
        "apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n  name: {name}\n  labels:\n    app: {app}\n  annotations:\n    clusterip.dev/netns: {netns}\n\
         spec:\n  nodeName: {NODE}\n  containers:\n    - name: main\n      image: demo\n      readinessProbe: {probe}\n\
         status:\n  phase: Running\n  podIPs:\n{list}"
    )
}

const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

/// Name of the node in manifests of tests.
pub const NODE: &str = "node-a";
