//! What the demo plays on: the node, a pod per Pod object, their servers and the agent.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    outside::{self, Way},
    screen::Screen,
};
use crate::{
    Agent, Namespace, Node, Outside, Pod, Server, client,
    metrics::{Frontend, Metrics},
    node::NODE_V4,
    objects::{self, ContainerPort, PodObject},
    pod::PodSpec,
    resolv,
    server::Protocol,
    wait,
};

/// Name of the node: the Pod objects of the examples run there.
const NODE: &str = "demo";
/// The domain of names, as it is by default.
const DOMAIN: &str = "cluster.local";
/// The agent's own resolver: namespace and name.
const RESOLVER: &str = "kube-system/kube-dns";
/// The client's addresses where the manifests have no Pod object without ports.
const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 244, 255, 250)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 0xfffa)),
];

/// How a port is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Http,
    Lines,
    Udp,
}

/// Everything that runs. Fields are dropped in order: the agent first, the node last.
#[derive(Debug)]
pub(super) struct Stage {
    agent: Agent,
    _servers: Vec<Server>,
    pub(super) client: Pod,
    _pods: Vec<Pod>,
    objects: Vec<PodObject>,
    outside: Outside,
    node: Node,
}

impl Stage {
    pub(super) fn build(options: &Options, screen: &mut Screen) -> Result<Self> {
        // An absolute path: the agent starts elsewhere.
        let folder = &options.manifests;
        let folder = folder
            .canonicalize()
            .with_context(|| format!("find {}", folder.display()))?;
        let objects = screen.step("manifests", || {
            let (objects, problems) = objects::pods(&folder)?;
            ensure!(!objects.is_empty(), "no Pod object in {}", folder.display());
            let count = objects.len();
            let mut told = format!("{count} Pod objects in {}", options.manifests.display());
            // The agent goes on with the good objects, and so does the demo.
            for problem in problems {
                told += "\n            ";
                told += &problem.to_string();
            }
            Ok((objects, told))
        })?;
        // Nobody looks in from another shell at a demo that ends by itself.
        let prefix = (!options.once).then_some(options.prefix.as_str());
        let node = screen.step("node", || {
            let node = match prefix {
                None => Node::anonymous()?,
                Some(prefix) => Node::named(&format!("{prefix}-node"))?,
            };
            Ok((
                node,
                "a namespace that forwards between its pods".to_owned(),
            ))
        })?;
        let (mut client, mut pods) = screen.step("pods", || Self::pods(&node, &objects, prefix))?;
        let outside = screen.step("outside", || {
            let told = "a client on the link of the node's uplink";
            Ok((outside::join(&node, prefix)?, told.to_owned()))
        })?;
        let servers = screen.step("servers", || Self::servers(&pods, &objects))?;
        let agent = screen.step("program", || {
            let program = crate::agent::binary()?;
            let name = program.file_name().unwrap_or_default();
            Ok((program, format!("{} is up to date", name.display())))
        });
        agent?;
        let agent = screen.step("agent", || {
            let listen = format!("{NODE_V4}:53");
            let outside = outside::arguments();
            let outside = outside.iter().map(String::as_str);
            let arguments = ["--node-name", NODE, "--dns-listen", &listen];
            let arguments: Vec<&str> = arguments.into_iter().chain(outside).collect();
            let agent = Agent::start(&node, &folder, &arguments)?;
            let told = agent
                .id()
                .map_or_else(String::new, |id| format!("ready, process {id}"));
            Ok((agent, told))
        })?;
        screen.step("names", || {
            let resolver = Self::resolver(&agent)?;
            for pod in pods.iter_mut().chain([&mut client]) {
                let name = pod.name().split_once('/');
                let namespace = name.map_or("default", |(namespace, _)| namespace);
                let conf = resolv::conf(&[resolver], namespace, DOMAIN);
                pod.set_resolv_conf(&conf)?;
            }
            let told = format!("resolv.conf of each pod names {RESOLVER} at {resolver}");
            Ok(((), told))
        })?;
        Ok(Self {
            agent,
            _servers: servers,
            client,
            _pods: pods,
            objects,
            outside,
            node,
        })
    }

