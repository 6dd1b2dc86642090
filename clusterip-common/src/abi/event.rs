//! Events: what the programs tell of packets and calls while somebody listens, and what is asked of them.
//!
//! None of this is pinned: it is between an agent and the programs it loaded itself (docs/adr/0011-events.md).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Outcome, ServiceId};
use crate::wire::{Addr, Be16, Proto};

/// Bytes of a frame that an event may bring along.
pub const CAPTURE: usize = 128;
/// Bytes of the ring buffer: some 5,000 events, or 2,000 with their frames.
pub const RING: u32 = 512 * 1024;

number! {
    /// What happened.
    EventKind(u8)
}

impl EventKind {
    /// A flow chose a backend.
    pub const OPENED: Self = Self(0);
    /// A packet of a known flow was translated; one in so many is told.
    pub const TRANSLATED: Self = Self(1);
    /// Both sides of a flow have said FIN, or one RST (C5).
    pub const CLOSED: Self = Self(2);
    /// The sender was told that there is nothing.
    pub const REJECTED: Self = Self(3);
    /// A packet ended here.
    pub const DROPPED: Self = Self(4);
    /// A ping was answered.
    pub const ANSWERED: Self = Self(5);

    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::OPENED, "opened"),
        (Self::TRANSLATED, "translated"),
        (Self::CLOSED, "closed"),
        (Self::REJECTED, "rejected"),
        (Self::DROPPED, "dropped"),
        (Self::ANSWERED, "answered"),
    ];

    /// Its bit in [`Watch::kinds`].
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << (self.0 & 31)
    }

    /// Its name in `monitor`.
    #[must_use]
    pub fn name(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(kind, _)| *kind == self)
            .map_or("unknown", |(_, name)| name)
    }
}

number! {
    /// Where it was seen.
    EventHook(u8)
}

impl EventHook {
    /// What a pod sends.
    pub const FROM_POD: Self = Self(0);
    /// What a pod, or another node, is about to receive.
    pub const TO_POD: Self = Self(1);
    /// What comes in by an uplink.
    pub const FROM_UPLINK: Self = Self(2);
    /// The same, at its driver.
    pub const DRIVER: Self = Self(3);
    /// A call of a process of the node.
    pub const SOCKET: Self = Self(4);

    /// Its name in `monitor`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FROM_POD => "from-pod",
            Self::TO_POD => "to-pod",
            Self::FROM_UPLINK => "from-uplink",
            Self::DRIVER => "driver",
            Self::SOCKET => "socket",
            _ => "unknown",
        }
    }
}

impl ServiceId {
    /// No service.
    pub const NONE: Self = Self(u32::MAX);
}

/// What is told of one packet or call. What is not known is zero, and the service [`ServiceId::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds of the monotonic clock.
    pub time: u64,
    /// Who called; unspecified for a call that has no address yet.
    pub client: Addr,
    /// What was called.
    pub frontend: Addr,
    /// Who answers.
    pub backend: Addr,
    /// The client's port, as the client has it.
    pub client_port: Be16,
    /// The port that was called.
    pub frontend_port: Be16,
    /// The backend's port.
    pub backend_port: Be16,
    /// The protocol.
    pub protocol: Proto,
    /// What happened.
    pub kind: EventKind,
    /// Why, by [`Outcome::index`].
    pub outcome: u32,
    /// The balancer.
    pub service: ServiceId,
    /// Bytes of the frame.
    pub bytes: u32,
    /// Bytes of the frame that follow the event.
    pub captured: u32,
    /// Index of the device.
    pub device: u32,
    /// Where it was seen.
    pub hook: EventHook,
    /// 1 if the frame begins with the IP header, 0 if with that of Ethernet.
    pub is_bare: u8,
    /// Zero.
    pub zero: [u8; 2],
}

