//! What the tests and the demo are made of.

pub mod scenario;
