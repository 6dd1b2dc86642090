//! The laboratory: nodes and pods as network namespaces, small real servers, and the agent among them.
//!
//! Everything is a value that takes itself down when it is dropped, and nothing outlives the process that made it,
//! however that ends: namespaces are held by file descriptors, children die with their parent.

// For the test targets, which share these dependencies.
use aya as _;
use clusterip_agent as _;
use clusterip_common as _;

pub mod agent;
pub mod client;
pub mod demo;
pub mod interrupt;
pub mod lab;
pub mod manifests;
pub mod metrics;
pub mod namespace;
pub mod node;
pub mod objects;
pub mod pattern;
pub mod pod;
pub mod process;
pub mod require;
pub mod server;
mod sys;
pub mod wait;

pub use agent::Agent;
pub use lab::Lab;
pub use namespace::Namespace;
pub use node::Node;
pub use pod::Pod;
pub use server::Server;
