//! The bytes both sides agree on, and what is done to a packet.
//!
//! The eBPF program, the agent, the tests and `trace` share this crate. It knows nothing of aya, Kubernetes, time
//! or randomness: whatever is outside comes in through [`packet::Env`].
#![no_std]

pub mod abi;
pub mod packet;
pub mod wire;
