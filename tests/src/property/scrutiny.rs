//! What must be true of a frame before and after, whatever the tables hold; and what more, where an agent wrote them.

use std::{net::IpAddr, ops::Range};

use bytes::Bytes;
use clusterip_common::{
    abi::{BackendState, Inside, Outcome, ServiceKey},
    packet::{Env as _, Link, Verdict},
    wire::{Addr, Be16, Proto},
};

use super::reading::{Piece, Reading, addresses, read};
use crate::{
    case::Hook,
    host::HostEnv,
    packet::dump,
    world::{World, settings},
};

/// A frame that came by.
pub(super) struct Passage {
    pub(super) hook: Hook,
    pub(super) link: Link,
    pub(super) input: Bytes,
    pub(super) verdict: Verdict,
    pub(super) output: Bytes,
}

impl Passage {
    /// # Panics
    /// With both frames, unless it holds.
    fn holds(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "{what}\n  {:?}, {:?}, {:?}\n  frame in\n{}\n  frame out\n{}",
            self.hook,
            self.link,
            self.verdict,
            dump(&self.input),
            dump(&self.output)
        );
    }

    /// A reading that must be there.
    fn expect(&self, reading: Option<Reading>, what: &str) -> Reading {
        self.holds(reading.is_some(), what);
        reading.unwrap_or_else(|| unreachable!("it holds"))
    }

    /// What holds whatever is in the tables.
    pub(super) fn is_sound(&self) {
        match self.verdict {
            Verdict::Pass(_) | Verdict::Drop(_) => {
                // A frame that ends here may have been on its way to an answer.
                let is_spent = self.verdict == Verdict::Drop(Outcome::ReplyFailed);
                self.holds(
                    is_spent || self.input == self.output,
                    "what is not translated stays as it is",
                );
            }
            Verdict::Refuse(_) => self.holds(false, "a hook answers what is refused"),
            Verdict::Translated(_) => self.is_translated_well(),
            Verdict::Reply(_) => self.is_answered_well(),
        }
    }

    fn is_translated_well(&self) {
        let before = self.expect(
            read(&self.input, self.link),
            "D4: what cannot be read is not translated",
        );
        let after = self.expect(
            read(&self.output, self.link),
            "a translated packet can be read",
        );
        let form = |reading: &Reading| (reading.l4, reading.end, reading.protocol, reading.piece);
        self.holds(
            self.input.len() == self.output.len() && form(&before) == form(&after),
            "a translated packet has the form it had",
        );
        let inner = before.quoted(&self.input);
        let mut may_change = translated(&before, self.input.len());
        may_change.extend(
            inner
                .iter()
                .flat_map(|inner| translated(inner, self.input.len())),
        );
        for (at, (old, new)) in self.input.iter().zip(&self.output).enumerate() {
            let may = may_change.iter().any(|range| range.contains(&at));
            self.holds(old == new || may, &format!("byte {at:#x} has changed"));
        }
        self.checksums_stay_right(&before, &after, "");
        if let Some(inner) = inner {
            let after = self.expect(after.quoted(&self.output), "D7: what is quoted can be read");
            self.checksums_stay_right(&inner, &after, " of the quoted packet");
        }
    }

    fn checksums_stay_right(&self, before: &Reading, after: &Reading, whose: &str) {
        self.holds(
            !before.header_is_right(&self.input) || after.header_is_right(&self.output),
            &format!("D2: the header's checksum{whose} is right"),
        );
        self.holds(
            !before.checksum_is_right(&self.input) || after.checksum_is_right(&self.output),
            &format!("D2, D3: the checksum{whose} is right"),
        );
        self.holds(
            before.has_checksum(&self.input) == after.has_checksum(&self.output),
            &format!("D1: the checksum{whose} stays one, or none"),
        );
    }

    fn is_answered_well(&self) {
        let after = self.expect(read(&self.output, self.link), "an answer can be read");
        let asked = addresses(&self.input, self.link);
        if self.link == Link::Ethernet {
            let (to, from) = (&self.input[..6], &self.input[6..12]);
            self.holds(
                self.output[..6] == *from && self.output[6..12] == *to,
                "an answer goes back to who asked, in Ethernet",
            );
        }
        self.holds(
            asked == Some((after.destination, after.source)),
            "an answer goes back to who asked, in the VIP's name",
        );
        self.holds(
            is_host(after.destination),
            "D8: nothing is sent to a source that is no host",
        );
        // A ping comes back as it was, and a quoted header is not looked into.
        let before = read(&self.input, self.link);
        let was_right = before.is_some_and(|before| {
            before.header_is_right(&self.input)
                && (!before.is_icmp() || before.checksum_is_right(&self.input))
        });
        self.holds(
            !was_right || after.header_is_right(&self.output),
            "D2: the header's checksum of an answer",
        );
        self.holds(
            !was_right || after.checksum_is_right(&self.output),
            "D2: the checksum of an answer",
        );
    }

    /// What holds where the tables are an agent's.
    pub(super) fn is_lawful(&self, world: &World) {
        let Some((source, destination)) = addresses(&self.input, self.link) else {
            return;
        };
        let is_error = self.verdict == Verdict::Translated(Outcome::IcmpError);
        let translation = (matches!(self.verdict, Verdict::Translated(_)) && !is_error)
            .then(|| read(&self.input, self.link).zip(read(&self.output, self.link)))
            .flatten();
        match self.hook {
            Hook::FromUplink if !is_inside(world, source) || !is_for_service(destination) => {
                let may_be = if is_for_service(destination) {
                    let refused = Verdict::Drop(Outcome::MappedAddress);
                    self.verdict == Verdict::Drop(Outcome::FromOutside) || self.verdict == refused
                } else {
                    self.verdict == Verdict::Pass(Outcome::NotOurs)
                };
                self.holds(may_be, "E1: from outside no service is reached");
            }
            Hook::FromPod | Hook::FromUplink if is_for_service(destination) => {
                self.holds(
                    !matches!(self.verdict, Verdict::Pass(_)),
                    "B9, C6: nothing goes on to a service address",
                );
                if let Some((before, after)) = translation {
                    self.holds(
                        self.is_backend(world, &before, &after),
                        "A1, C10: a request goes to a backend of its service",
                    );
                }
            }
            Hook::FromPod | Hook::FromUplink => {
                // C12, D13: a flow past services may get another port, a pod that answers itself its own address.
                let may_be = matches!(
                    self.verdict.outcome(),
                    Outcome::NotOurs
                        | Outcome::MappedAddress
                        | Outcome::Direct
                        | Outcome::Hairpin
                        | Outcome::IcmpError
                        | Outcome::StaleReply
                        | Outcome::PortsExhausted
                );
                self.holds(may_be, "what goes elsewhere is not balanced");
                let is_direct = self.verdict.outcome() == Outcome::Direct;
                if let Some((before, after)) = translation.filter(|_| is_direct) {
                    let ends = |packet: &Reading| (packet.source, packet.destination);
                    self.holds(ends(&before) == ends(&after), "C12: the port alone changes");
                }
            }
            Hook::ToPod | Hook::ToUplink => {
                let is_reply = self.verdict.outcome() == Outcome::Reply;
                if let Some((_, after)) = translation.filter(|_| is_reply) {
                    self.holds(
                        is_for_service(after.source),
                        "C11: a reply comes from a service address",
                    );
                }
                let is_answer = matches!(self.verdict, Verdict::Reply(_));
                self.holds(!is_answer, "what goes into a pod is not answered");
            }
        }
    }

    fn is_backend(&self, world: &World, before: &Reading, after: &Reading) -> bool {
        let ports = before.ports(&self.input).zip(after.ports(&self.output));
        world.tables.backends.values().any(|backend| {
            let is_its = ports.is_none_or(|((_, old), (_, new))| {
                let key = ServiceKey::new(
                    before.destination.into(),
                    Be16::new(old),
                    Proto(before.protocol),
                );
                let head = world.tables.services.get(&key);
                backend.port == Be16::new(new)
                    && head.is_some_and(|head| head.id == backend.service)
            });
            is_its
                && backend.state != BackendState::FREE
                && backend.address == Addr::from(after.destination)
        })
    }
}

/// Whether an address is in the service range of every case.
pub(super) fn is_for_service(address: IpAddr) -> bool {
    let settings = settings();
    let range = if address.is_ipv4() {
        settings.service_v4
    } else {
        settings.service_v6
    };
    range.contains(address.into())
}

/// Whether an address is one of a node or a pod.
fn is_inside(world: &World, address: IpAddr) -> bool {
    HostEnv::new(world.tables.clone(), settings()).inside(address.into()) != Inside::NONE
}

const fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.octets()[0] != 0 && ip.octets()[0] < 224,
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified(),
    }
}

/// What a translation may change in a packet.
fn translated(packet: &Reading, len: usize) -> Vec<Range<usize>> {
    let Reading { l3, l4, .. } = *packet;
    let addresses = if packet.is_v4() {
        l3 + 10..l3 + 20
    } else {
        l3 + 8..l3 + 40
    };
    let mut ranges = Vec::from([addresses]);
    if packet.piece != Piece::Later && !packet.is_icmp() {
        ranges.push(l4..l4 + 4);
    }
    ranges.extend(packet.checksum_field());
    ranges.retain(|range| range.end <= len);
    ranges
}
