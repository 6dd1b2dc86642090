//! Namespaces: the topology by itself, then real packets through the agent's programs.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

mod announce;
mod api;
mod bench;
mod beside;
mod bulk;
mod census;
mod changes;
mod choosing;
mod cluster;
mod crowds;
mod dataplane;
mod demo;
mod direct_return;
mod doctor;
mod drivers;
mod expiry;
mod external;
mod faults;
mod forwarding;
mod hairpin;
mod health;
mod ipvs;
mod kubernetes;
mod lifecycle;
mod link;
mod listeners;
mod live_trace;
mod metrics;
mod monitor;
mod mtu;
mod names;
mod operations;
mod outside;
mod packets;
mod past_stack;
mod planned;
mod probes;
mod provided;
mod redirect;
mod refusals;
mod resolver;
mod restarts;
mod sctp;
mod signals;
mod sockets;
mod spread;
mod stage;
mod strangers;
mod takeover;
mod top;
mod topology;
mod traffic;
mod uplink;
