//! Which addresses and ports backends have, and services towards the outside: a bit each by a hash, so that the program need not look up packets of any other.
//!
//! A bit is set before a backend is written. It goes when the tables are read anew and a look through the flows has found none
//! that leads there: a late reply of a backend that is gone is still known by it, and dropped (C11).

use std::sync::{Arc, Mutex, PoisonError};

use clusterip_common::{
    abi::{Backend, BackendState, Scope, ServiceKey, endpoint},
    wire::{Addr, Be16},
};

use crate::plan::Tables;

/// Words of the bitmap.
const WORDS: usize = (endpoint::BITS / endpoint::WORD) as usize;

/// A word of the bitmap, and what it is to be.
type Word = (u32, u64);

/// The bitmap. None is ever missing of the backends that were added since it was derived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoints {
    words: Vec<u64>,
    /// Those of backends, now or at any time since the last renewal: flows to them may have begun since.
    recent: Vec<u64>,
}

/// Where flows lead: found by whoever looks through them, for whoever writes the bitmap.
#[derive(Clone, Default, Debug)]
pub struct Destinations(Arc<Mutex<Search>>);

#[derive(Default, Debug)]
struct Search {
    /// Goes up with each renewal: a search that began before one has not seen all flows that may have begun since.
    round: u64,
    found: Option<Vec<u64>>,
}

impl Destinations {
    /// A search begins; the answer is to be handed in with what it found.
    #[must_use]
    pub fn begin(&self) -> u64 {
        self.search(|search| search.round)
    }

    /// What a search has found. It is of no use if the bitmap was renewed since it began.
    pub fn found(&self, round: u64, places: impl Iterator<Item = (Addr, Be16)>) {
        let mut words = vec![0; WORDS];
        for (address, port) in places {
            set(&mut words, place_of(address, port));
        }
        self.search(|search| {
            if search.round == round {
                search.found = Some(words);
            }
        });
    }

    fn next(&self) -> Option<Vec<u64>> {
        self.search(|search| {
            search.round += 1;
            search.found.take()
        })
    }

    fn search<T>(&self, act: impl FnOnce(&mut Search) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The word and the bit of an address and port.
pub(super) const fn place_of(address: Addr, port: Be16) -> Word {
    let bit = endpoint::bit_of(address, port);
    (bit / endpoint::WORD, 1 << (bit % endpoint::WORD))
}

/// Those of a frontend towards the outside, which no packet is known by otherwise: of its port, and of its address.
fn frontend_places(key: &ServiceKey) -> impl Iterator<Item = Word> + use<> {
    let is_called = matches!(key.scope, Scope::INSIDE | Scope::OUTSIDE);
    let ports = is_called.then_some([key.port, Be16::new(0)]);
    let address = key.address;
    ports.into_iter().flatten().map(move |port| {
        let bit = endpoint::frontend_bit_of(address, port);
        (bit / endpoint::WORD, 1 << (bit % endpoint::WORD))
    })
}

impl Endpoints {
    /// Those of the backends that are not free, and of the frontends towards the outside.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let mut words = vec![0; WORDS];
        let held = tables.backends.values();
        for backend in held.filter(|it| it.state != BackendState::FREE) {
            set(&mut words, place_of(backend.address, backend.port));
        }
        for place in tables.services.keys().flat_map(frontend_places) {
            set(&mut words, place);
        }
        Self {
            recent: words.clone(),
            words,
        }
    }

    /// Bits that somebody has set stay until they are known to be of no use.
    pub(super) fn keep(&mut self, words: impl Iterator<Item = Word>) {
        for (index, word) in words {
            set(&mut self.words, (index, word));
            set(&mut self.recent, (index, word));
        }
    }

    /// Those of `tables` are taken up. If a whole look through the flows falls between the last renewal and this one, those go
    /// that it did not find and that were no backend's since.
    pub(super) fn renew(&mut self, tables: &Tables, destinations: &Destinations) {
        let Self { words: held, .. } = Self::of(tables);
        if let Some(found) = destinations.next() {
            self.words = self.recent.iter().zip(found).map(|(a, b)| a | b).collect();
            self.recent.clone_from(&held);
        }
        self.keep((0..).zip(held));
    }

    /// Whether a backend may have that address and port; false is certain.
    #[must_use]
    pub fn contains(&self, address: Addr, port: Be16) -> bool {
        let (index, bit) = place_of(address, port);
        self.words
            .get(index as usize)
            .is_some_and(|word| word & bit != 0)
    }

    /// The whole bitmap.
    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        (0..).zip(self.words.iter().copied())
    }

