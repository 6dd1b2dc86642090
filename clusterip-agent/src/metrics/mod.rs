//! What the agent tells monitoring systems.

mod collector;
mod server;

pub use collector::Figures;
pub use server::{registry, routes, serve};
