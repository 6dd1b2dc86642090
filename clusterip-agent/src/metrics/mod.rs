//! What the agent tells monitoring systems.

mod collector;
mod server;

pub use collector::Figures;
pub use server::{Health, health_routes, metrics_routes, serve};
