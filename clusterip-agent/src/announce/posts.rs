//! What is said on which link about which address, and when: a probe before an address is announced, some announcements then,
//! silence while somebody else has it (RFC 5227). Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clusterip_common::packet::Mac;

use crate::dataplane::announced::Place;

/// How often somebody else is asked for, and how long an answer may take. RFC 5227 has 1 to 2 s; a node that takes over from
/// another one would be as long unreachable.
const PROBES: u32 = 3;
const PROBE_WAIT: Duration = Duration::from_millis(200);
/// How often it is announced: one message may be lost.
const ANNOUNCEMENTS: u32 = 3;
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);
/// Until it is asked again whether somebody else still has it; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(8);
/// Who gives an address up, because another node is elected, answers for it a moment longer: from this round on it is said.
const REPORTED: u32 = 2;

/// Something to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// Who has it?
    Probe,
    /// This node has.
    Announcement,
}

/// Somebody else has the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Contest {
    mac: Mac,
    /// How often it was found to be so.
    rounds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Probes that are left, the contest before them, and when the next step is.
    Probing(u32, Option<Contest>, Duration),
    /// Announcements that are left, and when the next one is.
    Announced(u32, Duration),
    /// When it is asked again.
    Contested(Contest, Duration),
}

/// The addresses of this node, each on each link.
#[derive(Debug, Default)]
pub(super) struct Posts(BTreeMap<Place, State>);

impl Posts {
    /// Takes up what is new and lets go of what is not wanted any more. What is in `known` was announced by an earlier agent,
    /// and goes on being so.
    pub(super) fn follow(
        &mut self,
        wanted: &BTreeSet<Place>,
        known: &BTreeSet<Place>,
        now: Duration,
    ) {
        self.0.retain(|place, _| wanted.contains(place));
        for place in wanted {
            let state = if known.contains(place) {
                State::Announced(1, now)
            } else {
                State::Probing(PROBES, None, now)
            };
            self.0.entry(*place).or_insert(state);
        }
    }

    /// Somebody else says that it has the address.
    pub(super) fn claimed(&mut self, place: Place, mac: Mac, now: Duration) {
        let Some(state) = self.0.get_mut(&place) else {
            return;
        };
        let rounds = match state {
            State::Probing(_, None, _) | State::Announced(..) => 1,
            State::Probing(_, Some(contest), _) => contest.rounds + 1,
            // It has been asked for: this is known.
            State::Contested(..) => return,
        };
        let pause = FIRST_PAUSE * 2_u32.saturating_pow((rounds - 1).min(8));
        let contest = Contest { mac, rounds };
        *state = State::Contested(contest, now + pause.min(LAST_PAUSE));
    }

    /// What is to be said now.
    pub(super) fn due(&mut self, now: Duration) -> Vec<(Place, Message)> {
        let mut due = Vec::new();
        for (place, state) in &mut self.0 {
            if let State::Contested(contest, at) = *state
                && at <= now
            {
                *state = State::Probing(PROBES, Some(contest), now);
            }
            if let State::Probing(0, _, at) = *state
                && at <= now
            {
                *state = State::Announced(ANNOUNCEMENTS, now);
            }
            match state {
                State::Probing(left, _, at) if *left > 0 && *at <= now => {
                    *left -= 1;
                    *at = now + PROBE_WAIT;
                    due.push((*place, Message::Probe));
                }
                State::Announced(left, at) if *left > 0 && *at <= now => {
                    *left -= 1;
                    *at = now + ANNOUNCE_INTERVAL;
                    due.push((*place, Message::Announcement));
                }
                _ => {}
            }
        }
        due
    }

