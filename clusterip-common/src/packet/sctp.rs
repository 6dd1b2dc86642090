//! SCTP: its chunks as the signals of TCP, and its `CRC32c` (D3).

use super::{
    frame::Frame,
    parse::{Ports, TcpFlags},
};
use crate::wire::Le32;

/// Bytes of the common header.
const COMMON: usize = 12;
/// With the header of the first chunk.
pub(super) const HEADER: usize = COMMON + 4;
/// Where the CRC stands.
const CHECKSUM: usize = 8;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN_COMPLETE: u8 = 14;

/// What a packet says of its association, in TCP's words: by its first chunk. None: the header is cut off.
///
/// A buffer of many packets has no chunk in reach. Only data is sent so: what begins or ends an association stands alone (RFC 9260, 6.10).
#[inline(always)]
pub(super) fn signal<F: Frame>(frame: &F, l4: usize) -> Option<TcpFlags> {
    frame.at::<[u8; COMMON]>(l4)?;
    let kind = frame.at::<[u8; 1]>(l4 + COMMON);
    Some(TcpFlags(match kind {
        Some([INIT]) => TcpFlags::SYN,
        Some([INIT_ACK]) => TcpFlags::SYN | TcpFlags::ACK,
        Some([ABORT | SHUTDOWN_COMPLETE]) => TcpFlags::RST,
        _ => TcpFlags::ACK,
    }))
}

/// Makes the CRC right after the ports have changed; of addresses it knows nothing. `length` is that of the packet from
/// the ports on. A CRC of zero is one that is left to the device to compute, over what it finds then. False: the frame
/// ended early.
#[inline(always)]
pub(super) fn fix<F: Frame>(
    frame: &mut F,
    l4: usize,
    length: usize,
    old: Ports,
    new: Ports,
) -> bool {
    let [a0, a1] = old.source.0;
    let [a2, a3] = old.destination.0;
    let [b0, b1] = new.source.0;
    let [b2, b3] = new.destination.0;
    let change = Le32([a0 ^ b0, a1 ^ b1, a2 ^ b2, a3 ^ b3]).get();
    let Le32(change) = Le32::new(frame.advance_crc(change, length));
    let Some(field) = frame.at_mut::<[u8; 4]>(l4 + CHECKSUM) else {
        return false;
    };
    if *field != [0; 4] {
        for (byte, change) in field.iter_mut().zip(change) {
            *byte ^= change;
        }
    }
    true
}

/// The polynomial of `CRC32c`, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// 1, and x to the 8th, in that notation.
const ONE: u32 = 1 << 31;
const BYTE: u32 = 1 << 23;

/// What a byte of zeros, and 256 of them, multiply a remainder by; the rows count in units of the one and the other.
static POWERS: [[u32; 256]; 2] = powers();

#[expect(
    clippy::indexing_slicing,
    reason = "computed by the compiler, which would say so"
)]
const fn powers() -> [[u32; 256]; 2] {
    let mut powers = [[ONE; 256]; 2];
    let mut unit = BYTE;
    let mut row = 0;
    while row < 2 {
        let mut i = 1;
        while i < 256 {
            powers[row][i] = multiply(powers[row][i - 1], unit);
            i += 1;
        }
        unit = multiply(powers[row][255], unit);
        row += 1;
    }
    powers
}

/// Product of two polynomials modulo that of the CRC.
#[inline(always)]
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 0;
    while bit < 32 {
        product ^= b & 0_u32.wrapping_sub(a >> 31);
        a <<= 1;
        b = b >> 1 ^ (POLYNOMIAL & 0_u32.wrapping_sub(b & 1));
        bit += 1;
    }
    product
}

/// By how much a CRC over `length` bytes changes if the first four of them change by `change`. A CRC is linear: it is
/// the remainder of the change alone, moved over the zeros behind it.
#[inline(always)]
#[must_use]
pub fn advance(change: u32, length: usize) -> u32 {
    let [ones, rows] = &POWERS;
    let power = |row: &[u32; 256], place: usize| row.get(place & 0xff).copied().unwrap_or(ONE);
    let remainder = multiply(change, power(ones, length));
    multiply(remainder, power(rows, length >> 8))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Bit by bit, as the RFC has it.
    fn crc(bytes: &[u8]) -> [u8; 4] {
        let mut crc = !0_u32;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 {
                    crc >> 1 ^ POLYNOMIAL
                } else {
                    crc >> 1
                };
            }
        }
        Le32::new(!crc).0
    }

    #[test]
    fn d3_the_change_at_a_distance_from_the_end_is_that_of_the_whole_crc() {
        assert_eq!(crc(b"123456789"), [0x83, 0x92, 0x06, 0xe3]);
        for length in [4, 5, 16, 255, 256, 257, 1_480, 9_000, 65_515] {
            let mut text: Vec<u8> = (0..length)
                .map(|i| u8::try_from(i * 31 % 251).unwrap())
                .collect();
            let before = crc(&text);
            let change = [0x12, 0x00, 0xff, 0x37];
            for (byte, change) in text.iter_mut().zip(change) {
                *byte ^= change;
            }
            let mut fixed = before;
            let change = Le32::new(advance(Le32(change).get(), length)).0;
            for (byte, change) in fixed.iter_mut().zip(change) {
                *byte ^= change;
            }
            assert_eq!(fixed, crc(&text), "{length} bytes");
        }
    }
}
