//! Figures for `cargo xtask bench`. Machines are noisy: what counts are ratios of one run.

pub mod agent;
pub mod all;
pub mod dns;
pub mod document;
pub mod frames;
pub mod outside;
pub mod packet;
pub mod path;
pub mod plot;
pub mod socket;
pub mod table;
pub mod uplink;
