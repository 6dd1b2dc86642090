//! From a snapshot to map entries: pure.

pub mod diff;
pub mod op;
pub mod tables;

pub use diff::diff;
pub use op::Op;
pub use tables::Tables;
