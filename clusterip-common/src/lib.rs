//! The bytes both sides agree on, and what is done to a packet.
//!
//! The eBPF program, the agent, the tests and `trace` share this crate. It knows nothing of aya, Kubernetes, time
//! or randomness: whatever is outside comes in through [`packet::Env`].
#![no_std]
#![deny(missing_docs, clippy::indexing_slicing)]
#![expect(
    clippy::inline_always,
    reason = "the verifier cannot follow packet pointers through a call, and a call costs more than most of these"
)]

pub mod abi;
pub mod packet;
pub mod wire;
