//! What a source says.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::jiff::Timestamp;

use super::{
    announcer::Conflicts,
    object::{Object, ObjectKey, ObjectName},
    problem::{Fault, Problem},
};

/// What a source says. Nothing is removed from the dataplane before `Synced` (F1).
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A full listing begins: what is not put again before the next `Synced` is gone.
    Reset,
    /// An object is there, new or changed.
    Put(Box<Object>),
    /// An object is gone.
    Remove(ObjectKey),
    /// The listing is complete.
    Synced,
    /// All that is wrong with the source's input now; replaces what it said before.
    Problems(Vec<Problem>),
    /// When something was changed that the events beside it come from, where no object says it: how long it takes until it is
    /// programmed is measured (F8).
    Changed(Timestamp),
    /// The addresses of this machine, those that lead to others first: of a node without an object they are its own.
    Machine(Vec<IpAddr>),
    /// Addresses of the pool of load balancers that others on an uplink's link have; replaces what was said before.
    Conflicts(Conflicts),
    /// What is wrong with the addresses that load balancers ask of the pool; replaces what was said before.
    Unprovided(BTreeMap<ObjectName, Vec<Fault>>),
}
