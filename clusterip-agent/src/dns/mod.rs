//! Names: the resolver of the node.

pub mod forward;
pub mod metrics;
