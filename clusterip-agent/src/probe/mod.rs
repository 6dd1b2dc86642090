//! What a kubelet does for the services of its pods, where none runs: probes, readiness, and pods that end (rules I).
//!
//! ```text
//! source -> [Event] -> Pods (pure: told the time and the results) -> [Event] -> reconcile
//!                        |  ^
//!                   Job  v  |  result
//!                   check: HTTP, TCP, gRPC, exec (tokio)
//! ```
//! Nobody behind it knows that there are probes: a pod comes with the condition `Ready`, as if its status said so.

mod agenda;
mod check;
mod definition;
mod exec;
mod grpc;
mod leaving;
mod pods;
mod results;
mod schedule;
mod standings;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod tracked;

pub use agenda::ProbeId;
pub use definition::{Check, Definition, Purpose, Timing, definitions};
pub use leaving::{Leaver, Leavers, Leaving};
pub use pods::{Job, Pods};
pub use results::Results;
pub use schedule::run;
pub use standings::{ProbeResult, Standing, Standings};
pub use state::{Thresholds, Verdict};
