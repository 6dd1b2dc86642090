//! Objects from the API server of a cluster.
//!
//! ```text
//! API server --follow (one for each resource)--> [Heard] --Listing--> [Event]
//!            servers: which one, TLS, who we are            pure: what is known, what is gone, what is wrong
//!            lines:   a body as a row of lines
//!            decode:  a line as an object, or as a problem
//! ```
//! A lost API server changes nothing: what was heard stays in force (F4), and what changed meanwhile is found by the next
//! listing (F9). [ADR 12](../../../../docs/adr/0012-kubernetes-source.md) says why this is not kube's reflector.

mod announce;
mod backoff;
mod connection;
mod decode;
mod failure;
mod follow;
mod lines;
mod listing;
mod provide;
mod request;
mod resource;
mod servers;

use std::net::IpAddr;

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::{
    announce::announce,
    connection::{Connection, Standing, Tally},
    failure::Failure,
    provide::{Provider, provide},
    resource::{Resource, Scope},
    servers::{OpenError, Servers},
};
use self::{follow::Follower, listing::Listing};
use crate::{clock::Clock, model::event::Event};

/// Batches of one resource that may wait.
const QUEUE: usize = 32;

/// An API server that is listened to.
#[derive(Debug)]
pub struct Source {
    servers: Servers,
    scope: Scope,
    clock: Clock,
    connection: watch::Sender<Connection>,
    tally: Tally,
    addresses: Option<fn() -> Vec<IpAddr>>,
}

impl Source {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(servers: Servers, scope: Scope, clock: Clock) -> Self {
        Self {
            servers,
            scope,
            clock,
            connection: watch::channel(Connection::default()).0,
            tally: Tally::default(),
            addresses: None,
        }
    }

    /// The same with a look at the addresses of this machine, each time its node's object comes: another machine may have the same
    /// name.
    #[must_use]
    pub fn on_machine(mut self, addresses: fn() -> Vec<IpAddr>) -> Self {
        self.addresses = Some(addresses);
        self
    }

    /// How the server is reached.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// What is counted.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What tells it the time.
    #[must_use]
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Sends what the server says until nobody listens.
    pub async fn run(self, events: mpsc::Sender<Vec<Event>>) {
        let Self {
            servers,
            scope,
            clock,
            connection,
            tally,
            addresses,
        } = self;
        let (heard, mut inbox) = mpsc::channel(QUEUE);
        // Dropped with this future, and with it what runs in it.
        let mut followers = JoinSet::new();
        for resource in Resource::ALL {
            let follower = Follower::new(
                resource,
                servers.clone(),
                scope.clone(),
                tally.clone(),
                heard.clone(),
            );
            followers.spawn(follower.run());
        }
        drop(heard);
        let mut listing = Listing::new(scope.node());
        while let Some((resource, batch)) = inbox.recv().await {
            let now = clock.now().wall;
            let server = servers.current();
            connection.send_modify(|seen| {
                seen.note(resource, &batch, &server, now);
                let is_connected = seen.lost().is_none() && seen.unlisted().next().is_none();
                tally.connected.set(i64::from(is_connected));
            });
            if let Some(addresses) = addresses.filter(|_| resource == Resource::Node) {
                listing.set_own(addresses());
            }
            let told = listing.take(resource, batch);
            if !told.is_empty() && events.send(told).await.is_err() {
                return;
            }
        }
    }
}
