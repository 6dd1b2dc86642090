//! Bytes that both ends of a transfer can make, so that each byte is compared and the first wrong one is named.

use std::sync::LazyLock;

use bytes::Bytes;

/// A prime: no power of two and no segment size divides it, so bytes that moved by any number of segments differ.
const PERIOD: usize = 65_521;

static TABLE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x2545_f491_u32;
    (0..2 * PERIOD)
        .map(|i| {
            if i == PERIOD {
                state = 0x2545_f491;
            }
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
});

/// Some of the bytes from `offset` on, at most `limit`; at least one unless `limit` is 0.
#[must_use]
pub fn at(offset: u64, limit: u64) -> Bytes {
    // Both fit: the first is below the period, the second is cut to it.
    let start = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
    let length = usize::try_from(limit).unwrap_or(PERIOD).min(PERIOD);
    TABLE.slice(start..start + length)
}

/// Offset of the first byte of `found`, which begins at `offset` of the transfer, that is not the pattern's.
#[must_use]
pub fn difference(offset: u64, found: &[u8]) -> Option<u64> {
    let mut at = offset;
    for part in found.chunks(PERIOD) {
        let wanted = self::at(at, part.len() as u64);
        if wanted != part {
            let good = wanted.iter().zip(part).take_while(|(a, b)| a == b).count();
            return Some(at + good as u64);
        }
        at += part.len() as u64;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_goes_on_where_it_stopped() {
        let first = at(1000, u64::MAX);
        let whole = [&first[..], &at(1000 + first.len() as u64, 5000)].concat();
        assert_eq!(difference(1000, &whole), None);
        assert_eq!(at(0, 100), at(PERIOD as u64, 100));
    }

    #[test]
    fn the_first_wrong_byte_is_named() {
        let mut bytes = at(70_000, 40_000).to_vec();
        bytes[12_345] ^= 1;
        assert_eq!(difference(70_000, &bytes), Some(82_345));
    }

    #[test]
    fn bytes_that_moved_by_a_segment_differ() {
        for segment in [1, 1448, 1460, 65_483, 65_160] {
            assert!(difference(segment, &at(0, 4096)).is_some(), "{segment}");
        }
    }
}
