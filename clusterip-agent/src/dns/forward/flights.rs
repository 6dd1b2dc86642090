//! One question is asked upstream once at a time, whoever waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use super::{key::Key, packed::Packed};

/// Questions that may be on their way at once. A further one is refused: whoever floods us shall not flood others.
const MOST: usize = 1_024;

/// What came of a question: a reply, or none.
pub(super) type Outcome = Option<Arc<Packed>>;

/// Where one waits for the outcome.
#[derive(Clone, Debug)]
pub(super) struct Waiting(watch::Receiver<Option<Outcome>>);

impl Waiting {
    /// The outcome. None too if whoever asked is gone.
    pub(super) async fn outcome(mut self) -> Outcome {
        let seen = self.0.wait_for(Option::is_some).await.ok()?;
        seen.clone().flatten()
    }
}

/// Who has to bring the outcome.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Arc<Flights>,
    key: Key,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flight {
    /// Hands it to all that wait.
    pub(super) fn land(self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.under_way().remove(&self.key);
    }
}

/// A question that is to be asked: by whom.
#[derive(Debug)]
pub(super) enum Boarding {
    /// By the caller, who brings the outcome.
    Pilot(Flight, Waiting),
    /// By somebody else already.
    Passenger(Waiting),
    /// By nobody: too many are on their way.
    Full,
}

/// The questions on their way.
#[derive(Default, Debug)]
pub(super) struct Flights(Mutex<HashMap<Key, Waiting>>);

impl Flights {
    /// Waits for a question's outcome, and says whether the caller has to bring it.
    pub(super) fn board(self: &Arc<Self>, key: &Key) -> Boarding {
        let mut under_way = self.under_way();
        if let Some(waiting) = under_way.get(key) {
            return Boarding::Passenger(waiting.clone());
        }
        if under_way.len() >= MOST {
            return Boarding::Full;
        }
        let (outcome, seen) = watch::channel(None);
        let waiting = Waiting(seen);
        under_way.insert(key.clone(), waiting.clone());
        let flight = Flight {
            flights: Arc::clone(self),
            key: key.clone(),
            outcome,
        };
        Boarding::Pilot(flight, waiting)
    }

    fn under_way(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Waiting>> {
        // Nothing panics while it is held; a map is valid even then.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::packed::tests::{positive, question},
        *,
    };

    fn key(number: usize) -> Key {
        Key::new(&question(&format!("n{number}.test.")))
    }

    #[tokio::test]
    async fn the_first_asks_and_all_get_the_outcome() {
        let flights = Arc::new(Flights::default());
        let Boarding::Pilot(flight, own) = flights.board(&key(0)) else {
            panic!("somebody else asks");
        };
        let Boarding::Passenger(other) = flights.board(&key(0)) else {
            panic!("it is asked twice");
        };
        let reply = Arc::new(positive("n0.test.", 1));
        flight.land(Some(Arc::clone(&reply)));
        assert_eq!(own.outcome().await, Some(Arc::clone(&reply)));
        assert_eq!(other.outcome().await, Some(reply));
        assert!(
            matches!(flights.board(&key(0)), Boarding::Pilot(..)),
            "it has landed"
        );
    }

    #[tokio::test]
    async fn who_waits_for_a_flight_that_was_lost_is_not_left_waiting() {
        let flights = Arc::new(Flights::default());
        let Boarding::Pilot(flight, waiting) = flights.board(&key(0)) else {
            panic!("somebody else asks");
        };
        drop(flight);
        assert_eq!(waiting.outcome().await, None);
        assert!(matches!(flights.board(&key(0)), Boarding::Pilot(..)));
    }

    #[test]
    fn the_number_on_their_way_is_bounded() {
        let flights = Arc::new(Flights::default());
        let board = |number| flights.board(&key(number));
        let mut boarded: Vec<Boarding> = (0..MOST).map(board).collect();
        assert!(matches!(board(MOST), Boarding::Full));
        assert!(matches!(board(0), Boarding::Passenger(_)));
        boarded.pop();
        assert!(matches!(board(MOST), Boarding::Pilot(..)));
    }
}
