//! Neighbours on an uplink's link: who asks for the link address of a load balancer's address that this node announces, by
//! ARP (RFC 826) or by a neighbour solicitation (RFC 4861), is told the uplink's (docs/adr/0016-announcing-the-pool.md).
//!
//! The agent asks and tells in the same frames.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    checksum::Sum,
    env::Env,
    family::{Family, V4, V6},
    frame::Frame,
    link::ETHERNET,
    parse::Ethernet,
    verdict::Verdict,
};
use crate::{
    abi::Outcome,
    wire::{Addr, Be16, Proto},
};

/// A link address.
pub type Mac = [u8; 6];

/// Type of a frame of ARP.
pub(super) const ARP: Be16 = Be16::new(0x0806);
const IPV4: Be16 = Be16::new(0x0800);
const IPV6: Be16 = Be16::new(0x86dd);
const EVERYBODY: Mac = [0xff; 6];
/// All nodes of a link, `ff02::1`, and their link address.
const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ALL_NODES_LINK: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// A frame of ARP for Ethernet and IPv4.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Arp {
    ethernet: Ethernet,
    /// Kinds of addresses, their lengths, and whether it is a question.
    head: [u8; 8],
    sender: Mac,
    sender_address: [u8; 4],
    target: Mac,
    target_address: [u8; 4],
}

const QUESTION: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ANSWER: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 2];

impl Arp {
    /// Asks who has an address, and claims none (RFC 5227, 2.1.1).
    #[must_use]
    pub const fn probe(from: Mac, address: [u8; 4]) -> Self {
        Self::question(from, [0; 4], address)
    }

    /// Tells everybody who has an address (RFC 5227, 2.3).
    #[must_use]
    pub const fn announcement(from: Mac, address: [u8; 4]) -> Self {
        Self::question(from, address, address)
    }

    const fn question(from: Mac, sender_address: [u8; 4], target_address: [u8; 4]) -> Self {
        Self {
            ethernet: Ethernet {
                destination: EVERYBODY,
                source: from,
                kind: ARP,
            },
            head: QUESTION,
            sender: from,
            sender_address,
            target: [0; 6],
            target_address,
        }
    }

    /// The same frame as the answer to its sender.
    #[inline(always)]
    const fn answer(&self, from: Mac) -> Self {
        Self {
            ethernet: Ethernet {
                destination: self.sender,
                source: from,
                kind: ARP,
            },
            head: ANSWER,
            sender: from,
            sender_address: self.target_address,
            target: self.sender,
            target_address: self.sender_address,
        }
    }
}

/// A frame of neighbour discovery: a solicitation or an advertisement with one option, the link address of its sender or
/// of its target.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Discovery {
    ethernet: Ethernet,
    version: [u8; 4],
    length: Be16,
    next: Proto,
    hops: u8,
    source: [u8; 16],
    destination: [u8; 16],
    kind: u8,
    code: u8,
    checksum: [u8; 2],
    flags: [u8; 4],
    target: [u8; 16],
    option: [u8; 2],
    link: Mac,
}

/// Bytes of a frame of neighbour discovery that may have no option.
const BARE: usize = offset_of!(Discovery, option);
const WHOLE: usize = size_of::<Discovery>();
/// Bytes behind the IP header.
#[expect(clippy::cast_possible_truncation, reason = "32")]
const PAYLOAD: u16 = (WHOLE - offset_of!(Discovery, kind)) as u16;
/// Types of `ICMPv6`, and of options.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK: [u8; 2] = [1, 1];
const TARGET_LINK: [u8; 2] = [2, 1];
/// Flags of an advertisement: the target was asked for, and what was known of it holds no more.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// No router has passed such a frame on.
const HOPS: u8 = 255;

impl Discovery {
    /// Asks who has an address, from an address of the own.
    #[must_use]
    pub fn solicitation(from: (Mac, [u8; 16]), address: [u8; 16]) -> Self {
        let (link, source) = from;
        let (group, to) = solicited_node(address);
        Self::new(
            (link, to),
            (source, group),
            (SOLICITATION, 0),
            address,
            link,
        )
    }

    /// Tells everybody who has an address, in its own name: what they knew of it holds no more.
    #[must_use]
    pub fn announcement(from: Mac, address: [u8; 16]) -> Self {
        Self::advertisement(from, address, None)
    }

