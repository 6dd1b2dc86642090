//! What answers are made from.

use std::{collections::BTreeSet, sync::Arc};

use crate::model::{object::ObjectName, snapshot::Snapshot};

/// The cluster as the dataplane holds it. Cloning costs nothing.
#[derive(Clone, Debug)]
pub struct State {
    /// The model.
    pub snapshot: Arc<Snapshot>,
    /// Services that have an address nobody answers at: they do not fit into the maps.
    pub unanswered: Arc<BTreeSet<ObjectName>>,
    /// Serial number of the zone: seconds since 1970 when this state was taken over.
    pub serial: u32,
}
