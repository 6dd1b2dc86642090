//! What is done to the maps.

use clusterip_common::abi::{Backend, BackendId, Service, ServiceId, ServiceKey, SlotIndex};

/// One write. Variant order is execution order (F2): no packet meets a reference to something absent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Op {
    /// Zeroes the counters and the cursor of an id that is handed out anew.
    ClearService(ServiceId),
    /// Zeroes the counters of an id that is handed out anew.
    ClearBackend(BackendId),
    /// Writes a backend.
    PutBackend(BackendId, Backend),
    /// Points a slot at a backend.
    PutSlot(SlotIndex, BackendId),
    /// Writes the head of a service: from here on new flows use it.
    PutService(ServiceKey, Service),
    /// Takes a frontend away.
    RemoveService(ServiceKey),
    /// Frees a backend; its generation stays in the map, so that flows that name it stay dead (C10).
    FreeBackend(BackendId, u32),
}