    /// To the one who asked, or to everybody.
    #[inline(always)]
    fn advertisement(from: Mac, address: [u8; 16], asker: Option<(Mac, [u8; 16])>) -> Self {
        let ((link, destination), flags) = match asker {
            Some(asker) => (asker, SOLICITED | OVERRIDE),
            None => ((ALL_NODES_LINK, ALL_NODES), OVERRIDE),
        };
        let kind = (ADVERTISEMENT, flags);
        Self::new((from, link), (address, destination), kind, address, from)
    }

    #[inline(always)]
    fn new(
        (from, to): (Mac, Mac),
        (source, destination): ([u8; 16], [u8; 16]),
        (kind, flags): (u8, u8),
        target: [u8; 16],
        link: Mac,
    ) -> Self {
        let mut frame = Self {
            ethernet: Ethernet {
                destination: to,
                source: from,
                kind: IPV6,
            },
            version: [0x60, 0, 0, 0],
            length: Be16::new(PAYLOAD),
            next: Proto::ICMPV6,
            hops: HOPS,
            source,
            destination,
            kind,
            code: 0,
            checksum: [0; 2],
            flags: [flags, 0, 0, 0],
            target,
            option: if kind == SOLICITATION {
                SOURCE_LINK
            } else {
                TARGET_LINK
            },
            link,
        };
        frame.checksum = frame.sum().checksum();
        frame
    }

    /// Of the pseudo header and of what the checksum is for; 0xffff where that is right.
    #[inline(always)]
    fn sum(&self) -> Sum {
        let [l0, l1] = self.length.0;
        Sum::ZERO
            .plus(&self.source)
            .plus(&self.destination)
            .plus(&[l0, l1, 0, self.next.0, self.kind, self.code])
            .plus(&self.checksum)
            .plus(&self.flags)
            .plus(&self.target)
            .plus(&self.option)
            .plus(&self.link)
    }
}

