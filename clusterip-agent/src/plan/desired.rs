//! From the model's words to the maps': the last place that knows the model.

use clusterip_common::{
    abi::{self, ServiceKey},
    wire::{Addr, Be16, Proto},
};

use crate::model::service::{Algorithm, Endpoint, Frontend, Protocol};

/// The key of a frontend.
#[must_use]
pub fn service_key(frontend: &Frontend, protocol: Protocol) -> ServiceKey {
    ServiceKey::new(
        frontend.address.into(),
        Be16::new(frontend.port),
        proto(protocol),
    )
}

/// Where an endpoint listens.
#[must_use]
pub fn target(endpoint: &Endpoint) -> (Addr, Be16) {
    (endpoint.address.into(), Be16::new(endpoint.port))
}

/// The protocol's number.
#[must_use]
pub const fn proto(protocol: Protocol) -> Proto {
    match protocol {
        Protocol::Tcp => Proto::TCP,
        Protocol::Udp => Proto::UDP,
        Protocol::Sctp => Proto::SCTP,
    }
}

/// The algorithm's number.
#[must_use]
pub const fn algorithm(algorithm: Algorithm) -> abi::Algorithm {
    match algorithm {
        Algorithm::RoundRobin => abi::Algorithm::ROUND_ROBIN,
    }
}
