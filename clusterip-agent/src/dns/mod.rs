//! Names: what pods resolve, from the snapshot that the maps were written from.
//!
//! ```text
//! socket --bytes--> message::read --Query--> answer(&Zone, &State, &Query) --Reply--> message::write --bytes--> socket
//!                   (garbage, classes,       pure: no clock, no tokio      |          (EDNS, truncation)
//!                    opcodes, transfers)                                   '-- names outside the zone: `forward`
//! ```
//! The socket's task holds an `Arc` of the state and looks for a newer one by an atomic number: no lock is taken for an
//! answer. A name leads to an address only after the maps hold it.

pub mod access;
pub mod account;
pub mod answer;
mod connections;
pub mod forward;
pub mod inquiry;
mod message;
pub mod metrics;
mod records;
pub mod reply;
pub mod responder;
mod reverse;
pub mod server;
pub mod state;
#[cfg(test)]
mod tests;
pub mod zone;
