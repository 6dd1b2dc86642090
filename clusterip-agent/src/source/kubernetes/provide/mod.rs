//! Addresses for load balancers of `--load-balancer-class`, written into their statuses: by one agent at a time, and without
//! harm if two believe to be it (docs/adr/0018-providing-addresses.md).
//!
//! ```text
//! snapshot --Pool (pure)--> what is wanted --when it is this node's turn--> record: the fresh truth, and what is reserved
//!                                     |                                            | guarded by its version
//!                                     '-> Event::Unprovided (what cannot be)       '-> PATCH services/status, guarded too
//! ```
//! Whose turn it is follows from the Node objects: the first by rendezvous hashing at once, each further one only when nothing has
//! happened for a while. So nobody has to say that it lives, and nobody else has to ask.

mod record;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

use self::record::{Refusal, Stop, round};
use super::{Servers, backoff::Backoff};
use crate::{
    clock::Clock,
    model::{
        announcer,
        event::Event,
        object::ObjectName,
        problem::Fault,
        provision::{Outcome, Pool, Provision, Reserved},
        range::ServiceRange,
        snapshot::Snapshot,
    },
    reconcile::Published,
};

/// How much longer each further node waits than the one before it.
const TURN: Duration = Duration::from_secs(5);
/// How long one waits that is not the first, and had to stand in for it the last time.
const STAND_IN: Duration = Duration::from_secs(1);
/// Until what was written comes back by the watch, and until another agent's round is over.
const SETTLE: Duration = Duration::from_secs(1);

/// Who provides, and what.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The node that this is.
    pub node: Arc<str>,
    /// `spec.loadBalancerClass` of the Services that get addresses.
    pub class: Arc<str>,
    /// Where these come from.
    pub pool: Vec<ServiceRange>,
}

