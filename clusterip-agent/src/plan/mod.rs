//! From a snapshot to map entries: pure.

pub mod change;
mod departed;
pub mod desired;
pub mod diff;
mod ids;
pub mod index;
pub mod layout;
pub mod left;
pub mod maglev;
pub mod op;
mod place;
mod restore;
mod room;
mod runs;
pub mod spread;
pub mod tables;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use diff::diff;
pub use index::{Index, Placement};
pub use layout::{Full, Layout, Limits};
pub use op::Op;
pub use tables::Tables;
