//! A checksum that is fixed after a change is the one of the changed text (D1, D2).

use clusterip_common::packet::{ChecksumFix, Frame as _, SliceFrame, Sum};

use super::choices::Choices;
use crate::packet;

/// Text with a checksum in it, some words of which change, as addresses and as ports.
///
/// # Panics
/// The checksum is another one than that of the whole text.
pub fn checksum(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let zero_is_none = choices.once_in(2);
    let (at, from, words) = (choices.below(100), choices.below(100), choices.below(20));
    let new = choices.take(words * 2);
    let mut text = choices.take(usize::MAX).to_vec();
    if text.len() % 2 == 1 {
        text.pop();
    }
    let (at, from) = (at * 2, from * 2);
    let change = from..from + new.len() - new.len() % 2;
    // The field itself is no part of what changes.
    if text.len() < at + 2 || text.len() < change.end || (from..change.end).contains(&at) {
        return;
    }
    text[at..at + 2].fill(0);
    let begun = packet::checksum(&[&text]);
    if begun == [0, 0] && zero_is_none {
        return;
    }
    text[at..at + 2].copy_from_slice(&begun);
    let old = text[change.clone()].to_vec();
    let new = &new[..old.len()];
    text[change].copy_from_slice(new);
    let others = text
        .iter()
        .enumerate()
        .filter(|(place, _)| place / 2 != at / 2);
    // Of nothing but zeros RFC 1624 makes 0 where RFC 1071 has 0xffff. No packet is that: its header has a version.
    if others.into_iter().all(|(_, byte)| *byte == 0) {
        return;
    }
    let half = old.len() / 4 * 2;
    let fix = ChecksumFix {
        addresses: Sum::change(&old[..half], &new[..half]),
        ports: Sum::change(&old[half..], &new[half..]),
        zero_is_none,
        ipv6: false,
    };
    let len = text.len();
    let fixed = SliceFrame::new(&mut text, len).fix_checksum(at, fix);
    assert!(fixed, "the field is there");
    assert_eq!(
        packet::checksum(&[&text]),
        [0, 0],
        "D2: {old:02x?} -> {new:02x?}, field {:02x?}",
        &text[at..at + 2]
    );
    let is_zero = text[at..at + 2] == [0, 0];
    assert!(!zero_is_none || !is_zero, "D1: 0 is sent as 0xffff");
}
