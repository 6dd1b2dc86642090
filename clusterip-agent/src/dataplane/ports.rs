//! Which ports backends have: a bit each, so that the program need not look up packets from any other.
//!
//! A bit is set before a backend with its port is written, and goes only when the tables are read anew: a late reply of
//! the last backend that had the port is still known by it, and dropped (C11).

use clusterip_common::abi::{Backend, BackendState};

use crate::plan::Tables;

/// Ports in one word of the bitmap.
const WORD: u16 = 64;
/// Words of the bitmap.
const WORDS: usize = 1024;

/// A word of the bitmap, and what it is to be.
type Word = (u32, u64);

/// The bitmap. None is ever missing of the ports that were added since it was derived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ports {
    words: Vec<u64>,
}

/// The word and the bit of a port.
pub(super) const fn place_of(port: u16) -> Word {
    ((port / WORD) as u32, 1 << (port % WORD))
}

impl Ports {
    /// The ports of the backends that are not free.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let mut ports = Self {
            words: vec![0; WORDS],
        };
        for backend in tables.backends.values() {
            ports.add(backend);
        }
        ports
    }

    /// Whether a backend may have that port; false is certain.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        let (index, bit) = place_of(port);
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
        let (index, bit) = place_of(backend.port.get());
        let word = self.words.get_mut(index as usize)?;
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new.then_some((index, *word))
    }
}

#[cfg(test)]
mod tests {
    use clusterip_common::{abi::BackendId, wire::Be16};
    use proptest::prelude::*;

    use super::*;
    use crate::repeatable::config;

    fn backend(port: u16, state: BackendState) -> Backend {
        Backend {
            port: Be16::new(port),
            state,
            ..Backend::default()
        }
    }

    #[test]
    fn a_word_is_written_for_the_first_backend_of_a_port_only() {
        let mut ports = Ports::of(&Tables::default());
        let active = backend(8080, BackendState::ACTIVE);
        assert_eq!(ports.add(&active), Some((126, 1 << 16)));
        assert_eq!(ports.add(&active), None);
        assert_eq!(ports.add(&backend(8080, BackendState::FREE)), None);
        assert!(ports.contains(8080), "a late reply is still to be known");
    }

    #[test]
    fn the_first_and_the_last_port_have_their_bits() {
        let mut ports = Ports::of(&Tables::default());
        ports.add(&backend(0, BackendState::GONE));
        ports.add(&backend(u16::MAX, BackendState::DRAINING));
        let words: Vec<_> = ports.words().filter(|(_, word)| *word != 0).collect();
        assert_eq!(words, [(0, 1), (1023, 1 << 63)]);
        assert_eq!(ports.words().count(), WORDS);
    }

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn what_is_derived_is_what_the_backends_have(
            held in prop::collection::vec((0..70_u16, any::<bool>()), 0..60)
        ) {
            let state = |used| if used { BackendState::ACTIVE } else { BackendState::FREE };
            let mut tables = Tables::default();
            for ((port, used), id) in held.iter().zip(0..) {
                tables.backends.insert(BackendId(id), backend(*port, state(*used)));
            }
            let ports = Ports::of(&tables);
            for port in 0..80 {
                prop_assert_eq!(ports.contains(port), held.contains(&(port, true)));
            }
        }
    }
}
