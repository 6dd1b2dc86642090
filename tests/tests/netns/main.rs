//! Namespaces: the topology by itself, then real packets through the agent's programs.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod bulk;
mod changes;
mod choosing;
mod dataplane;
mod demo;
mod faults;
mod lifecycle;
mod mtu;
mod packets;
mod probes;
mod refusals;
mod restarts;
mod sockets;
mod spread;
mod takeover;
mod topology;
mod traffic;
mod uplink;
