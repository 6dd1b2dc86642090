//! The Internet checksum (RFC 1071), incrementally (RFC 1624).
#![expect(
    clippy::host_endian_bytes,
    reason = "a one's complement sum is the same in either order (RFC 1071, 2.B): words are added as they lie in memory"
)]

use crate::wire::Addr;

/// A one's complement sum that is not folded yet, of 16-bit words as they lie in memory. Up to 65,536 words fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Sum(pub u32);

impl Sum {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Plus `bytes`; an odd last byte is padded with zero.
    #[inline(always)]
    pub fn plus(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(2);
        for word in &mut words {
            if let [a, b] = *word {
                self.0 += u32::from(u16::from_ne_bytes([a, b]));
            }
        }
        if let [last] = *words.remainder() {
            self.0 += u32::from(u16::from_ne_bytes([last, 0]));
        }
        self
    }

    /// Minus `bytes`, an even number of them.
    #[inline(always)]
    pub fn minus(mut self, bytes: &[u8]) -> Self {
        for word in bytes.chunks_exact(2) {
            if let [a, b] = *word {
                self.0 += u32::from(!u16::from_ne_bytes([a, b]));
            }
        }
        self
    }

    /// What changes when `old` becomes `new`, which have the same even length.
    #[inline(always)]
    pub fn change(old: &[u8], new: &[u8]) -> Self {
        Self::ZERO.minus(old).plus(new)
    }

    /// What changes when one address becomes another, 64 bits at a time: of one's complement the carries may be added at the end (RFC 1071, 2.C).
    #[inline(always)]
    pub(super) const fn readdress(old: Addr, new: Addr) -> Self {
        let ([a, b], [c, d]) = (old.words(), new.words());
        let sum = halves(!a) + halves(!b) + halves(c) + halves(d);
        #[expect(clippy::cast_possible_truncation, reason = "17 bits and a carry")]
        let folded = {
            let once = (sum & 0xffff_ffff) + (sum >> 32);
            ((once & 0xffff) + (once >> 16)) as u32
        };
        Self(folded)
    }

    /// The same of four bytes, as the number that they are in memory.
    #[inline(always)]
    pub(super) const fn reword(old: u32, new: u32) -> Self {
        Self((!old & 0xffff) + (!old >> 16) + (new & 0xffff) + (new >> 16))
    }

    /// Both.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum in 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let once = (self.0 & 0xffff) + (self.0 >> 16);
        let twice = (once & 0xffff) + (once >> 16);
        (twice & 0xffff) as u16
    }

    /// The checksum of what was summed.
    #[inline(always)]
    #[must_use]
    pub const fn checksum(self) -> [u8; 2] {
        (!self.fold()).to_ne_bytes()
    }

    /// `checksum` after a change: RFC 1624, equation 3.
    #[inline(always)]
    #[must_use]
    pub fn fix(self, checksum: [u8; 2]) -> [u8; 2] {
        self.and(Self(u32::from(!u16::from_ne_bytes(checksum))))
            .checksum()
    }
}

#[inline(always)]
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn bytes(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_ne_bytes()[0]
            })
            .collect()
    }

    #[test]
    fn a_fixed_checksum_is_the_checksum_of_the_changed_text() {
        for seed in 1..2_000 {
            let mut text = bytes(seed, usize::try_from(40 + seed % 60).unwrap());
            let before = Sum::ZERO.plus(&text).checksum();
            let new = bytes(seed + 99, 16);
            let old: Vec<u8> = text.splice(8..24, new.iter().copied()).collect();
            let after = Sum::ZERO.plus(&text).checksum();
            assert_eq!(
                Sum::change(&old, &new).fix(before),
                after,
                "D2, seed {seed}"
            );
        }
    }

    #[test]
    fn d2_wide_words_come_to_the_same_checksum() {
        let edges = [[0; 16], [0xff; 16]];
        let any = |seed| <[u8; 16]>::try_from(bytes(seed, 16)).unwrap();
        let texts: Vec<[u8; 16]> = edges.into_iter().chain((1..60).map(any)).collect();
        for (old, new) in texts
            .iter()
            .flat_map(|old| texts.iter().map(move |new| (old, new)))
        {
            let before = Sum::ZERO.plus(b"before").plus(old).checksum();
            let after = Sum::change(old, new).fix(before);
            let wide = Sum::readdress(Addr::v6(*old), Addr::v6(*new));
            assert_eq!(wide.fix(before), after, "{old:x?} to {new:x?}");
            let word = |text: &[u8; 16]| u32::from_ne_bytes(*text.first_chunk().unwrap());
            let narrow = Sum::reword(word(old), word(new));
            let part = Sum::change(&old[..4], &new[..4]);
            assert_eq!(narrow.fix(before), part.fix(before), "{old:x?} to {new:x?}");
        }
    }

    #[test]
    fn rfc_1071_example() {
        let sum = Sum::ZERO.plus(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold().to_ne_bytes(), [0xdd, 0xf2]);
    }
}