    /// A backend is about to be written: the word to write before it, if its bit is not there yet.
    pub(super) fn add(&mut self, backend: &Backend) -> Option<Word> {
        if backend.state == BackendState::FREE {
            return None;
        }
        self.add_place(place_of(backend.address, backend.port))
    }

    /// The same of a frontend.
    pub(super) fn add_frontend(&mut self, key: &ServiceKey) -> Vec<Word> {
        let places = frontend_places(key);
        places.filter_map(|place| self.add_place(place)).collect()
    }

    fn add_place(&mut self, (index, bit): Word) -> Option<Word> {
        set(&mut self.recent, (index, bit));
        let word = self.words.get_mut(index as usize)?;
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new.then_some((index, *word))
    }
}

fn set(words: &mut [u64], (index, bits): Word) {
    if let Some(word) = words.get_mut(index as usize) {
        *word |= bits;
    }
}

#[cfg(test)]
mod tests {
    use clusterip_common::abi::BackendId;
    use proptest::prelude::*;

    use super::*;
    use crate::repeatable::config;

    fn backend(host: u8, port: u16, state: BackendState) -> Backend {
        Backend {
            address: Addr::v4([10, 244, 0, host]),
            port: Be16::new(port),
            state,
            ..Backend::default()
        }
    }

    #[test]
    fn a_word_is_written_for_the_first_backend_of_an_endpoint_only() {
        let mut endpoints = Endpoints::of(&Tables::default());
        let active = backend(1, 8080, BackendState::ACTIVE);
        let (index, word) = endpoints.add(&active).expect("a new bit");
        assert_eq!((index, word), place_of(active.address, active.port));
        assert_eq!(endpoints.add(&active), None);
        assert_eq!(endpoints.add(&backend(2, 8080, BackendState::FREE)), None);
        assert!(
            endpoints.contains(active.address, active.port),
            "a late reply is still to be known"
        );
    }

    #[test]
    fn few_that_are_no_endpoints_are_taken_for_some() {
        let mut endpoints = Endpoints::of(&Tables::default());
        for host in 0..=u8::MAX {
            endpoints.add(&backend(host, 8080, BackendState::ACTIVE));
        }
        let others = (0..=u8::MAX).filter(|host| {
            let other = backend(*host, 80, BackendState::ACTIVE);
            endpoints.contains(other.address, other.port)
        });
        let count = others.count();
        assert!(count <= 2, "{count} of 256, with one bit in 4,096 set");
        assert_eq!(endpoints.words().count(), WORDS);
    }

    #[test]
    fn a_bit_outlives_its_backend_as_long_as_flows_lead_there() {
        let (none, backend) = (Tables::default(), backend(1, 8080, BackendState::ACTIVE));
        let (address, port) = (backend.address, backend.port);
        let destinations = Destinations::default();
        let mut endpoints = Endpoints::of(&none);
        endpoints.add(&backend);
        // A flow begins unseen, then the backend goes.
        destinations.found(destinations.begin(), std::iter::empty());
        endpoints.renew(&none, &destinations);
        assert!(
            endpoints.contains(address, port),
            "C11: was a backend since"
        );
        endpoints.renew(&none, &destinations);
        assert!(endpoints.contains(address, port), "C11: nobody has looked");
        destinations.found(destinations.begin(), [(address, port)].into_iter());
        endpoints.renew(&none, &destinations);
        assert!(endpoints.contains(address, port), "C11: a flow leads there");
        let early = destinations.begin();
        endpoints.renew(&none, &destinations);
        destinations.found(early, std::iter::empty());
        endpoints.renew(&none, &destinations);
        assert!(
            endpoints.contains(address, port),
            "C11: the look began before the renewal"
        );
        destinations.found(destinations.begin(), std::iter::empty());
        endpoints.renew(&none, &destinations);
        assert!(
            !endpoints.contains(address, port),
            "no flow leads there any more"
        );
    }

    proptest! {
        #![proptest_config(config(64))]

        #[test]
        fn what_backends_have_is_always_found(
            held in prop::collection::vec((any::<u8>(), any::<u16>()), 0..60)
        ) {
            let mut tables = Tables::default();
            for ((host, port), id) in held.iter().zip(0..) {
                tables.backends.insert(BackendId(id), backend(*host, *port, BackendState::ACTIVE));
            }
            let endpoints = Endpoints::of(&tables);
            for entry in tables.backends.values() {
                prop_assert!(endpoints.contains(entry.address, entry.port));
            }
        }
    }
}
