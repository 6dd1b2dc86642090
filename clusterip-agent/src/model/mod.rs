//! The cluster as it was given and as it was resolved. Pure: no clock, no I/O, no tokio.

pub mod event;
pub mod object;
pub mod problem;