    fn pods(
        node: &Node,
        objects: &[PodObject],
        prefix: Option<&str>,
    ) -> Result<((Pod, Vec<Pod>), String)> {
        let mut client = None;
        let mut pods = Vec::new();
        for object in objects.iter().filter(|object| !object.addresses.is_empty()) {
            let pod = node.pod(&spec(&object.name, &object.addresses, prefix))?;
            // The first one that serves nothing asks the others.
            if object.ports.is_empty() && client.is_none() {
                client = Some(pod);
            } else {
                pods.push(pod);
            }
        }
        let told = format!("{} namespaces, each joined to the node", pods.len() + 1);
        let client = match client {
            Some(client) => client,
            None => node.pod(&spec("client", &CLIENT, prefix))?,
        };
        Ok(((client, pods), told))
    }

    fn servers(pods: &[Pod], objects: &[PodObject]) -> Result<(Vec<Server>, String)> {
        let mut servers = Vec::new();
        for pod in pods {
            let object = objects.iter().find(|object| object.name == pod.name());
            let ports = object.map_or(&[][..], |object| &object.ports);
            let ports: Vec<_> = ports
                .iter()
                .map(|port| (port.protocol, port.number))
                .collect();
            servers.push(Server::start(pod, &ports)?);
        }
        let ports: usize = objects.iter().map(|object| object.ports.len()).sum();
        let told = format!("{} servers on {ports} ports", servers.len());
        Ok((servers, told))
    }

    /// Where pods ask for names.
    fn resolver(agent: &Agent) -> Result<IpAddr> {
        let found = wait::until("the agent's resolver is a service", || {
            let frontends = agent.metrics().ok()?.frontends();
            let own = frontends.into_iter().find(is_resolver);
            own.map(|frontend| frontend.address.ip())
        });
        found.with_context(|| agent.log())
    }

    pub(super) const fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Where the client outside is.
    pub(super) const fn outside(&self) -> &Namespace {
        self.outside.namespace()
    }

    /// `clusterip top` in the node, on this terminal.
    pub(super) fn top(&self) -> Result<std::process::Command> {
        let mut command = self.node.namespace().command(crate::agent::binary()?);
        command.arg("top");
        Ok(command)
    }

    /// Counters and addresses as the agent tells them.
    pub(super) fn metrics(&self) -> Result<Metrics> {
        self.agent.metrics()
    }

    /// The service ports but those of the resolver, as soon as the agent tells any.
    pub(super) fn frontends(&self) -> Result<Vec<Frontend>> {
        let found = wait::until("the agent tells the addresses of the services", || {
            let mut frontends = self.metrics().ok()?.frontends();
            frontends.retain(|frontend| !is_resolver(frontend));
            (!frontends.is_empty()).then_some(frontends)
        });
        found.with_context(|| self.agent.log())
    }

    /// The pod behind a backend's address.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&PodObject> {
        self.objects
            .iter()
            .find(|object| object.addresses.contains(&address))
    }

    /// How to speak to a service port: as its pods do.
    pub(super) fn dialect(
        &self,
        frontend: &Frontend,
        backends: &BTreeMap<SocketAddr, u64>,
    ) -> Dialect {
        let port = backends.keys().find_map(|backend| {
            let ports = &self.pod_at(backend.ip())?.ports;
            ports.iter().find(|port| port.number == backend.port())
        });
        match port {
            _ if frontend.port.protocol == "UDP" => Dialect::Udp,
            Some(port) => Dialect::of(port),
            None => Dialect::Http,
        }
    }

    /// What to type in another shell.
    pub(super) fn commands(&self, frontends: &[(Frontend, Dialect)], ways: &[Way]) -> Vec<String> {
        let Some(inside) = self.client.namespace().name() else {
            return Vec::new();
        };
        let mut commands = Vec::new();
        for (frontend, dialect) in frontends {
            let (name, port) = (short_name(frontend), frontend.address.port());
            let shown = match dialect {
                Dialect::Http if port == 80 => format!("http://{name}/"),
                Dialect::Http => format!("http://{name}:{port}/"),
                Dialect::Lines => {
                    commands.push(format!(
                        "printf 'PING\\nQUIT\\n' | ip netns exec {inside} curl -s telnet://{name}:{port}"
                    ));
                    continue;
                }
                Dialect::Udp => continue,
            };
            commands.push(format!("ip netns exec {inside} curl -s {shown}"));
        }
        if let Some(outside) = self.outside().name() {
            commands.extend(ways.iter().map(|way| {
                format!(
                    "ip netns exec {outside} curl -s http://{}/",
                    way.frontend.address
                )
            }));
        }
        if let Some((frontend, _)) = frontends.first() {
            let name = full_name(frontend);
            commands.push(format!("ip netns exec {inside} dig +noall +answer {name}"));
        }
        if let (Some(id), Some(_name)) = (self.agent.id(), self.node.namespace().name()) {
            // Unlike `ip netns exec`, this shows the node's own bpffs.
            commands.push(format!(
                "nsenter -t {id} -n -m curl -s 127.0.0.1:10249/metrics"
            ));
        }
        commands
    }
}

