//! What the agent tells monitoring systems.

mod catalog;
mod collector;
mod kube_proxy;
mod server;
#[cfg(test)]
mod tests;
mod text;

pub use collector::Figures;
pub use server::{registry, routes, serve};
