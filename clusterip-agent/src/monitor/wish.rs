//! What one listener wants to hear, and what the programs are asked for on behalf of all of them.

use clusterip_common::abi::{Event, EventKind, Outcome, ServiceId, Watch};

use crate::{
    model::object::ObjectName,
    view::{Selection, event::Peer},
};

/// A word that is neither a kind of event nor an outcome.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "there is no outcome {word}; {} are kinds of them, and each outcome of `clusterip status` has its name",
    kinds()
)]
pub struct UnknownWord {
    word: String,
}

fn kinds() -> String {
    EventKind::ALL.map(|(_, name)| name).join(", ")
}

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wish {
    /// Services; those of others, and what belongs to none, are left out if it says anything.
    pub selection: Selection,
    /// Bits of kinds and of outcomes: one of them is enough. None at all: everything but what is translated.
    kinds: u32,
    outcomes: u64,
    /// Whom it comes from.
    pub from: Option<Peer>,
    /// What was called, or who answers.
    pub to: Option<Peer>,
    /// Of translated packets one in so many.
    sample: u32,
    /// Whether the frames of what is rejected or dropped are wanted.
    pub capture: bool,
}

impl Wish {
    /// Of services and peers, with or without frames.
    #[must_use]
    pub fn about(
        selection: Selection,
        from: Option<Peer>,
        to: Option<Peer>,
        capture: bool,
    ) -> Self {
        Self {
            selection,
            from,
            to,
            capture,
            ..Self::default()
        }
    }

