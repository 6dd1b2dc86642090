//! One table of maps: names, kinds and shapes. The program declares them, the agent checks pins against them.

use super::{
    Affinity, AffinityKey, Announced, AnnouncedKey, Backend, BackendId, Counters, Flow, FlowKey,
    Fragment, FragmentKey, Inside, InsideKey, NodePlace, Outcome, Service, ServiceId, ServiceKey,
    SlotIndex, SocketFlow, SocketKey, Sources, SourcesKey, Traffic, endpoint,
};
use crate::wire::Addr;

/// The kinds of map in use; the agent translates them to the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `BPF_MAP_TYPE_HASH`
    Hash,
    /// `BPF_MAP_TYPE_LRU_HASH`
    LruHash,
    /// `BPF_MAP_TYPE_ARRAY`
    Array,
    /// `BPF_MAP_TYPE_PERCPU_ARRAY`
    PerCpuArray,
    /// `BPF_MAP_TYPE_LPM_TRIE`: the longest prefix that fits
    LpmTrie,
}

/// Shape of one map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Name in the program and of the pin.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Bytes of a key.
    pub key: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Entries as compiled; `--max-services`, `--max-backends`, `--max-flows` change it at load.
    pub entries: u32,
    /// What it holds, for docs and `status`.
    pub help: &'static str,
}

const fn shape<K, V>(name: &'static str, kind: Kind, entries: u32, help: &'static str) -> Shape {
    Shape {
        name,
        kind,
        key: size_of::<K>(),
        value: size_of::<V>(),
        entries,
        help,
    }
}

/// Default capacities.
pub mod capacity {
    /// Balancers, and frontends.
    pub const SERVICES: u32 = 16_384;
    /// Backends, and half the slots: every update writes a new run beside the old one.
    pub const BACKENDS: u32 = 65_536;
    /// Flow entries; a flow takes two.
    pub const FLOWS: u32 = 262_144;
    /// Entries of flows that are not answered yet.
    pub const HALF_OPEN: u32 = 65_536;
    /// Clients that are remembered.
    pub const AFFINITY: u32 = 65_536;
    /// Packets in pieces that are under way.
    pub const FRAGMENTS: u32 = 8_192;
    /// Clients that were sent ICMP errors.
    pub const ERRORS: u32 = 8_192;
    /// Socket entries; a TCP socket takes one, a UDP socket two for each service it speaks with.
    pub const SOCKETS: u32 = 65_536;
    /// Ranges of addresses inside the cluster. An entry takes memory when it is made: a node takes half a dozen.
    pub const INSIDE: u32 = 65_536;
    /// Source ranges of services. Memory as above.
    pub const SOURCES: u32 = 65_536;
    /// Addresses that are announced, at each device.
    pub const ANNOUNCED: u32 = 4_096;
}

