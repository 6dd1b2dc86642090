//! What the model knows of objects: the fields that somebody here reads, parsed once.
//!
//! The API's own types have room for everything that an object may say, some kilobytes each. A source reads an object as such a
//! type, has it validated, and hands on what is here.

mod names;
mod pod;
mod service;
mod slice;

use std::net::IpAddr;

pub use names::Names;
pub use pod::{Container, ContainerPort, NETNS_ANNOTATION, Phase, Pod};
pub use service::{
    Distribution, FamilyPolicy, Ingress, Service, ServicePort, ServiceSpec, TrafficPolicy,
};
pub use slice::{EndpointSlice, Hints, SliceEndpoint, SlicePort};

use super::service::parse_address;

/// What stands where an address should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Written {
    /// An address, in its canonical form (A15).
    Address(IpAddr),
    /// Something else, as it is written.
    Other(Box<str>),
}

impl Written {
    /// What a text says.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        parse_address(text).map_or_else(|| Self::Other(text.into()), Self::Address)
    }

    /// The address, if it is one.
    #[must_use]
    pub const fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Other(_) => None,
        }
    }
}

/// A port number; 0 and what is beyond the numbers is none.
pub(super) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number > 0)
}
