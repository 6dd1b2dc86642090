//! `get affinity`

use std::net::{IpAddr, SocketAddr};

use clusterip_common::abi::{Affinity, AffinityKey, Backend};
use serde::{Deserialize, Serialize};

use super::{Names, Selection, VERSION};
use crate::reconcile::Published;

/// The document of `get affinity -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityView {
    /// See [`VERSION`].
    pub version: u32,
    /// By service, then client.
    pub clients: Vec<ClientView>,
}

/// A client that is remembered, and its backend.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientView {
    /// Namespace of the service.
    pub namespace: String,
    /// Name of the service.
    pub service: String,
    /// Name of the service port.
    pub port_name: String,
    /// As Kubernetes writes it.
    pub protocol: String,
    /// The client.
    pub client: IpAddr,
    /// `namespace/name` of its pod; empty if it is not known.
    pub client_pod: String,
    /// Its backend.
    pub backend: SocketAddr,
    /// `namespace/name` of its pod; empty if it is not known.
    pub backend_pod: String,
    /// Until it is forgotten, unless it opens a flow; 0 if it is already.
    pub expires_seconds: u64,
}

/// One client; None if it is not wanted, or of a service or backend that is not there any more.
#[must_use]
pub fn client(
    published: &Published,
    names: &Names<'_>,
    selection: &Selection,
    (key, affinity): (&AffinityKey, &Affinity),
    now: u64,
) -> Option<ClientView> {
    let (name, place) = names.service(key.service)?;
    if !selection.has(name) {
        return None;
    }
    let is_it = |(id, backend): &&(_, Backend)| {
        (*id, backend.generation) == (affinity.backend, affinity.generation)
    };
    let (_, backend) = place.backends.iter().find(is_it)?;
    let timeout = published.snapshot.services.get(name)?.affinity_seconds;
    let idle = now.saturating_sub(affinity.last_used) / 1_000_000_000;
    let client = IpAddr::from(key.client);
    let backend = SocketAddr::new(backend.address.into(), backend.port.get());
    Some(ClientView {
        namespace: name.namespace.to_string(),
        service: name.name.to_string(),
        port_name: place.port_name.to_string(),
        protocol: place.protocol.name().to_owned(),
        client,
        client_pod: names.pod(client),
        backend,
        backend_pod: names.pod(backend.ip()),
        expires_seconds: u64::from(timeout).saturating_sub(idle),
    })
}

/// The document of them.
#[must_use]
pub fn affinity(mut clients: Vec<ClientView>) -> AffinityView {
    clients.sort();
    AffinityView {
        version: VERSION,
        clients,
    }
}