    /// What could not be sent does not count.
    pub(super) fn unsent(&mut self, place: Place, now: Duration) {
        match self.0.get_mut(&place) {
            Some(State::Probing(left, _, at) | State::Announced(left, at)) => {
                *left += 1;
                *at = now + ANNOUNCE_INTERVAL;
            }
            Some(State::Contested(..)) | None => {}
        }
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Option<Duration> {
        let times = self.0.values().filter_map(|state| match state {
            State::Announced(0, _) => None,
            State::Probing(_, _, at) | State::Announced(_, at) | State::Contested(_, at) => {
                Some(*at)
            }
        });
        times.min()
    }

    /// What programs are to answer for.
    pub(super) fn announced(&self) -> impl Iterator<Item = Place> {
        let all = self.0.iter();
        all.filter_map(|(place, state)| matches!(state, State::Announced(..)).then_some(*place))
    }

    /// Who else has which address, where that has lasted.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (Place, Mac)> {
        self.0.iter().filter_map(|(place, state)| match state {
            State::Contested(contest, _) | State::Probing(_, Some(contest), _) => {
                (contest.rounds >= REPORTED).then_some((*place, contest.mac))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const OTHER: Mac = [2, 0, 0, 0, 0, 9];

    fn place() -> Place {
        (IpAddr::from([203, 0, 113, 64]), 3)
    }

    fn wanted() -> BTreeSet<Place> {
        BTreeSet::from([place()])
    }

    /// Posts with one address, and the time.
    struct Link(Posts, Duration);

    impl Link {
        fn new(known: &BTreeSet<Place>) -> Self {
            let mut posts = Posts::default();
            posts.follow(&wanted(), known, Duration::ZERO);
            Self(posts, Duration::ZERO)
        }

        /// What is said until nothing is due for `patience`.
        fn says(&mut self, patience: Duration) -> Vec<Message> {
            let mut said = Vec::new();
            while let Some(at) = self.0.next().filter(|at| *at <= self.1 + patience) {
                self.1 = at;
                said.extend(self.0.due(at).into_iter().map(|(_, message)| message));
            }
            said
        }

        fn is_announced(&self) -> bool {
            self.0.announced().eq([place()])
        }
    }

    #[test]
    fn an_address_is_asked_for_before_it_is_announced() {
        let mut link = Link::new(&BTreeSet::new());
        assert_eq!(link.says(Duration::ZERO), [Message::Probe]);
        assert!(!link.is_announced());
        let (probe, announcement) = (Message::Probe, Message::Announcement);
        assert_eq!(link.says(PROBE_WAIT), [probe, probe, announcement]);
        assert!(link.is_announced());
        assert_eq!(link.says(ANNOUNCE_INTERVAL), [announcement; 2]);
        assert_eq!(link.0.next(), None);
        link.0.follow(&BTreeSet::new(), &BTreeSet::new(), link.1);
        assert_eq!(link.0.announced().count(), 0);
    }

    /// F4
    #[test]
    fn what_an_earlier_agent_announced_goes_on_being_announced() {
        let mut link = Link::new(&wanted());
        assert!(link.is_announced());
        assert_eq!(link.says(ANNOUNCE_INTERVAL), [Message::Announcement]);
    }

    #[test]
    fn an_address_that_somebody_else_has_is_announced_when_it_is_free() {
        for known in [BTreeSet::new(), wanted()] {
            let mut link = Link::new(&known);
            for round in 1..5 {
                let said = link.says(Duration::ZERO);
                assert!(said.len() <= 1, "{said:?}");
                link.0.claimed(place(), OTHER, link.1);
                link.0.claimed(place(), OTHER, link.1);
                assert!(!link.is_announced());
                let seen: Vec<Mac> = link.0.conflicts().map(|(_, mac)| mac).collect();
                // A node that gives it up may answer once more.
                assert_eq!(seen.is_empty(), round == 1, "round {round}");
                link.1 = link.0.next().unwrap();
            }
            let said = link.says(PROBE_WAIT);
            assert_eq!(said.last(), Some(&Message::Announcement));
            assert!(link.is_announced());
            assert_eq!(link.0.conflicts().count(), 0);
        }
    }

    #[test]
    fn what_could_not_be_sent_is_sent_later() {
        let mut link = Link::new(&BTreeSet::new());
        assert_eq!(link.0.due(link.1).len(), 1);
        link.0.unsent(place(), link.1);
        let said = link.says(ANNOUNCE_INTERVAL);
        assert_eq!(said.iter().filter(|it| **it == Message::Probe).count(), 3);
    }
}
