//! The content of the maps, wanted or actual: one type for both sides.

use std::{collections::BTreeMap, fmt};

use clusterip_common::abi::{Backend, BackendId, Service, ServiceKey, SlotIndex};

/// The content of the maps that the agent writes. A backend that is free is not listed, except that its generation
/// counts: see [`Tables::generations`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tables {
    /// Backends by id.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Slots.
    pub slots: BTreeMap<SlotIndex, BackendId>,
    /// Frontends.
    pub services: BTreeMap<ServiceKey, Service>,
}