    /// Adds kinds and outcomes, separated by commas.
    ///
    /// # Errors
    /// A word that is neither.
    pub fn name(&mut self, words: &str) -> Result<(), UnknownWord> {
        for word in words.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let mut kinds = EventKind::ALL.iter();
            let mut outcomes = Outcome::ALL.iter();
            if let Some((kind, _)) = kinds.find(|(_, name)| *name == word) {
                self.kinds |= kind.bit();
            } else if let Some(outcome) = outcomes.find(|it| it.name() == word) {
                self.outcomes |= 1 << outcome.index();
            } else {
                return Err(UnknownWord {
                    word: word.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Of translated packets one in so many; by default none, and all where they are asked for by name.
    pub fn sample(&mut self, one_in: Option<u32>) {
        let known = [
            Outcome::Request,
            Outcome::Reply,
            Outcome::Hairpin,
            Outcome::Direct,
        ];
        let named = self.kinds & EventKind::TRANSLATED.bit() != 0
            || known.iter().any(|it| self.outcomes >> it.index() & 1 != 0);
        self.sample = one_in.unwrap_or(named.into());
    }

    /// One in so many of translated packets.
    #[must_use]
    pub const fn one_in(&self) -> u32 {
        self.sample
    }

    /// What the programs are to tell for it, until a moment: as much as is wanted at least. `ids` are those of the
    /// selection.
    pub fn watch(&self, ids: impl Iterator<Item = ServiceId>, until: u64) -> Watch {
        let translated = EventKind::TRANSLATED.bit();
        let kinds = match (self.kinds, self.outcomes) {
            (0, _) => !translated,
            (kinds, 0) => kinds & !translated,
            _ => !translated,
        };
        Watch {
            until,
            outcomes: match (self.kinds, self.outcomes) {
                (0, outcomes @ 1..) => outcomes,
                _ => u64::MAX,
            },
            services: if self.selection == Selection::default() {
                u64::MAX
            } else {
                ids.fold(0, |bits, ServiceId(id)| bits | Watch::service_bit(id))
            },
            kinds: if self.sample > 0 {
                kinds | translated
            } else {
                kinds
            },
            sample: self.sample,
            capture: self.capture.into(),
            zero: 0,
        }
    }

    /// Whether an event is wanted. `service` is the one it belongs to.
    #[must_use]
    pub fn has(&self, event: &Event, service: Option<&ObjectName>) -> bool {
        let is_named =
            self.kinds & event.kind.bit() != 0 || self.outcomes >> (event.outcome % 64) & 1 != 0;
        if (self.kinds, self.outcomes) != (0, 0) && !is_named {
            return false;
        }
        if event.kind == EventKind::TRANSLATED && self.sample == 0 {
            return false;
        }
        let is_selected = self.selection == Selection::default()
            || service.is_some_and(|service| self.selection.has(service));
        let (client, frontend, backend) = (
            (event.client, event.client_port),
            (event.frontend, event.frontend_port),
            (event.backend, event.backend_port),
        );
        let is = |peer: Peer, (address, port)| peer.is(address, port);
        is_selected
            && self.from.is_none_or(|peer| is(peer, client))
            && self
                .to
                .is_none_or(|peer| is(peer, frontend) || is(peer, backend))
    }
}

/// What is wanted by either.
pub(super) fn either(one: &Watch, other: &Watch) -> Watch {
    Watch {
        until: one.until.max(other.until),
        outcomes: one.outcomes | other.outcomes,
        services: one.services | other.services,
        kinds: one.kinds | other.kinds,
        sample: match (one.sample, other.sample) {
            (0, sample) | (sample, 0) => sample,
            (one, other) => one.min(other),
        },
        capture: one.capture | other.capture,
        zero: 0,
    }
}

#[cfg(test)]
mod tests {
    use clusterip_common::wire::{Addr, Be16};

    use super::*;

    fn wish(words: &str, one_in: Option<u32>) -> Wish {
        let mut wish = Wish::default();
        wish.name(words).expect("words");
        wish.sample(one_in);
        wish
    }

    fn event(kind: EventKind, outcome: Outcome) -> Event {
        Event {
            kind,
            outcome: outcome.index(),
            client: Addr::v4([10, 0, 0, 1]),
            client_port: Be16::new(4000),
            ..Event::NONE
        }
    }

    /// Whatever a listener wants is what the programs are asked for.
    #[test]
    fn a_watch_lets_through_all_that_is_wanted() {
        for words in [
            "",
            "dropped",
            "no-flow",
            "dropped,no-endpoint",
            "translated",
            "reply",
        ] {
            for one_in in [None, Some(0), Some(1)] {
                let wish = wish(words, one_in);
                let watch = wish.watch(std::iter::empty(), 10);
                for (kind, _) in EventKind::ALL {
                    for outcome in Outcome::ALL {
                        let wanted = wish.has(&event(kind, *outcome), None);
                        let told = watch.wants(kind, *outcome, 9);
                        assert!(told || !wanted, "{words} {kind:?} {outcome:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn translated_packets_are_told_only_where_they_are_asked_for() {
        let packet = event(EventKind::TRANSLATED, Outcome::Request);
        assert!(!wish("", None).has(&packet, None));
        assert!(wish("", Some(10)).has(&packet, None));
        assert!(wish("translated", None).has(&packet, None));
        assert!(wish("request", None).has(&packet, None));
        assert_eq!(wish("no-flow", None).one_in(), 0);
    }

    #[test]
    fn words_are_kinds_or_outcomes() {
        let wish = wish("dropped, no-endpoint", None);
        assert!(wish.has(&event(EventKind::DROPPED, Outcome::Fragment), None));
        assert!(wish.has(&event(EventKind::REJECTED, Outcome::NoEndpoint), None));
        assert!(!wish.has(&event(EventKind::REJECTED, Outcome::NoFlow), None));
        let error = Wish::default().name("lost").expect_err("no word of ours");
        assert!(
            error
                .to_string()
                .starts_with("there is no outcome lost; opened,"),
            "{error}"
        );
    }

    #[test]
    fn a_selection_and_peers_narrow_it() {
        let mut wish = wish("", None);
        let dropped = event(EventKind::DROPPED, Outcome::Fragment);
        wish.from = "10.0.0.1:4000".parse().ok();
        assert!(wish.has(&dropped, None));
        wish.to = "10.0.0.9".parse().ok();
        assert!(!wish.has(&dropped, None));
        wish.to = None;
        wish.selection.name = Some("web".to_owned());
        assert!(!wish.has(&dropped, None));
        assert!(wish.has(&dropped, Some(&ObjectName::new("default", "web"))));
        let ids = [3, 67, 5].map(ServiceId).into_iter();
        assert_eq!(wish.watch(ids, 1).services, 1 << 3 | 1 << 5);
    }

    #[test]
    fn two_listeners_get_what_either_wants() {
        let one = wish("dropped", None).watch(std::iter::empty(), 5);
        let other = wish("translated", Some(100)).watch(std::iter::empty(), 7);
        let both = either(&one, &other);
        assert_eq!(both.until, 7);
        assert_eq!(both.sample, 100);
        assert!(both.wants(EventKind::DROPPED, Outcome::Fragment, 6));
        assert!(both.wants(EventKind::TRANSLATED, Outcome::Reply, 6));
        assert!(!both.wants(EventKind::OPENED, Outcome::NewFlow, 6));
        assert_eq!(
            either(&both, &wish("", Some(10)).watch(std::iter::empty(), 0)).sample,
            10
        );
    }
}
