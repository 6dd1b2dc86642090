//! Namespaces: the topology by itself, then real packets through the agent's programs.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod api;
mod bulk;
mod changes;
mod choosing;
mod dataplane;
mod demo;
mod expiry;
mod faults;
mod forwarding;
mod hairpin;
mod health;
mod lifecycle;
mod listeners;
mod live_trace;
mod monitor;
mod mtu;
mod names;
mod packets;
mod probes;
mod refusals;
mod resolver;
mod restarts;
mod signals;
mod sockets;
mod spread;
mod takeover;
mod topology;
mod traffic;
mod uplink;
