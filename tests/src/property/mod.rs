//! What holds for any packet: written once, for proptest (`tests/properties.rs`) and for the fuzzer (`fuzz/`).
//!
//! Each property takes any bytes, reads them as choices, and panics with the frames where it does not hold.

#![expect(
    clippy::indexing_slicing,
    reason = "a place that is not there is a breach of the property: it shall panic"
)]

mod checksum;
mod choices;
mod icmp;
mod parse;
mod process;
mod reading;
mod scene;
mod scrutiny;

pub use self::{checksum::checksum, icmp::icmp_inner, parse::parse, process::process};
