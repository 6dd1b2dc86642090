//! What the tests share: packets as sentences, their world, and the cases that run on the host and in the kernel.

pub mod case;
pub mod host;
pub mod packet;
pub mod privilege;
pub mod vectors;
pub mod world;
