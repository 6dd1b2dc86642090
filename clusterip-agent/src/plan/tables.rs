//! The content of the maps, wanted or actual: one type for both sides.

use std::collections::BTreeMap;

use clusterip_common::abi::{Backend, BackendId, Service, ServiceKey, SlotIndex};

/// The content of the maps that the agent writes. A free backend is listed while its
/// generation is above 0: whoever gets the id next must go on from there.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tables {
    /// Backends by id.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Slots.
    pub slots: BTreeMap<SlotIndex, BackendId>,
    /// Frontends.
    pub services: BTreeMap<ServiceKey, Service>,
}