/// The group that solicitations for an address are sent to (RFC 4291, 2.7.1), and its link address.
#[must_use]
pub const fn solicited_node(address: [u8; 16]) -> ([u8; 16], Mac) {
    let [.., a, b, c] = address;
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// Who says in a frame that it has which address: the sender of ARP, whether it asks or answers, and the target of an
/// advertisement. None of any other frame.
#[must_use]
pub fn claim(frame: &[u8]) -> Option<(Addr, Mac)> {
    let (ethernet, _) = Ethernet::read_from_prefix(frame).ok()?;
    if ethernet.kind == ARP {
        let (arp, _) = Arp::read_from_prefix(frame).ok()?;
        let is_said = arp.sender_address != [0; 4] && matches!(arp.head, QUESTION | ANSWER);
        return is_said.then(|| (Addr::v4(arp.sender_address), arp.sender));
    }
    let bare = frame.get(..BARE)?;
    let mut whole = [0; WHOLE];
    whole.get_mut(..BARE)?.copy_from_slice(bare);
    // One that answers a question to it alone may leave the option out: then the frame itself says it.
    if let Some(option) = frame.get(BARE..WHOLE) {
        whole.get_mut(BARE..)?.copy_from_slice(option);
    }
    let read = Discovery::read_from_bytes(&whole).ok()?;
    let is_said = ethernet.kind == IPV6
        && (read.next, read.hops, read.kind) == (Proto::ICMPV6, HOPS, ADVERTISEMENT);
    let link = match read.option {
        TARGET_LINK => read.link,
        _ => ethernet.source,
    };
    is_said.then(|| (Addr::v6(read.target), link))
}

/// Whether the frame, which is no IP packet, is one of ARP.
#[inline(always)]
pub(super) fn is_arp<F: Frame>(frame: &F) -> bool {
    let kind = frame.at::<[u8; 2]>(offset_of!(Ethernet, kind));
    kind.is_some_and(|kind| *kind == ARP.0)
}

/// Whether a packet of `ICMPv6`, behind an Ethernet header and nothing else, is a neighbour solicitation.
#[inline(always)]
pub fn is_solicitation<F: Frame>(frame: &F, is_v6: bool) -> bool {
    let kind = frame.at::<[u8; 1]>(offset_of!(Discovery, kind));
    is_v6 && frame.network() == ETHERNET && kind.is_some_and(|[kind]| *kind == SOLICITATION)
}

/// Answers a question of a neighbour, which came in by an uplink, for an address that is announced there; all others are
/// the stack's.
#[inline(always)]
pub fn answer_neighbour<F: Frame, E: Env>(frame: &mut F, env: &E, is_v6: bool) -> Verdict {
    let answered = if is_v6 {
        answer_solicitation(frame, env)
    } else {
        answer_arp(frame, env)
    };
    answered.unwrap_or(Verdict::Pass(Outcome::NotOurs))
}

#[inline(always)]
fn answer_arp<F: Frame, E: Env>(frame: &mut F, env: &E) -> Option<Verdict> {
    frame.pull(size_of::<Arp>());
    let asked = *frame.at::<Arp>(0)?;
    // Whoever says that the address is its own is the agent's affair.
    if asked.head != QUESTION || asked.sender_address == asked.target_address {
        return None;
    }
    let own = env.announced(Addr::v4(asked.target_address), frame.device())?;
    *frame.at_mut::<Arp>(0)? = asked.answer(own);
    Some(Verdict::Reply(Outcome::Announced))
}

#[inline(always)]
fn answer_solicitation<F: Frame, E: Env>(frame: &mut F, env: &E) -> Option<Verdict> {
    frame.pull(BARE);
    let target = *frame.at::<[u8; 16]>(offset_of!(Discovery, target))?;
    let own = env.announced(Addr::v6(target), frame.device())?;
    let ip = frame.at::<<V6 as Family>::Header>(ETHERNET)?;
    if ip.hop_limit != HOPS {
        return None;
    }
    let source = ip.src_addr;
    let link = frame.at::<Ethernet>(0)?.source;
    // Nobody has that source yet: it asks whether it may have the target.
    let asker = (!Addr::v6(source).is(Addr::UNSPECIFIED)).then_some((link, source));
    let length = frame.len();
    if length < WHOLE && !frame.open_gap(WHOLE - BARE) {
        return Some(Verdict::Drop(Outcome::ReplyFailed));
    }
    // A frame that cannot be cut has a tail that its IP length leaves out.
    let _cut = frame.truncate(WHOLE);
    let advertisement = Discovery::advertisement(own, target, asker);
    match frame.at_mut::<Discovery>(0) {
        Some(place) => *place = advertisement,
        None => return Some(Verdict::Drop(Outcome::ReplyFailed)),
    }
    Some(Verdict::Reply(Outcome::Announced))
}

const _: () = assert!(size_of::<Arp>() == 42 && WHOLE == 86 && BARE == 78);
const _: () = assert!(V4::ETHER_TYPE == IPV4.as_it_lies() && V6::ETHER_TYPE == IPV6.as_it_lies());

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 2];
    const OTHER: Mac = [2, 0, 0, 0, 0, 9];
    const V4_ADDRESS: [u8; 4] = [203, 0, 113, 64];
    const V6_ADDRESS: [u8; 16] = [0x20, 1, 0xd, 0xb8, 1, 0x13, 0, 0x64, 0, 0, 0, 0, 0, 1, 2, 3];

    #[test]
    fn a_claim_is_read_in_arp_and_in_advertisements() {
        let v4 = Some((Addr::v4(V4_ADDRESS), OTHER));
        let announced = Arp::announcement(OTHER, V4_ADDRESS);
        assert_eq!(claim(announced.as_bytes()), v4);
        let asked = Arp::probe(OWN, V4_ADDRESS);
        assert_eq!(claim(asked.as_bytes()), None, "a probe claims nothing");
        assert_eq!(claim(asked.answer(OTHER).as_bytes()), v4);
        let v6 = Some((Addr::v6(V6_ADDRESS), OTHER));
        let announced = Discovery::announcement(OTHER, V6_ADDRESS);
        assert_eq!(claim(announced.as_bytes()), v6);
        assert_eq!(
            claim(&announced.as_bytes()[..BARE]),
            v6,
            "without its option"
        );
        let asked = Discovery::solicitation((OWN, V6_ADDRESS), V6_ADDRESS);
        assert_eq!(claim(asked.as_bytes()), None);
        for length in 0..BARE {
            assert_eq!(
                claim(&announced.as_bytes()[..length]),
                None,
                "{length} bytes"
            );
        }
    }

    /// D2
    #[test]
    fn frames_of_discovery_have_the_right_checksum_and_go_to_their_group() {
        for frame in [
            Discovery::solicitation((OWN, V6_ADDRESS), V6_ADDRESS),
            Discovery::announcement(OWN, V6_ADDRESS),
        ] {
            assert_eq!(frame.sum().fold(), 0xffff);
        }
        let asked = Discovery::solicitation((OWN, V6_ADDRESS), V6_ADDRESS);
        assert_eq!(asked.ethernet.destination, [0x33, 0x33, 0xff, 1, 2, 3]);
        assert_eq!(asked.destination[13..], [1, 2, 3]);
    }
}
