//! Every family that this program writes under its own prefix.

use super::text::{
    Kind::{Counter, Gauge},
    Metric,
};

macro_rules! catalog {
    ($($(#[doc = $help:literal])+ $name:ident = $text:literal, $kind:expr, $labels:expr;)+) => {
        $(
            $(#[doc = $help])+
            pub(super) const $name: Metric = Metric {
                name: $text,
                kind: $kind,
                labels: $labels,
                help: concat!($($help),+).trim_ascii(),
            };
        )+

        /// All of them, in the order in which they are written.
        #[cfg(test)]
        pub(super) const ALL: &[Metric] = &[$($name),+];
    };
}

/// Of a port of a service in one family.
const SERVICE: &[&str] = &["service", "port", "protocol", "family"];
const SERVICE_WAY: &[&str] = &["service", "port", "protocol", "family", "direction"];
const BACKEND: &[&str] = &["service", "port", "protocol", "family", "backend"];
const BACKEND_WAY: &[&str] = &[
    "service",
    "port",
    "protocol",
    "family",
    "backend",
    "direction",
];

catalog! {
    /// Versions of the agent, of the layout of the pinned maps, and of the kernel; always 1
    BUILD = "build_info", Gauge, &["version", "abi", "kernel"];
    /// Addresses that services are called by; always 1
    FRONTENDS = "frontend_info", Gauge, &["service", "port", "protocol", "family", "address", "service_port"];
    /// Endpoints of a service port: chosen for new flows, or only listed
    ENDPOINTS = "service_endpoints", Gauge, &["service", "port", "protocol", "family", "state"];
    /// Flows that were opened
    SERVICE_FLOWS = "service_flows", Counter, SERVICE;
    /// Flows that are established, as of the last count of the flow tables
    SERVICE_ACTIVE = "service_active_flows", Gauge, SERVICE;
    /// Packets that were translated
    SERVICE_PACKETS = "service_packets", Counter, SERVICE_WAY;
    /// Bytes of packets that were translated
    SERVICE_BYTES = "service_bytes", Counter, SERVICE_WAY;
    /// Flows that were opened
    BACKEND_FLOWS = "backend_flows", Counter, BACKEND;
    /// Flows that are established, as of the last count of the flow tables
    BACKEND_ACTIVE = "backend_active_flows", Gauge, BACKEND;
    /// Packets that were translated
    BACKEND_PACKETS = "backend_packets", Counter, BACKEND_WAY;
    /// Bytes of packets that were translated
    BACKEND_BYTES = "backend_bytes", Counter, BACKEND_WAY;
    /// Packets by what became of them
    OUTCOME_PACKETS = "outcome_packets", Counter, &["outcome"];
    /// Bytes of packets by what became of them
    OUTCOME_BYTES = "outcome_bytes", Counter, &["outcome"];
    /// Translated packets of services by the way they went on, since the agent started; with --forwarding redirect or --uplink-mode auto
    FORWARDED_PACKETS = "forwarded_packets", Counter, &["way"];
    /// Bytes of translated packets by the way they went on
    FORWARDED_BYTES = "forwarded_bytes", Counter, &["way"];
    /// Entries that a map has room for
    MAP_CAPACITY = "map_capacity", Gauge, &["map"];
    /// Entries in use, of the maps where that means something
    MAP_ENTRIES = "map_entries", Gauge, &["map"];
    /// Entries in use beside those there is room for: 1 is full
    MAP_PRESSURE = "map_pressure", Gauge, &["map"];
    /// How devices have their hooks; always 1
    INTERFACE = "interface_info", Gauge, &["interface", "role", "mode", "driver"];
    /// Devices with hooks
    INTERFACES = "interfaces", Gauge, &[];
    /// Devices that should have hooks and do not: see the agent's log
    UNATTACHED = "interfaces_unattached", Gauge, &[];
    /// Addresses of --load-balancer-pool that this node announces on its uplinks
    ANNOUNCED = "announced_addresses", Gauge, &[];
    /// Services of the source
    SERVICES = "services", Gauge, &[];
    /// Services that do not fit into the maps
    WAITING = "services_waiting", Gauge, &[];
    /// Things that are wrong with the source's objects
    PROBLEMS = "problems", Gauge, &[];
    /// Whether the source was read to its end once
    SYNCED = "source_synced", Gauge, &[];
    /// Whether the maps hold what the source says
    PROGRAMMED = "programmed", Gauge, &[];
    /// Whether addresses and node ports could not be kept in the state directory
    UNKEPT = "allocations_unkept", Gauge, &[];
}
