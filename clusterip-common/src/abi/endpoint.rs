//! Which addresses and ports backends have, roughly: a bit each, by a hash.

use crate::wire::{Addr, Be16};

/// Bits in the map.
pub const BITS: u32 = 1 << 20;
/// Bits in one of its words.
pub const WORD: u32 = 64;

/// Tells what services are called by towards the outside from what backends have.
const FRONTEND: u64 = 0xa076_1d64_78bd_642f;

/// The bit of an address and port that backends have.
#[inline(always)]
#[must_use]
pub const fn bit_of(address: Addr, port: Be16) -> u32 {
    salted(address, port, 0)
}

/// The bit of an address and port that a service has towards the outside; of port 0, that the address has any.
#[inline(always)]
#[must_use]
pub const fn frontend_bit_of(address: Addr, port: Be16) -> u32 {
    salted(address, port, FRONTEND)
}

#[inline(always)]
const fn salted(address: Addr, port: Be16, salt: u64) -> u32 {
    let [high, low] = address.words();
    let seed =
        salt ^ low ^ high.rotate_left(31) ^ (port.get() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the highest bits, which are mixed best"
    )]
    let bit = (mix(seed) >> (64 - BITS.trailing_zeros())) as u32;
    bit
}

/// The finalizer of `SplitMix64`.
#[inline(always)]
#[must_use]
pub const fn mix(mut word: u64) -> u64 {
    word ^= word >> 30;
    word = word.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^= word >> 27;
    word = word.wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}
