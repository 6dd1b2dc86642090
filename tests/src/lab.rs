//! A laboratory for one test: a node, its manifests, pods with servers, a client and the agent.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result};

use crate::{
    Agent, Node, Pod, Server,
    manifests::{self, Manifests, Service},
    pod::PodSpec,
    server::Protocol,
};

/// Ports that every backend listens on.
pub const PORTS: [(Protocol, u16); 2] = [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)];

/// All that one test needs. Taken down in order: first the agent, last the node.
#[derive(Debug)]
pub struct Lab {
    /// The agent, once it is started.
    pub agent: Option<Agent>,
    /// The servers of the backends, by pod.
    servers: BTreeMap<String, Server>,
    /// Backends, by name.
    pods: BTreeMap<String, Pod>,
    /// Where requests come from: 10.244.0.2 and its like in IPv6.
    pub client: Pod,
    /// What the agent reads.
    pub manifests: Manifests,
    /// Where all this is.
    pub node: Node,
}

impl Lab {
    /// A node and a client.
    ///
    /// # Errors
    /// Namespaces could not be made.
    pub fn new() -> Result<Self> {
        let node = Node::anonymous()?;
        let client = node.pod(&spec("client", 2))?;
        Ok(Self {
            agent: None,
            servers: BTreeMap::new(),
            pods: BTreeMap::new(),
            client,
            manifests: Manifests::new()?,
            node,
        })
    }

    /// Adds a backend `app-number` at 10.244.0.`number` and its like in IPv6, with a server and a Pod object.
    ///
    /// # Errors
    /// Namespaces, sockets or files failed.
    pub fn backend(&mut self, app: &str, number: u8) -> Result<()> {
        let name = format!("{app}-{number}");
        let pod = self.node.pod(&spec(&name, number))?;
        let server = Server::start(&pod, &PORTS)?;
        self.servers.insert(name.clone(), server);
        self.pods.insert(name.clone(), pod);
        self.ready(&name, true)
    }

    /// Writes a backend's Pod object, ready or not.
    ///
    /// # Errors
    /// There is no such backend.
    pub fn ready(&self, name: &str, ready: bool) -> Result<()> {
        let app = name.rsplit_once('-').map_or(name, |(app, _number)| app);
        let text = manifests::pod(self.pod(name)?, app, ready);
        self.manifests.put(&format!("pod-{name}.yaml"), &text)
    }

    /// A backend.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods
            .get(name)
            .with_context(|| format!("no backend {name}"))
    }

    /// All backends and the client.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().chain([&self.client])
    }

    /// Writes a service with the addresses of [`vips`].
    ///
    /// # Errors
    /// The file system refused.
    pub fn service(&self, name: &str, number: u8) -> Result<()> {
        let service = Service::new(name, &vips(number))
            .tcp(80, 8080)
            .udp(53, 5353);
        self.manifests
            .put(&format!("service-{name}.yaml"), &service.yaml())
    }

    /// Starts the agent.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&["--node-name", manifests::NODE])
    }

    /// Starts the agent with arguments of one's own.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.agent = Some(Agent::start(&self.node, self.manifests.path(), arguments)?);
        Ok(())
    }

    /// The agent.
    ///
    /// # Errors
    /// It was not started.
    pub fn agent(&mut self) -> Result<&mut Agent> {
        self.agent.as_mut().context("the agent was not started")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The test runner keeps this to itself unless the test fails; whether it will is not known yet, as a test
        // fails by returning an error.
        if let Some(agent) = &self.agent {
            match agent.metrics() {
                Ok(metrics) => eprintln!("--- counters that are not 0\n{metrics}{}", agent.log()),
                Err(error) => eprintln!("--- no counters: {error:#}\n{}", agent.log()),
            }
        }
    }
}

/// The two addresses of a service: 10.96.0.`number`, and its like in IPv6.
#[must_use]
pub fn vips(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into());
    [Ipv4Addr::new(10, 96, 0, number).into(), v6.into()]
}

/// The TCP port of a service of [`Lab::service`], in each family.
#[must_use]
pub fn tcp(number: u8) -> [SocketAddr; 2] {
    vips(number).map(|address| SocketAddr::new(address, 80))
}

/// The UDP port of a service of [`Lab::service`], in each family.
#[must_use]
pub fn udp(number: u8) -> [SocketAddr; 2] {
    vips(number).map(|address| SocketAddr::new(address, 53))
}

/// A pod at 10.244.0.`number`, and its like in IPv6.
#[must_use]
pub fn spec(name: &str, number: u8) -> PodSpec {
    let v6 = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, number.into());
    PodSpec {
        name: name.to_owned(),
        addresses: vec![Ipv4Addr::new(10, 244, 0, number).into(), v6.into()],
        namespace: None,
    }
}
