//! Where the IP packet begins in a frame: behind the Ethernet header and VLAN tags, or at once (D11).

use core::mem::offset_of;

use super::{
    family::{Family, V4, V6},
    frame::Frame,
    parse::Ethernet,
};
use crate::wire::Be16;

/// What the frames of a device begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// An Ethernet header.
    Ethernet,
    /// The IP packet itself: tunnels, point-to-point devices.
    None,
}

/// The IP packet of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// Where it begins.
    pub offset: usize,
    /// The family.
    pub is_v6: bool,
}

/// Type of a VLAN tag: of the customer (802.1Q), of the provider (802.1ad).
const CUSTOMER_TAG: u16 = kind_of(Be16::new(0x8100).0);
const PROVIDER_TAG: u16 = kind_of(Be16::new(0x88a8).0);
/// Bytes of a tag: what is in it, and the type of what follows.
const TAG: usize = 4;
/// Tags that are stepped over.
const MOST_TAGS: usize = 2;
/// No less than the offset behind all of them.
const FARTHEST: usize = 31;
/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = size_of::<Ethernet>();

/// Finds the IP packet of a frame; None if it is none.
#[inline(always)]
pub fn network<F: Frame>(frame: &mut F, link: Link) -> Option<Network> {
    if link == Link::None {
        let [version] = frame.at::<[u8; 1]>(0)?;
        return match version >> 4 {
            4 => Some(false),
            6 => Some(true),
            _ => None,
        }
        .map(|is_v6| Network { offset: 0, is_v6 });
    }
    let mut kind = kind_at(frame, offset_of!(Ethernet, kind))?;
    let mut offset = ETHERNET;
    if is_tag(kind) {
        frame.pull(ETHERNET + MOST_TAGS * TAG);
        for _ in 0..MOST_TAGS {
            if is_tag(kind) {
                kind = kind_at(frame, offset + TAG - 2)?;
                offset += TAG;
            }
        }
        offset = frame.forget(offset) & FARTHEST;
    }
    match kind {
        V4::ETHER_TYPE => Some(false),
        V6::ETHER_TYPE => Some(true),
        _ => None,
    }
    .map(|is_v6| Network { offset, is_v6 })
}

#[inline(always)]
const fn is_tag(kind: u16) -> bool {
    kind == CUSTOMER_TAG || kind == PROVIDER_TAG
}

/// An Ethernet type as network-types spells it: network order in a `u16`.
#[inline(always)]
#[expect(
    clippy::host_endian_bytes,
    reason = "network-types keeps the field as it lies in memory"
)]
const fn kind_of(bytes: [u8; 2]) -> u16 {
    u16::from_ne_bytes(bytes)
}

#[inline(always)]
fn kind_at<F: Frame>(frame: &F, offset: usize) -> Option<u16> {
    frame.at::<[u8; 2]>(offset).map(|kind| kind_of(*kind))
}
