//! The agent's API: documents of `view` as JSON over HTTP, on a unix socket.
//!
//! Readers never wait for the writer, nor it for them: each answer is made of the snapshot that is published when the
//! question comes. What takes system calls is done aside, a few at a time.

mod ages;
pub mod client;
mod conversation;
mod kernel;
mod refusal;
mod routes;
pub mod socket;
mod stream;
mod trace;

use std::{sync::Arc, time::Instant};

use clusterip_common::abi::Settings;
use tokio::sync::{Semaphore, watch};

pub use self::{ages::Ages, kernel::KernelTables, routes::routes, trace::Tracing};
use crate::{
    attachments::Attachments, dns::inquiry::Inquirer, monitor::Door, probe::Standings,
    reconcile::Published, source::kubernetes::Connection, view::status::AgentFacts,
};

/// Readings of whole tables at once: more would only take the processors from the packets.
const READINGS: usize = 2;

/// Where the documents come from.
pub struct Sources {
    /// The model and its ids.
    pub published: watch::Receiver<Published>,
    /// The devices with hooks.
    pub attached: watch::Receiver<Option<Attachments>>,
    /// What the probes found.
    pub probes: watch::Receiver<Standings>,
    /// When services were seen first.
    pub ages: watch::Receiver<Ages>,
    /// Asks the resolver.
    pub names: Inquirer,
    /// Where those who listen to events come in.
    pub monitor: Door,
    /// What it takes to run a made-up packet.
    pub tracing: Tracing,
    /// What the kernel holds.
    pub kernel: KernelTables,
    /// Capacities of the maps, by name.
    pub capacity: Vec<(&'static str, u32)>,
    /// How long flows live.
    pub settings: Settings,
    /// What does not change.
    pub facts: AgentFacts,
    /// Kind and place of the source of objects.
    pub source: (&'static str, String),
    /// How the API server is reached, if that is the source.
    pub connection: Option<watch::Receiver<Connection>>,
    /// When the agent started.
    pub started: Instant,
}

/// What the routes share.
struct Shared {
    sources: Sources,
    turns: Semaphore,
}

impl Shared {
    fn new(sources: Sources) -> Arc<Self> {
        Arc::new(Self {
            sources,
            turns: Semaphore::new(READINGS),
        })
    }
}

/// Keeps the ages up to date until nothing is published any more.
pub async fn follow_ages(published: watch::Receiver<Published>, ages: watch::Sender<Ages>) {
    ages::follow(published, ages).await;
}
