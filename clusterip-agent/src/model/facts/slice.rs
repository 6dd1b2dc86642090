//! What is known of an `EndpointSlice`.

use std::sync::Arc;

use k8s_openapi::{api::discovery::v1 as api, jiff::Timestamp};

use super::{Names, Written, port_number};
use crate::model::{
    cluster::SERVICE_NAME_LABEL, endpoints::TRIGGER_TIME_ANNOTATION, service::Protocol,
};

/// discovery.k8s.io/v1 `EndpointSlice`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EndpointSlice {
    /// The service that it belongs to, by its label.
    pub service: Option<Arc<str>>,
    /// `addressType`.
    pub address_type: Arc<str>,
    /// An annotation says when the oldest change in it happened (F8).
    pub says_when: bool,
    /// When that was, if what it says is a time.
    pub changed: Option<Timestamp>,
    /// `ports`.
    pub ports: Box<[SlicePort]>,
    /// `endpoints`.
    pub endpoints: Box<[SliceEndpoint]>,
}

/// A port of the endpoints of a slice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlicePort {
    /// Name; empty for the unnamed one.
    pub name: Arc<str>,
    /// Protocol; none if it is no protocol.
    pub protocol: Option<Protocol>,
    /// Number; none if there is none (A11).
    pub port: Option<u16>,
}

/// An endpoint of a slice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SliceEndpoint {
    /// Its first address (A11).
    pub address: Option<Written>,
    /// The condition of that name.
    pub ready: Option<bool>,
    /// The condition of that name.
    pub serving: Option<bool>,
    /// The condition of that name.
    pub terminating: Option<bool>,
    /// `nodeName`; empty if there is none.
    pub node: Arc<str>,
    /// `zone`.
    pub zone: Option<Arc<str>>,
    /// Its pod, as `namespace/name`.
    pub pod: Option<Arc<str>>,
    /// The `uid` of what it refers to.
    pub uid: Option<Arc<str>>,
    /// `hostname`.
    pub hostname: Option<Arc<str>>,
    /// `hints`; most have none.
    pub hints: Option<Box<Hints>>,
}

/// For whom an endpoint is meant (A8).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    /// `forNodes`
    pub nodes: Box<[Arc<str>]>,
    /// `forZones`
    pub zones: Box<[Arc<str>]>,
}

impl EndpointSlice {
    /// What an object in a namespace says.
    #[must_use]
    pub fn of(slice: &api::EndpointSlice, namespace: &str, names: &mut Names) -> Self {
        let api::EndpointSlice {
            metadata,
            address_type,
            endpoints,
            ports,
        } = slice;
        let labels = metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let annotations = metadata.annotations.as_ref();
        let when = annotations.and_then(|all| all.get(TRIGGER_TIME_ANNOTATION));
        let (ports, endpoints) = (ports.iter().flatten(), endpoints.iter().flatten());
        Self {
            service: names.share_some(service.map(String::as_str)),
            address_type: names.share(address_type),
            says_when: when.is_some(),
            changed: when.and_then(|text| text.parse().ok()),
            ports: ports.map(|port| SlicePort::of(port, names)).collect(),
            endpoints: endpoints
                .map(|endpoint| SliceEndpoint::of(endpoint, namespace, names))
                .collect(),
        }
    }
}

impl SlicePort {
    fn of(port: &api::EndpointPort, names: &mut Names) -> Self {
        Self {
            name: names.share(port.name.as_deref().unwrap_or_default()),
            protocol: Protocol::parse(port.protocol.as_deref()),
            port: port.port.and_then(port_number),
        }
    }
}

impl SliceEndpoint {
    fn of(endpoint: &api::Endpoint, namespace: &str, names: &mut Names) -> Self {
        let api::Endpoint {
            addresses,
            conditions,
            node_name,
            target_ref,
            zone,
            deprecated_topology: _,
            hints,
            hostname,
        } = endpoint;
        let conditions = conditions.as_ref();
        let target = target_ref.as_ref();
        let pod = target
            .filter(|target| target.kind.as_deref().is_none_or(|kind| kind == "Pod"))
            .and_then(|target| target.name.as_deref());
        Self {
            address: addresses.first().map(|text| Written::parse(text)),
            ready: conditions.and_then(|it| it.ready),
            serving: conditions.and_then(|it| it.serving),
            terminating: conditions.and_then(|it| it.terminating),
            node: names.share(node_name.as_deref().unwrap_or_default()),
            zone: names.share_some(zone.as_deref()),
            // Nobody else has these.
            pod: pod.map(|pod| format!("{namespace}/{pod}").into()),
            uid: target.and_then(|target| target.uid.as_deref().map(Arc::from)),
            hostname: hostname.as_deref().map(Arc::from),
            hints: hints
                .as_ref()
                .map(|hints| Box::new(Hints::of(hints, names))),
        }
    }
}

impl Hints {
    fn of(hints: &api::EndpointHints, names: &mut Names) -> Self {
        let api::EndpointHints {
            for_nodes,
            for_zones,
        } = hints;
        let (nodes, zones) = (for_nodes.iter().flatten(), for_zones.iter().flatten());
        Self {
            nodes: nodes.map(|it| names.share(&it.name)).collect(),
            zones: zones.map(|it| names.share(&it.name)).collect(),
        }
    }
}
