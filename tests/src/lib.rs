//! The laboratory: nodes and pods as network namespaces, small real servers, and the agent among them; and packets as
//! sentences, with the cases that run on the host and in the kernel.
//!
//! Everything is a value that takes itself down when it is dropped, and nothing outlives the process that made it,
//! however that ends: namespaces are held by file descriptors, children die with their parent.

pub mod agent;
pub mod apiserver;
pub mod bench;
pub mod call;
pub mod caller;
pub mod case;
pub mod cgroup;
pub mod client;
pub mod crowd;
pub mod demo;
pub mod driver;
pub mod flood;
pub mod foreign;
pub mod host;
pub mod interrupt;
pub mod lab;
pub mod listener;
pub mod load;
pub mod manifests;
pub mod metrics;
mod name;
pub mod names;
pub mod namespace;
pub mod node;
pub mod objects;
pub mod outside;
pub mod packet;
pub mod pattern;
pub mod playbook;
pub mod pod;
pub mod process;
pub mod property;
pub mod require;
pub mod resolv;
pub mod scenario;
pub mod schema;
pub mod sctp;
pub mod server;
mod sys;
pub mod terminal;
pub mod upstream;
pub mod vectors;
pub mod wait;
pub mod world;

// The targets of this crate share its dependencies; this one is for `tests/properties.rs`.
#[cfg(test)]
use k8s_openapi as _;
#[cfg(test)]
use proptest as _;
#[cfg(test)]
use serde as _;
#[cfg(test)]
use serde_saphyr as _;

pub use agent::Agent;
pub use apiserver::ApiServer;
pub use caller::Caller;
pub use cgroup::Cgroup;
pub use foreign::Foreign;
pub use lab::Lab;
pub use listener::Listener;
pub use load::Load;
pub use namespace::Namespace;
pub use node::Node;
pub use outside::Outside;
pub use pod::Pod;
pub use server::Server;
