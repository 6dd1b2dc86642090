//! `get endpoints`

use std::net::{IpAddr, SocketAddr};

use clusterip_common::{
    abi::BackendId,
    wire::{Addr, Be16},
};
use serde::{Deserialize, Serialize};

use super::{Readings, Selection, Traffic, VERSION, flows::FlowCounts, names::pod_at, services};
use crate::{
    model::{
        object::ObjectName,
        service::{Balancer, Endpoint, Role},
    },
    plan::Placement,
    probe::{ProbeResult, Standing, Standings},
    reconcile::Published,
};

/// The document of `get endpoints -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// See [`VERSION`].
    pub version: u32,
    /// By namespace, service, port, family, then address.
    pub endpoints: Vec<EndpointView>,
}

/// An address and port behind a service port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Namespace of the service, and of the pod.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Name of the service port.
    pub port_name: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// As Kubernetes writes it.
    pub family: String,
    /// Address and port.
    pub address: SocketAddr,
    /// active: gets new flows; terminating: the same, on its way out, since there is nobody else; draining: serves and
    /// gets no new flow; not-ready: keeps established TCP flows only.
    pub state: String,
    /// Share of the flows.
    pub weight: u32,
    /// Node; empty if it is not known.
    pub node: String,
    /// Zone; empty if it is not known.
    pub zone: String,
    /// `namespace/name` of the pod; empty if it is not known.
    pub pod: String,
    /// What its probes found, if the agent probes it.
    pub probes: Vec<ProbeView>,
    /// Whether it has its place in the maps.
    pub programmed: bool,
    /// Flows that live; None where they were not counted.
    pub active_flows: Option<u64>,
    /// Flows that have ended or have one side that does not answer; None where they were not counted.
    pub inactive_flows: Option<u64>,
    /// What went through.
    pub traffic: Traffic,
}

/// A probe of a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeView {
    /// The container.
    pub container: String,
    /// startup, readiness or liveness.
    pub probe: String,
    /// waiting, passes or fails.
    pub state: String,
    /// Why the last one was no success; empty if it was one.
    pub reason: String,
}

/// The endpoints of the services of a selection. `flows` are counts of the flow tables, if they were read.
#[must_use]
pub fn endpoints(
    published: &Published,
    selection: &Selection,
    readings: &impl Readings,
    probes: &Standings,
    flows: Option<&FlowCounts>,
) -> Endpoints {
    let wanted = published.snapshot.services.iter();
    let wanted = wanted.filter(|(name, _)| selection.has(name));
    let mut endpoints = Vec::new();
    for (name, service) in wanted {
        let places = published.index.services.get(name);
        let places: &[Placement] = places.map_or(&[], |places| places);
        for balancer in &service.balancers {
            let place = services::place_of(places, balancer);
            endpoints.extend(balancer.endpoints.iter().map(|endpoint| {
                let id = place.and_then(|place| id_of(place, endpoint));
                let mut view = view(name, balancer, endpoint);
                view.pod = pod_at(published, endpoint.address);
                view.probes = probes_of(published, probes, endpoint.address);
                view.programmed = id.is_some();
                let counters = id.and_then(|id| readings.backend(id));
                view.traffic = counters.unwrap_or_default().into();
                let count = flows.map(|all| id.map(|id| all.of(id)).unwrap_or_default());
                view.active_flows = count.map(|count| count.active);
                view.inactive_flows = count.map(|count| count.inactive);
                view
            }));
        }
    }
    Endpoints {
        version: VERSION,
        endpoints,
    }
}

fn id_of(place: &Placement, endpoint: &Endpoint) -> Option<BackendId> {
    let target = (Addr::from(endpoint.address), Be16::new(endpoint.port));
    let mut backends = place.backends.iter();
    let found = backends.find(|(_, backend)| (backend.address, backend.port) == target);
    found.map(|(id, _)| *id)
}

fn view(name: &ObjectName, balancer: &Balancer, endpoint: &Endpoint) -> EndpointView {
    let Endpoint {
        address,
        port,
        weight,
        terminating,
        role,
        node,
        zone,
        identity: _,
    } = endpoint;
    EndpointView {
        namespace: name.namespace.to_string(),
        service: name.name.to_string(),
        port_name: balancer.port_name.to_string(),
        protocol: balancer.protocol.name().to_owned(),
        family: balancer.family.name().to_owned(),
        address: SocketAddr::new(*address, *port),
        state: state(*role, *terminating).to_owned(),
        weight: *weight,
        node: node.to_string(),
        zone: zone.to_string(),
        pod: String::new(),
        probes: Vec::new(),
        programmed: false,
        active_flows: None,
        inactive_flows: None,
        traffic: Traffic::default(),
    }
}

const fn state(role: Role, terminating: bool) -> &'static str {
    match (role, terminating) {
        (Role::Chosen, false) => "active",
        (Role::Chosen, true) => "terminating",
        (Role::Serving, _) => "draining",
        (Role::Listed, _) => "not-ready",
    }
}

fn probes_of(published: &Published, probes: &Standings, address: IpAddr) -> Vec<ProbeView> {
    let mut pods = published.snapshot.pods_at(address);
    let found = pods.find_map(|pod| probes.get(pod));
    found
        .into_iter()
        .flat_map(|all| all.iter())
        .map(probe)
        .collect()
}

fn probe(result: &ProbeResult) -> ProbeView {
    let ProbeResult {
        container,
        purpose,
        standing,
        reason,
    } = result;
    ProbeView {
        container: container.to_string(),
        probe: purpose.field().trim_end_matches("Probe").to_owned(),
        state: match standing {
            Standing::Waiting => "waiting",
            Standing::Passes => "passes",
            Standing::Fails => "fails",
        }
        .to_owned(),
        reason: reason.to_string(),
    }
}
