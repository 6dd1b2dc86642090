//! The stream of events: from the programs' ring buffer to whoever listens on the agent's socket.
//!
//! Nothing is read, and the programs tell nothing, while nobody listens. A listener that does not keep up loses events,
//! which are counted for it alone, and holds up nobody.

mod pump;
mod wish;

use bytes::Bytes;
use tokio::sync::mpsc;

pub use self::{
    pump::{Surroundings, run},
    wish::{UnknownWord, Wish},
};

/// Listeners that may wait to be let in.
const WAITING: usize = 16;
/// Lines that wait for a listener.
const LINES: usize = 4096;

/// A listener, as the pump sees it.
pub struct Listener {
    wish: Wish,
    lines: mpsc::Sender<Bytes>,
}

/// Where listeners announce themselves.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Listener>);

/// A door, and where those that come in by it are met.
#[must_use]
pub fn door() -> (Door, mpsc::Receiver<Listener>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Door(sender), receiver)
}

impl Door {
    /// The lines that are wanted, from now on; the first one says that they are. None if nobody tells any.
    pub async fn listen(&self, wish: Wish) -> Option<mpsc::Receiver<Bytes>> {
        let (lines, receiver) = mpsc::channel(LINES);
        self.0.send(Listener { wish, lines }).await.ok()?;
        Some(receiver)
    }
}
