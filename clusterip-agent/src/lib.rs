//! The node agent: service definitions in, BPF maps out.
//!
//! ```text
//! source -> Event -> model (Cluster -> Snapshot) -> plan (Tables, diff, Op) -> dataplane
//! ```
//! One writer, one model: `reconcile` owns the snapshot; everyone else reads it.

pub mod addresses;
pub mod announce;
pub mod api;
pub mod attachments;
pub mod census;
pub mod clock;
pub mod command;
pub mod config;
pub mod dataplane;
mod default_routes;
pub mod dns;
pub mod durable;
pub mod expiry;
pub mod health;
pub mod heap;
pub mod interfaces;
pub mod kube_proxy;
mod local_ports;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod monitor;
pub mod plan;
pub mod probe;
pub mod reconcile;
pub mod reconnect;
#[cfg(test)]
mod repeatable;
pub mod source;
pub mod state;
pub mod supervisor;
pub mod trace;
pub mod view;
pub mod ways;
