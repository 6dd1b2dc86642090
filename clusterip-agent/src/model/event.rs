//! What a source says.

use super::{
    object::{Object, ObjectKey},
    problem::Problem,
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
}