impl Event {
    /// Before anything is known.
    pub const NONE: Self = Self {
        time: 0,
        client: Addr::UNSPECIFIED,
        frontend: Addr::UNSPECIFIED,
        backend: Addr::UNSPECIFIED,
        client_port: Be16::new(0),
        frontend_port: Be16::new(0),
        backend_port: Be16::new(0),
        protocol: Proto(0),
        kind: EventKind::OPENED,
        outcome: 0,
        service: ServiceId::NONE,
        bytes: 0,
        captured: 0,
        device: 0,
        hook: EventHook::FROM_POD,
        is_bare: 0,
        zero: [0; 2],
    };
}

/// An event with the beginning of its frame, as it lies in the ring buffer; without one it ends before `frame`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Record {
    /// The event.
    pub event: Event,
    /// The frame, [`Event::captured`] bytes of it.
    pub frame: [u8; CAPTURE],
}

/// What of all this is wanted: the union of what all listeners want. All zero when nobody listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Watch {
    /// Until when, in nanoseconds of the monotonic clock: an agent that was killed listens no more. 0: nobody does.
    pub until: u64,
    /// A bit for each outcome.
    pub outcomes: u64,
    /// A bit for each service id modulo 64. What belongs to no service is told whatever these say.
    pub services: u64,
    /// A bit for each [`EventKind`].
    pub kinds: u32,
    /// Of translated packets, one in so many; 0 for none.
    pub sample: u32,
    /// Not 0 if the frames of what is rejected or dropped are wanted.
    pub capture: u32,
    /// Zero.
    pub zero: u32,
}

impl Watch {
    /// Nobody listens.
    pub const NOBODY: Self = Self {
        until: 0,
        outcomes: 0,
        services: 0,
        kinds: 0,
        sample: 0,
        capture: 0,
        zero: 0,
    };

    /// Everything, until a moment.
    #[must_use]
    pub const fn everything(until: u64) -> Self {
        Self {
            until,
            outcomes: u64::MAX,
            services: u64::MAX,
            kinds: u32::MAX,
            sample: 1,
            capture: 1,
            zero: 0,
        }
    }

    /// Whether an outcome of that kind is wanted at all, by a clock.
    #[inline(always)]
    #[must_use]
    pub const fn wants(&self, kind: EventKind, outcome: Outcome, now: u64) -> bool {
        self.kinds & kind.bit() != 0
            && self.outcomes >> outcome.index() & 1 != 0
            && now < self.until
    }

    /// Whether a service is wanted, or may be.
    #[inline(always)]
    #[must_use]
    pub const fn may_want(&self, ServiceId(id): ServiceId) -> bool {
        id == ServiceId::NONE.0 || self.services & Self::service_bit(id) != 0
    }

    /// A service id's bit.
    #[inline(always)]
    #[must_use]
    pub const fn service_bit(id: u32) -> u64 {
        1 << (id % 64)
    }
}

const _: () = assert!(size_of::<Event>() == 88 && size_of::<Record>() == 88 + CAPTURE);
const _: () = assert!(Outcome::COUNT <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_wants_what_it_says_and_ends_by_itself() {
        let (kind, outcome) = (EventKind::DROPPED, Outcome::FromOutside);
        let mut watch = Watch::everything(100);
        assert!(watch.wants(kind, outcome, 99) && !watch.wants(kind, outcome, 100));
        watch.kinds = !kind.bit();
        assert!(!watch.wants(kind, outcome, 99));
        watch.kinds = kind.bit();
        watch.outcomes = !(1 << outcome.index());
        assert!(!watch.wants(kind, outcome, 99));
        assert!(!Watch::NOBODY.wants(kind, outcome, 0));
        watch.services = Watch::service_bit(67);
        assert!(watch.may_want(ServiceId(3)) && watch.may_want(ServiceId::NONE));
        assert!(!watch.may_want(ServiceId(4)));
    }

    #[test]
    fn kinds_have_names() {
        for (kind, name) in EventKind::ALL {
            assert_eq!(kind.name(), name);
        }
        assert_eq!(EventKind(99).name(), "unknown");
    }
}