impl Dialect {
    fn of(port: &ContainerPort) -> Self {
        let database = matches!(
            port.name.as_str(),
            "sql" | "db" | "database" | "postgres" | "mysql"
        );
        match port.protocol {
            Protocol::Udp => Self::Udp,
            Protocol::Tcp if database || port.number == 5432 => Self::Lines,
            Protocol::Tcp | Protocol::Sctp => Self::Http,
        }
    }

    /// One request on a flow of its own, from the namespace of the calling thread: the pod that answered. UDP sockets
    /// stay in `open`: a port that is used again would be the same flow again.
    pub(super) fn request(self, to: SocketAddr, open: &mut Vec<UdpSocket>) -> io::Result<String> {
        match self {
            Self::Http => client::get(to).map(|answer| answer.pod),
            Self::Lines => {
                let answer = client::ask(to, "PING")?;
                let pod = answer.strip_suffix(" PONG").map(ToOwned::to_owned);
                pod.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, answer))
            }
            Self::Udp => {
                let flow = client::udp_flow(to)?;
                let pod = client::udp_ask(&flow, "PING");
                open.push(flow);
                pod
            }
        }
    }

    /// What is sent, for the reader.
    pub(super) const fn told(self) -> &'static str {
        match self {
            Self::Http => "GET /",
            Self::Lines => "PING",
            Self::Udp => "datagram",
        }
    }
}

fn spec(name: &str, addresses: &[IpAddr], prefix: Option<&str>) -> PodSpec {
    PodSpec {
        name: name.to_owned(),
        addresses: addresses.to_vec(),
        namespace: prefix.map(|prefix| format!("{prefix}-{}", name.replace('/', "-"))),
    }
}

fn is_resolver(frontend: &Frontend) -> bool {
    frontend.port.service == RESOLVER
}

/// `web.default.svc.cluster.local`
pub(super) fn full_name(frontend: &Frontend) -> String {
    let service = frontend.port.service.split_once('/');
    let (namespace, name) = service.unwrap_or(("default", &frontend.port.service));
    format!("{name}.{namespace}.svc.{DOMAIN}")
}

/// What is enough of it in the client's namespace.
fn short_name(frontend: &Frontend) -> String {
    match frontend.port.service.split_once('/') {
        Some(("default", name)) => name.to_owned(),
        Some((namespace, name)) => format!("{name}.{namespace}"),
        None => frontend.port.service.clone(),
    }
}

/// The address behind the name of a service, as the pod of the calling thread finds it: in the family of the frontend.
pub(super) fn find(frontend: &Frontend) -> io::Result<SocketAddr> {
    let name = full_name(frontend);
    let (is_v4, port) = (frontend.address.is_ipv4(), frontend.address.port());
    let mut found = (name.as_str(), port).to_socket_addrs()?;
    let found = found.find(|address| address.is_ipv4() == is_v4);
    found.ok_or_else(|| io::Error::other(format!("{name} has no address of this family")))
}
