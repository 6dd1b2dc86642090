//! What is done to the maps.

use clusterip_common::{
    abi::{
        Backend, BackendId, Inside, InsideKey, NodePlace, Service, ServiceId, ServiceKey,
        SlotIndex, Sources, SourcesKey,
    },
    wire::Addr,
};

/// One write. Variant order is execution order (F2): no packet meets a reference to something absent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// Zeroes the counters and the cursor of an id that is handed out anew.
    ClearService(ServiceId),
    /// Zeroes the counters of an id that is handed out anew.
    ClearBackend(BackendId),
    /// Says that a range is inside the cluster: before there is anything that is served to it.
    PutInside(InsideKey, Inside),
    /// Says by which address of one family the node stands for clients from outside; unspecified is by none.
    PutNode(NodePlace, Addr),
    /// Lets clients in to a guarded service: before it is guarded.
    PutSources(SourcesKey, Sources),
    /// Writes a backend.
    PutBackend(BackendId, Backend),
    /// Points a slot at a backend.
    PutSlot(SlotIndex, BackendId),
    /// Writes the head of a service: from here on new flows use it. The entry of an address is written in the same way; its
    /// key comes before those of its frontends.
    PutService(ServiceKey, Service),
    /// Takes a frontend away.
    RemoveService(ServiceKey),
    /// Takes the entry of an address away, after its last frontend: until then its other ports are refused (B9).
    RemoveAddress(Addr),
    /// Frees a backend; its generation stays in the map, so that flows that name it stay dead (C10).
    FreeBackend(BackendId, u32),
    /// Says that a range is outside from here on: a node has left the cluster.
    RemoveInside(InsideKey),
    /// Keeps clients out of a guarded service from here on.
    RemoveSources(SourcesKey),
}