/// Frontends.
pub const SERVICES: Shape = shape::<ServiceKey, Service>(
    "SERVICES",
    Kind::Hash,
    capacity::SERVICES,
    "frontend -> service head",
);
/// Runs of backends.
pub const SLOTS: Shape = shape::<SlotIndex, BackendId>(
    "SLOTS",
    Kind::Array,
    2 * capacity::BACKENDS,
    "slot -> backend id",
);
/// Backends.
pub const BACKENDS: Shape = shape::<BackendId, Backend>(
    "BACKENDS",
    Kind::Array,
    capacity::BACKENDS,
    "backend id -> endpoint",
);
/// Flows.
pub const FLOWS: Shape = shape::<FlowKey, Flow>(
    "FLOWS",
    Kind::LruHash,
    capacity::FLOWS,
    "5-tuple -> translation",
);
/// Flows that only one side has spoken in: a flood of them cannot drive out flows that talk (C13).
pub const HALF_OPEN: Shape = shape::<FlowKey, Flow>(
    "HALF_OPEN",
    Kind::LruHash,
    capacity::HALF_OPEN,
    "5-tuple -> translation, until the other side answers",
);
/// Clients and their backends.
pub const AFFINITY: Shape = shape::<AffinityKey, Affinity>(
    "AFFINITY",
    Kind::LruHash,
    capacity::AFFINITY,
    "client and service id -> backend",
);
/// Ports of packets in pieces.
pub const FRAGMENTS: Shape = shape::<FragmentKey, Fragment>(
    "FRAGMENTS",
    Kind::LruHash,
    capacity::FRAGMENTS,
    "addresses and identification -> ports",
);
/// Clients that were sent ICMP errors, so that none is sent too many (D8).
pub const ERRORS: Shape = shape::<Addr, u64>(
    "ERRORS",
    Kind::LruHash,
    capacity::ERRORS,
    "client -> when its errors are paid for, in nanoseconds of the monotonic clock",
);
/// Addresses and ports that backends have, a bit each: whoever sends from another one cannot be answering for a service.
pub const ENDPOINTS: Shape = shape::<u32, u64>(
    "ENDPOINTS",
    Kind::Array,
    endpoint::BITS / endpoint::WORD,
    "hash of address and port / 64 -> which of 64 hashes backends have",
);
/// Live flows by backend, for the least-connections algorithm.
pub const LIVE_FLOWS: Shape = shape::<BackendId, u64>(
    "LIVE_FLOWS",
    Kind::Array,
    capacity::BACKENDS,
    "backend id -> live flows",
);
/// Flows of the node's own sockets.
pub const SOCKETS: Shape = shape::<SocketKey, SocketFlow>(
    "SOCKETS",
    Kind::LruHash,
    capacity::SOCKETS,
    "socket and address -> translation",
);
/// What counts as inside the cluster (E1).
pub const INSIDE: Shape = shape::<InsideKey, Inside>(
    "INSIDE",
    Kind::LpmTrie,
    capacity::INSIDE,
    "address range -> pods or a node",
);
/// Who may call a guarded service (E4).
pub const SOURCES: Shape = shape::<SourcesKey, Sources>(
    "SOURCES",
    Kind::LpmTrie,
    capacity::SOURCES,
    "service id and range of clients -> let in",
);
/// The node's address in each family, which clients from outside get on the way to a backend (E2); unspecified if there is none.
pub const NODE: Shape = shape::<NodePlace, Addr>(
    "NODE",
    Kind::Array,
    NodePlace::COUNT,
    "family -> the node's address",
);
/// Whose link address neighbours are told: where no agent runs, too.
pub const ANNOUNCED: Shape = shape::<AnnouncedKey, Announced>(
    "ANNOUNCED",
    Kind::Hash,
    capacity::ANNOUNCED,
    "address of the pool and device -> link address",
);
/// Round-robin counters, shared by all CPUs (B1).
pub const CURSORS: Shape = shape::<ServiceId, u64>(
    "CURSORS",
    Kind::Array,
    capacity::SERVICES,
    "service id -> flows so far",
);
/// Counters of services.
pub const SERVICE_COUNTERS: Shape = shape::<ServiceId, Counters>(
    "SERVICE_COUNTS",
    Kind::PerCpuArray,
    capacity::SERVICES,
    "service id -> packets, bytes, flows",
);
/// Counters of backends.
pub const BACKEND_COUNTERS: Shape = shape::<BackendId, Counters>(
    "BACKEND_COUNTS",
    Kind::PerCpuArray,
    capacity::BACKENDS,
    "backend id -> packets, bytes, flows",
);
/// Counters of outcomes.
pub const OUTCOMES: Shape = shape::<u32, Traffic>(
    "OUTCOMES",
    Kind::PerCpuArray,
    Outcome::COUNT,
    "outcome -> packets, bytes",
);

/// Devices that programs know what is beyond of; not pinned.
pub const DEVICES: u32 = 4_096;

/// All of them.
pub const ALL: [Shape; 19] = [
    SERVICES,
    SLOTS,
    BACKENDS,
    FLOWS,
    HALF_OPEN,
    AFFINITY,
    FRAGMENTS,
    ERRORS,
    ENDPOINTS,
    LIVE_FLOWS,
    SOCKETS,
    INSIDE,
    SOURCES,
    NODE,
    ANNOUNCED,
    CURSORS,
    SERVICE_COUNTERS,
    BACKEND_COUNTERS,
    OUTCOMES,
];