/// Sees to it that each load balancer of the class has its addresses, until nothing is published or heard any more.
pub async fn provide(
    servers: Servers,
    provider: Provider,
    clock: Clock,
    mut published: watch::Receiver<Published>,
    events: mpsc::Sender<Vec<Event>>,
) {
    let mut turns = Turns::new(Pool::new(provider.pool.clone()));
    let mut said = BTreeMap::new();
    loop {
        let snapshot = {
            let seen = published.borrow_and_update();
            // Before all is listed nobody has anything (F1).
            seen.synced.then(|| seen.snapshot.clone())
        };
        let mut wake = None;
        if let Some(snapshot) = snapshot {
            let now = clock.now().elapsed;
            let (outcome, due) = turns.look(&snapshot, &provider.node, now);
            if due.is_some_and(|due| due <= now) {
                let done = round(&servers, &provider, &turns.pool, clock.now().wall).await;
                turns.note(done, clock.now().elapsed);
            }
            wake = turns.wake(&outcome, clock.now().elapsed);
            let faults = turns.faults(outcome);
            if faults != said {
                said.clone_from(&faults);
                if events.send(vec![Event::Unprovided(faults)]).await.is_err() {
                    return;
                }
            }
        }
        let sleep = async {
            match wake {
                Some(wake) => sleep_until(clock.at(wake)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            () = sleep => {}
        }
    }
}

/// When it is this node's turn. No clock.
struct Turns {
    pool: Pool,
    /// Since when something is to be written that nobody wrote.
    since: Option<Duration>,
    /// Where this node stands: 0 is the first.
    rank: Option<usize>,
    /// It wrote last, as far as it knows.
    stands_in: bool,
    /// Not before.
    again: Duration,
    backoff: Backoff,
    refusal: Option<String>,
}

impl Turns {
    const fn new(pool: Pool) -> Self {
        Self {
            pool,
            since: None,
            rank: None,
            stands_in: false,
            again: Duration::ZERO,
            backoff: Backoff::new(),
            refusal: None,
        }
    }

    /// What is to be written, and when by this node; none if that is never.
    fn look(
        &mut self,
        snapshot: &Snapshot,
        node: &str,
        now: Duration,
    ) -> (Outcome, Option<Duration>) {
        let all = snapshot.services.iter();
        let all: BTreeMap<ObjectName, Provision> = all
            .filter_map(|(name, it)| Some((name.clone(), it.provision.as_deref()?.clone())))
            .collect();
        self.pool.see(&all, now);
        self.rank = announcer::rank(node, &snapshot.providers);
        let outcome = self.pool.assign(&all, &Reserved::new());
        if outcome.grants.is_empty() {
            self.since = None;
            self.refusal = None;
            self.backoff = Backoff::new();
        } else {
            self.since.get_or_insert(now);
        }
        (outcome, self.due())
    }

    fn due(&self) -> Option<Duration> {
        let rank = u32::try_from(self.rank?).ok()?;
        let wait = match rank {
            0 => Duration::ZERO,
            _ if self.stands_in => STAND_IN,
            _ => TURN.saturating_mul(rank),
        };
        let due = self.since?.saturating_add(wait);
        Some(due.max(self.again))
    }

    /// What became of a round.
    fn note(&mut self, done: Result<(), Stop>, now: Duration) {
        self.again = now + SETTLE;
        match done {
            Ok(()) => {
                self.stands_in = self.rank != Some(0);
                self.refusal = None;
                self.backoff = Backoff::new();
            }
            // Somebody else was faster, and it is his turn.
            Err(Stop::Overtaken) => self.stands_in = false,
            Err(Stop::Refused(refusal)) => {
                let Refusal { cause, .. } = &refusal;
                let pause = self.backoff.pause(rand::random(), cause.again());
                self.again = now + pause.max(SETTLE);
                let text = refusal.to_string();
                if self.refusal.as_ref() != Some(&text) {
                    log::warn!(
                        "load balancers have not all their addresses: {text}; it is tried again"
                    );
                }
                self.refusal = Some(text);
            }
        }
    }

    /// What is wrong: what cannot be given, and what could not be written.
    fn faults(&self, outcome: Outcome) -> BTreeMap<ObjectName, Vec<Fault>> {
        let Outcome { grants, mut faults } = outcome;
        for name in self.refusal.iter().flat_map(|_| grants.keys()) {
            faults.entry(name.clone()).or_default().push(Fault {
                field: "status.loadBalancer".to_owned(),
                value: String::new(),
                message: self.refusal.clone().unwrap_or_default(),
            });
        }
        faults
    }

    /// When to look again if nothing happens.
    fn wake(&self, outcome: &Outcome, now: Duration) -> Option<Duration> {
        let due = self.due().filter(|_| !outcome.grants.is_empty());
        // A pool that is full has room when what was released has rested.
        let rested = self.pool.rested().filter(|_| !outcome.faults.is_empty());
        let first = due.into_iter().chain(rested).min()?;
        Some(first.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(rank: usize) -> Turns {
        Turns {
            since: Some(Duration::from_secs(100)),
            rank: Some(rank),
            ..Turns::new(Pool::new(Vec::new()))
        }
    }

    #[test]
    fn the_first_has_its_turn_at_once_and_each_other_one_when_nothing_happens() {
        let due = |turns: &Turns| turns.due().map(|due| due.as_secs());
        assert_eq!(due(&turns(0)), Some(100));
        assert_eq!(due(&turns(1)), Some(105));
        assert_eq!(due(&turns(7)), Some(135));
        let nobody = Turns {
            rank: None,
            ..turns(0)
        };
        assert_eq!(due(&nobody), None);
        // One that had to stand in does not wait that long again, until the first is there.
        let mut turns = turns(3);
        turns.note(Ok(()), Duration::from_secs(50));
        assert_eq!(due(&turns), Some(101));
        turns.note(Err(Stop::Overtaken), Duration::from_secs(101));
        assert_eq!(due(&turns), Some(115));
    }

    #[test]
    fn what_is_refused_is_tried_again_less_and_less_often_and_said() {
        let mut turns = turns(0);
        let mut now = Duration::from_secs(100);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            turns.note(Err(Stop::Refused(record::refusal_for_tests())), now);
            let due = turns.due().unwrap();
            pauses.push(due.saturating_sub(now));
            now = due;
        }
        assert!(
            pauses.is_sorted_by(|a, b| a.as_secs() <= b.as_secs() * 3),
            "{pauses:?}"
        );
        assert!(
            pauses
                .iter()
                .all(|it| *it >= SETTLE && *it <= Duration::from_secs(45))
        );
        assert!(
            pauses.last().is_some_and(|it| it.as_secs() >= 10),
            "{pauses:?}"
        );
        let web = ObjectName::new("default", "web");
        let outcome = Outcome {
            grants: [(web.clone(), Vec::new())].into(),
            faults: BTreeMap::new(),
        };
        let faults = turns.faults(outcome);
        let message = &faults[&web][0].message;
        assert!(
            message.starts_with("cannot patch services/status: 403 "),
            "{message}"
        );
        turns.note(Ok(()), now);
        assert_eq!(turns.refusal, None);
    }
}
