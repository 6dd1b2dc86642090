//! A service as it was resolved: what every reader of the model looks at.

use std::{fmt, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    about::About, announcer::Announcement, facts::TrafficPolicy, naming::Naming,
    object::ObjectName, problem::Problem, provision::Provision,
};

/// The protocols a service port may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it; absent is TCP, anything unknown is none.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP" | "") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address in its canonical form (A15).
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// As Kubernetes writes it; anything else is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::V4, Self::V6]
            .into_iter()
            .find(|it| it.name() == text)
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An address as an object writes it: IPv4-mapped IPv6 is IPv4; one that is not an address, or has leading zeros, is
/// none (A15).
#[must_use]
pub fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// How a new flow picks its endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Algorithm {
    /// One after the other, by weight (B1).
    #[default]
    RoundRobin,
    /// Any of them, by weight.
    Random,
    /// The same for the same flow on each node, as far as the endpoints are the same; by weight.
    Maglev,
    /// The one of two with fewer flows.
    LeastConnections,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::RoundRobin,
        Self::Random,
        Self::Maglev,
        Self::LeastConnections,
    ];
    /// Their names, for whoever gave another one.
    pub const NAMES: &str = "round-robin, random, maglev or least-connections";

    /// As flags, annotations and `plan` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Maglev => "maglev",
            Self::LeastConnections => "least-connections",
        }
    }

    /// The algorithm of that name; none if there is no such.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == text)
    }
}

/// The `targetPort` of a service port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The same number on each pod.
    Number(u16),
    /// Each pod's own number for it (A3).
    Name(Arc<str>),
}

/// What makes an address reachable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FrontendKind {
    /// A `ClusterIP`.
    ClusterIp,
    /// A port of the node's own addresses.
    NodePort,
    /// An address of a load balancer.
    LoadBalancer,
    /// One of `spec.externalIPs`.
    ExternalIp,
}

/// Who reaches a frontend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Scope {
    /// Pods and nodes.
    Internal,
    /// Clients outside of the cluster.
    External,
}

/// What a client calls.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Frontend {
    /// The VIP.
    pub address: IpAddr,
    /// The service port.
    pub port: u16,
    /// Why it is there.
    pub kind: FrontendKind,
    /// Who reaches it.
    pub scope: Scope,
    /// The address was chosen automatically and is not kept anywhere yet.
    pub provisional: bool,
}

/// What an endpoint is good for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// New flows come here (A6).
    Chosen,
    /// It serves and gets no new flow: flows stay (C1, C8).
    Serving,
    /// It does not serve: only established TCP flows stay (C1).
    Listed,
}

/// An address and port behind a balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Address, in its canonical form.
    pub address: IpAddr,
    /// Its own number for the target port.
    pub port: u16,
    /// Share of the flows; 1 unless the pod's annotation says otherwise.
    pub weight: u32,
    /// On its way out.
    pub terminating: bool,
    /// What it is good for here.
    pub role: Role,
    /// Node; empty if it is not known.
    pub node: Arc<str>,
    /// Zone; empty if it is not known.
    pub zone: Arc<str>,
    /// Which pod this is, where that is known: another pod with the same address is another endpoint (C10).
    pub identity: Option<Arc<str>>,
}

/// What is done with a new flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Action {
    /// Sent to an endpoint.
    Balance,
    /// There is no endpoint anywhere: refused (B7).
    Reject,
    /// Local policy, endpoints elsewhere only: dropped (B8).
    Drop,
}

/// One service port of one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Balancer {
    /// Name of the service port; empty for the unnamed one.
    pub port_name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Family of its addresses and endpoints.
    pub family: Family,
    /// What the service asks of its pods.
    pub target: Target,
    /// Its addresses.
    pub frontends: Vec<Frontend>,
    /// Every endpoint that is listed, by address as a number and port.
    pub endpoints: Vec<Endpoint>,
    /// What is done with a new flow.
    pub action: Action,
    /// By which policy its endpoints were chosen: of one port and family there is at most one set for each (A7).
    pub policy: TrafficPolicy,
}

impl Balancer {
    /// Whether another one is for the same port and family of its service.
    #[must_use]
    pub fn is_same_port(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.port_name.clone(), it.protocol, it.family);
        key(self) == key(other)
    }

    /// Where new flows go.
    pub fn chosen(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.role == Role::Chosen)
    }
}

/// A service as it was resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResolvedService {
    /// Namespace and name.
    pub name: ObjectName,
    /// How flows are spread.
    pub algorithm: Algorithm,
    /// How long a client keeps its endpoint, in seconds; 0 is not at all (B3).
    pub affinity_seconds: u32,
    /// Its ports, one for each family; none if it has no entry in the dataplane (A13).
    pub balancers: Vec<Balancer>,
    /// The same for its addresses towards the outside: for clients outside by the external policy, and for pods and nodes, who
    /// reach all endpoints by the same addresses (E3).
    pub external: Vec<Balancer>,
    /// Its addresses out of the pool of load balancers, and which nodes announce them.
    pub announced: Vec<Announcement>,
    /// What it has and asks for as a load balancer, where an API server says who has what.
    pub provision: Option<Box<Provision>>,
    /// Whom its load balancer's addresses let in; none is everybody (E4).
    pub source_ranges: Vec<IpNet>,
    /// What it says of itself, for those who show it.
    pub about: About,
    /// What its name leads to (J).
    pub naming: Naming,
    /// Where load balancers ask each node whether it has an endpoint of its own (E7).
    pub health_check_node_port: Option<u16>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

#[cfg(test)]
impl ResolvedService {
    /// A service of which nothing is known but its name.
    pub(crate) fn nothing(name: ObjectName) -> Self {
        Self {
            name,
            algorithm: Algorithm::RoundRobin,
            affinity_seconds: 0,
            balancers: Vec::new(),
            external: Vec::new(),
            announced: Vec::new(),
            provision: None,
            source_ranges: Vec::new(),
            about: About::default(),
            naming: Naming::Members(Vec::new()),
            health_check_node_port: None,
            problems: Vec::new(),
        }
    }
}
