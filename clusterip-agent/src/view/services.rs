//! `get services`

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{Clock, Readings, Selection, Traffic, VERSION};
use crate::{
    model::{
        about::About,
        endpoints::PortSpec,
        service::{Action, Balancer, ResolvedService, Scope, Target},
    },
    plan::Placement,
    reconcile::Published,
};

/// The document of `get services -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Services {
    /// See [`VERSION`].
    pub version: u32,
    /// By namespace, then name.
    pub services: Vec<Service>,
}

/// A service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// As Kubernetes writes it.
    #[serde(rename = "type")]
    pub service_type: String,
    /// Its addresses inside the cluster; none for a headless one.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<IpAddr>,
    /// Its addresses towards the outside.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<IpAddr>,
    /// Those of them that nodes announce on their uplinks.
    #[serde(default)]
    pub announced: Vec<AnnouncedView>,
    /// The name it stands for; empty if it does not.
    pub external_name: String,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Pods that new flows go to.
    pub endpoints_chosen: usize,
    /// Pods that are listed, whether they are ready or not.
    pub endpoints_listed: usize,
    /// How flows are spread.
    pub algorithm: String,
    /// For how long a client keeps its endpoint; 0 is not at all.
    pub affinity_seconds: u32,
    /// Cluster or Local.
    pub internal_traffic_policy: String,
    /// Cluster or Local.
    pub external_traffic_policy: String,
    /// Since it was created, or seen first if its object does not say.
    pub age_seconds: u64,
    /// What is wrong with it.
    pub problems: Vec<String>,
    /// All of its ports together.
    pub traffic: Traffic,
    /// Its ports of each family, as they are in the dataplane; none if it has no entry there.
    pub balancers: Vec<BalancerView>,
}

/// An address of the pool of load balancers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnnouncedView {
    /// The address.
    pub address: IpAddr,
    /// The node that announces it; null where none may.
    pub node: Option<String>,
}

/// A port as it is declared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Name; empty for the unnamed one.
    pub name: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// The number that clients call.
    pub port: u16,
    /// Number or name on the pods.
    pub target_port: String,
    /// The number on the nodes, if it has one.
    pub node_port: Option<u16>,
}

/// One port of one family, in the dataplane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BalancerView {
    /// Name of the port.
    pub port_name: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// As Kubernetes writes it.
    pub family: String,
    /// balance, reject or drop.
    pub action: String,
    /// Whether it has its place in the maps.
    pub programmed: bool,
    /// What clients call.
    pub frontends: Vec<SocketAddr>,
    /// What went through.
    pub traffic: Traffic,
}

/// The services of a selection.
#[must_use]
pub fn services(
    published: &Published,
    selection: &Selection,
    readings: &impl Readings,
    clock: Clock<'_>,
) -> Services {
    let view = |service| {
        let balancers = balancers(published, service, readings);
        let mut traffic = Traffic::default();
        for balancer in &balancers {
            traffic += balancer.traffic;
        }
        Service {
            traffic,
            balancers,
            ..declared(published, service, clock)
        }
    };
    Services {
        version: VERSION,
        services: wanted(published, selection).map(view).collect(),
    }
}

pub(super) fn wanted<'a>(
    published: &'a Published,
    selection: &'a Selection,
) -> impl Iterator<Item = &'a ResolvedService> {
    let all = published.snapshot.services.iter();
    let wanted = all.filter(|(name, _)| selection.has(name));
    wanted.map(|(_, service)| &**service)
}

