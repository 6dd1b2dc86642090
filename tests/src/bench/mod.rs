//! Figures for `cargo xtask bench`. Machines are noisy: what counts are ratios of one run.

pub mod agent;
pub mod dns;
pub mod packet;
pub mod socket;
