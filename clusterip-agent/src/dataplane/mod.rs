//! Where the tables go. The only importers of aya are below this folder.

pub mod announced;
pub mod attach;
pub mod attached;
mod batch;
pub mod borrow;
pub mod bpf;
pub mod cgroup;
pub mod counters;
pub mod diagnostics;
mod driver;
pub mod endpoints;
mod entries;
pub mod events;
pub mod expired;
pub mod faulty;
mod features;
pub mod flows;
pub mod footprint;
mod links;
pub mod load;
pub mod memory;
mod netdev;
pub mod netns;
mod pinned;
pub mod pins;
pub mod raw;
pub mod replica;
pub mod sockets;
mod swap;
pub mod takeover;
mod ticks;
pub mod ways;

pub use faulty::Faulty;
pub use memory::Memory;

use crate::plan::{Op, Tables};

/// Something that holds tables: the kernel's maps, or memory in tests.
pub trait Dataplane {
    /// What is in it now.
    ///
    /// # Errors
    /// A map that could not be read.
    fn dump(&mut self) -> Result<Tables, DataplaneError>;

    /// Carries out the operations in order; stops at the first that fails. What was done stays done: the remedy is
    /// to compute the difference again (F6).
    ///
    /// # Errors
    /// The operation that failed.
    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError>;
}

/// A map operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    /// A read.
    #[error("read map {map}")]
    Read {
        /// Which map.
        map: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A write.
    #[error("{operation} of map {map}, entry {entry}")]
    Write {
        /// Which map.
        map: &'static str,
        /// Update or delete.
        operation: &'static str,
        /// The key as text.
        entry: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl DataplaneError {
    /// What went wrong with the reading of a map.
    fn reading<E>(map: &'static str) -> impl Fn(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Read {
            map,
            source: source.into(),
        }
    }
}