/// A service without its place in the maps, and without what went through it.
pub(super) fn declared(
    published: &Published,
    service: &ResolvedService,
    clock: Clock<'_>,
) -> Service {
    let ResolvedService {
        name,
        algorithm,
        affinity_seconds,
        balancers: _,
        external: _,
        announced,
        provision: _,
        source_ranges: _,
        about,
        naming: _,
        health_check_node_port: _,
        problems,
    } = service;
    let About {
        service_type,
        created,
        addresses,
        node_ports,
        external,
        external_name,
        internal_local,
        external_local,
        ports,
    } = about;
    let told = published.snapshot.service_problems.get(name);
    let problems = told.map_or(problems.as_slice(), |all| all);
    let policy = |is_local: bool| if is_local { "Local" } else { "Cluster" }.to_owned();
    let (endpoints_chosen, endpoints_listed) = count(service);
    Service {
        namespace: name.namespace.to_string(),
        name: name.name.to_string(),
        service_type: service_type.name().to_owned(),
        cluster_ips: addresses.iter().map(|it| it.address).collect(),
        external_ips: external.clone(),
        announced: announced
            .iter()
            .map(|it| AnnouncedView {
                address: it.address,
                node: it.node.as_ref().map(ToString::to_string),
            })
            .collect(),
        external_name: external_name.to_string(),
        ports: ports
            .iter()
            .map(|port| {
                let held = node_ports.iter();
                let mut held =
                    held.filter(|it| (it.key.port, it.key.protocol) == (port.port, port.protocol));
                port_view(port, held.next().map(|it| it.node_port))
            })
            .collect(),
        endpoints_chosen,
        endpoints_listed,
        algorithm: algorithm.name().to_owned(),
        affinity_seconds: *affinity_seconds,
        internal_traffic_policy: policy(*internal_local),
        external_traffic_policy: policy(*external_local),
        age_seconds: clock.age(name, *created),
        problems: problems.iter().map(ToString::to_string).collect(),
        traffic: Traffic::default(),
        balancers: Vec::new(),
    }
}

/// The ports of each family, as they are in the dataplane.
fn balancers(
    published: &Published,
    service: &ResolvedService,
    readings: &impl Readings,
) -> Vec<BalancerView> {
    let places = published.index.services.get(&service.name);
    let places: &[Placement] = places.map_or(&[], |places| places);
    // By one policy there is one of each port and family, whatever it is called by.
    let others = service.external.iter().filter(|it| {
        let has_same = |other: &Balancer| other.is_same_port(it) && other.policy == it.policy;
        it.frontends.iter().any(|it| it.scope == Scope::External)
            && !service.balancers.iter().any(has_same)
    });
    service
        .balancers
        .iter()
        .chain(others)
        .map(|balancer| balancer_view(balancer, place_of(places, balancer), readings))
        .collect()
}

fn port_view(port: &PortSpec, node_port: Option<u16>) -> Port {
    let PortSpec {
        name,
        protocol,
        port,
        target,
    } = port;
    Port {
        name: name.to_string(),
        protocol: protocol.name().to_owned(),
        port: *port,
        target_port: match target {
            Target::Number(number) => number.to_string(),
            Target::Name(name) => name.to_string(),
        },
        node_port,
    }
}

fn balancer_view(
    balancer: &Balancer,
    place: Option<&Placement>,
    readings: &impl Readings,
) -> BalancerView {
    let placed = place.map(|place| {
        let called = place.called();
        called
            .map(|(address, port)| SocketAddr::new(address.into(), port.get()))
            .collect()
    });
    let counters = place.and_then(|place| readings.service(place.id));
    BalancerView {
        port_name: balancer.port_name.to_string(),
        protocol: balancer.protocol.name().to_owned(),
        family: balancer.family.name().to_owned(),
        action: action(balancer.action).to_owned(),
        programmed: place.is_some(),
        frontends: placed.unwrap_or_else(|| {
            let wanted = balancer.frontends.iter();
            wanted
                .map(|it| SocketAddr::new(it.address, it.port))
                .collect()
        }),
        traffic: counters.unwrap_or_default().into(),
    }
}

pub(super) fn place_of<'a>(places: &'a [Placement], balancer: &Balancer) -> Option<&'a Placement> {
    places.iter().find(|place| {
        (&place.port_name, place.protocol, place.family, place.policy)
            == (
                &balancer.port_name,
                balancer.protocol,
                balancer.family,
                balancer.policy,
            )
    })
}

const fn action(action: Action) -> &'static str {
    match action {
        Action::Balance => "balance",
        Action::Reject => "reject",
        Action::Drop => "drop",
    }
}

/// Different addresses that new flows go to, and that are listed; a pod of both families counts in the first one's.
fn count(service: &ResolvedService) -> (usize, usize) {
    let mut chosen: Vec<IpAddr> = Vec::new();
    let mut listed: Vec<IpAddr> = Vec::new();
    let family = service.balancers.first().map(|balancer| balancer.family);
    let of_family = service.balancers.iter();
    for balancer in of_family.filter(|balancer| Some(balancer.family) == family) {
        listed.extend(balancer.endpoints.iter().map(|endpoint| endpoint.address));
        chosen.extend(balancer.chosen().map(|endpoint| endpoint.address));
    }
    let different = |mut all: Vec<IpAddr>| {
        all.sort_unstable();
        all.dedup();
        all.len()
    };
    (different(chosen), different(listed))
}
