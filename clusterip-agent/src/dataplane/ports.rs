//! Which ports backends have: what the bitmap `PORTS` follows from. Whoever sends from another port cannot be answering
//! for a service, and the program does not look him up; so a bit may be there in vain, and must never be missing.

use std::collections::BTreeMap;

use clusterip_common::abi::{Backend, BackendId, BackendState};

use crate::plan::Tables;

/// Ports in a word of the bitmap.
const WORD: u16 = 64;

/// The ports of the backends that are not free, counted.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Ports {
    held: BTreeMap<BackendId, u16>,
    counts: BTreeMap<u16, u32>,
}

/// A word of the bitmap, and what it is to be.
type Word = (u32, u64);

/// What is to be written when a backend changes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Replaced {
    /// Before the backend is written.
    pub(super) before: Option<Word>,
    /// After it.
    pub(super) after: Option<Word>,
}

/// The word and the bit of a port.
pub(super) const fn place_of(port: u16) -> (u32, u64) {
    ((port / WORD) as u32, 1 << (port % WORD))
}

/// The port of a backend that is not free.
pub(super) fn port_of(backend: &Backend) -> Option<u16> {
    (backend.state != BackendState::FREE).then(|| backend.port.get())
}

impl Ports {
    /// The ports of these backends.
    #[must_use]
    pub fn of(tables: &Tables) -> Self {
        let mut ports = Self::default();
        for (id, backend) in &tables.backends {
            ports.replace(*id, port_of(backend));
        }
        ports
    }

    /// Whether a backend has that port.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.counts.contains_key(&port)
    }

    /// The whole bitmap.
    pub(super) fn words(&self) -> impl Iterator<Item = Word> {
        (0..=u16::MAX / WORD).map(|index| self.word(index))
    }

    /// A backend gets another port, its first one, or none.
    pub(super) fn replace(&mut self, id: BackendId, port: Option<u16>) -> Replaced {
        let mut replaced = Replaced::default();
        let old = match port {
            Some(port) => self.held.insert(id, port),
            None => self.held.remove(&id),
        };
        if let Some(port) = port {
            let count = self.counts.entry(port).or_default();
            *count += 1;
            if *count == 1 {
                replaced.before = Some(self.word(port / WORD));
            }
        }
        if let Some(old) = old {
            let left = self.counts.remove(&old).unwrap_or_default();
            if left > 1 {
                self.counts.insert(old, left - 1);
            } else {
                replaced.after = Some(self.word(old / WORD));
            }
        }
        replaced
    }

    fn word(&self, index: u16) -> Word {
        let first = index * WORD;
        let ports = self.counts.range(first..=first + (WORD - 1));
        let word = ports.fold(0, |word, (port, _)| word | place_of(*port).1);
        (u32::from(index), word)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repeatable::config;

    #[test]
    fn a_bit_is_set_before_the_first_backend_and_cleared_after_the_last_one() {
        let mut ports = Ports::default();
        let set = Replaced {
            before: Some((126, 1 << 16)),
            after: None,
        };
        assert_eq!(ports.replace(BackendId(1), Some(8080)), set);
        assert_eq!(ports.replace(BackendId(2), Some(8080)), Replaced::default());
        assert_eq!(ports.replace(BackendId(1), None), Replaced::default());
        assert!(ports.contains(8080));
        let cleared = Replaced {
            before: None,
            after: Some((126, 0)),
        };
        assert_eq!(ports.replace(BackendId(2), None), cleared);
        assert_eq!(ports, Ports::default());
    }

    #[test]
    fn a_backend_that_is_written_again_holds_its_port_once() {
        let mut ports = Ports::default();
        ports.replace(BackendId(1), Some(80));
        assert_eq!(ports.replace(BackendId(1), Some(80)), Replaced::default());
        assert!(ports.replace(BackendId(1), None).after.is_some());
    }

    #[test]
    fn both_ports_are_there_while_a_backend_moves_from_one_to_the_other() {
        let mut ports = Ports::default();
        ports.replace(BackendId(1), Some(1));
        let moved = Replaced {
            before: Some((0, 0b110)),
            after: Some((0, 0b100)),
        };
        assert_eq!(ports.replace(BackendId(1), Some(2)), moved);
    }

    #[test]
    fn the_first_and_the_last_port_have_their_bits() {
        let mut ports = Ports::default();
        ports.replace(BackendId(1), Some(0));
        ports.replace(BackendId(2), Some(u16::MAX));
        let words: Vec<_> = ports.words().filter(|(_, word)| *word != 0).collect();
        assert_eq!(words, [(0, 1), (1023, 1 << 63)]);
        assert_eq!(ports.words().count(), 1024);
    }

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn no_bit_is_ever_missing(
            steps in prop::collection::vec((0..6_u32, prop::option::of(0..70_u16)), 1..60)
        ) {
            let mut ports = Ports::default();
            let mut bitmap = [0_u64; 2];
            let mut backends: BTreeMap<u32, u16> = BTreeMap::new();
            let has = |bitmap: [u64; 2], port: u16| bitmap[usize::from(port / 64)] >> (port % 64) & 1 == 1;
            for (id, port) in steps {
                let Replaced { before, after } = ports.replace(BackendId(id), port);
                if let Some((index, word)) = before {
                    bitmap[index as usize] = word;
                }
                prop_assert!(backends.values().chain(port.iter()).all(|port| has(bitmap, *port)));
                match port {
                    Some(port) => backends.insert(id, port),
                    None => backends.remove(&id),
                };
                if let Some((index, word)) = after {
                    bitmap[index as usize] = word;
                }
                for port in 0..70 {
                    prop_assert_eq!(has(bitmap, port), backends.values().any(|it| *it == port));
                }
            }
        }
    }
}
