//! The cluster as it was given and as it was resolved. Pure: no clock, no I/O, no tokio.

pub mod about;
pub mod allocate;
pub mod announcer;
mod categorise;
mod claims;
pub mod cluster;
pub mod endpoints;
pub mod event;
pub mod exposure;
pub mod facts;
mod group;
pub mod inside;
pub mod labels;
pub mod naming;
pub mod node_ports;
pub mod object;
#[cfg(test)]
pub(crate) mod objects_for_tests;
pub mod problem;
pub mod provision;
pub mod range;
pub mod resolve;
pub mod resolver;
pub mod served;
pub mod service;
pub mod snapshot;
pub mod validate;
mod wish;
