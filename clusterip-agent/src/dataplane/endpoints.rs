//! Which addresses and ports backends have: a bit each by a hash, so that the program need not look up packets of any other.
//!
//! A bit is set before a backend is written, and goes only when the tables are read anew: a late reply of a backend that
//! is gone is still known by it, and dropped (C11).

use clusterip_common::{
    abi::{Backend, BackendState, endpoint},
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
}

/// The word and the bit of an address and port.
pub(super) const fn place_of(address: Addr, port: Be16) -> Word {
    let bit = endpoint::bit_of(address, port);
    (bit / endpoint::WORD, 1 << (bit % endpoint::WORD))
}

impl Endpoints {
    /// Those of the backends that are not free.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let mut endpoints = Self {
            words: vec![0; WORDS],
        };
        for backend in tables.backends.values() {
            endpoints.add(backend);
        }
        endpoints
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
        let (index, bit) = place_of(backend.address, backend.port);
        let word = self.words.get_mut(index as usize)?;
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new.then_some((index, *word))
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
