//! `get services` as a table: what of each service stands in it, and no more; ten thousand are read while somebody waits.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Clock, Selection, VERSION,
    services::{self, Port, Service},
};
use crate::reconcile::Published;

/// The services of a selection, by namespace, then name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// See [`VERSION`].
    pub version: u32,
    /// One each.
    pub services: Vec<Listed>,
}

/// A service, as kubectl's table shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// As Kubernetes writes it.
    #[serde(rename = "type")]
    pub service_type: String,
    /// Its addresses inside the cluster, `None` of a headless one, or the name that it stands for.
    pub cluster_ip: String,
    /// `80:30080/TCP,53/UDP`; empty without ports.
    pub ports: String,
    /// Pods that new flows go to.
    pub endpoints_chosen: usize,
    /// Pods that are listed, whether they are ready or not.
    pub endpoints_listed: usize,
    /// Since it was created, or seen first if its object does not say.
    pub age_seconds: u64,
}

impl From<&Service> for Listed {
    fn from(service: &Service) -> Self {
        Self {
            namespace: service.namespace.clone(),
            name: service.name.clone(),
            service_type: service.service_type.clone(),
            cluster_ip: addresses(service),
            ports: ports(&service.ports),
            endpoints_chosen: service.endpoints_chosen,
            endpoints_listed: service.endpoints_listed,
            age_seconds: service.age_seconds,
        }
    }
}

/// The services of a selection. Nothing is read from the maps for it.
#[must_use]
pub fn listing(published: &Published, selection: &Selection, clock: Clock<'_>) -> Listing {
    let wanted = services::wanted(published, selection);
    Listing {
        version: VERSION,
        services: wanted
            .map(|service| Listed::from(&services::declared(published, service, clock)))
            .collect(),
    }
}

fn addresses(service: &Service) -> String {
    if service.service_type == "ExternalName" {
        return service.external_name.clone();
    }
    let all: Vec<String> = service.cluster_ips.iter().map(IpAddr::to_string).collect();
    if all.is_empty() {
        "None".to_owned()
    } else {
        all.join(",")
    }
}

fn ports(ports: &[Port]) -> String {
    let all: Vec<String> = ports
        .iter()
        .map(|port| match port.node_port {
            Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
            None => format!("{}/{}", port.port, port.protocol),
        })
        .collect();
    all.join(",")
}
