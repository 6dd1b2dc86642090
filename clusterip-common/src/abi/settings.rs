//! What the agent patches into the program when it loads it.

#![expect(
    clippy::host_endian_bytes,
    reason = "masking is the same in either order"
)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::FlowState;
use crate::wire::{Addr, Proto};

/// An address range, compared without a branch per byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Range {
    /// The network address, masked.
    pub network: Addr,
    /// The mask; a mapped IPv4 range has its first 96 bits set.
    pub mask: Addr,
}

impl Range {
    /// A range without an address in it: no IPv4 address is masked to this, no IPv6 address either.
    pub const EMPTY: Self = Self {
        network: Addr::v6([0xff; 16]),
        mask: Addr::UNSPECIFIED,
    };

    /// Whether an address is in it.
    #[inline(always)]
    #[must_use]
    pub const fn contains(&self, address: Addr) -> bool {
        address.and(self.mask).is(self.network)
    }

    /// Whether an IPv4 address is in it; the range is one of IPv4, or empty.
    #[inline(always)]
    #[must_use]
    pub const fn contains_low(&self, address: [u8; 4]) -> bool {
        let network = u32::from_ne_bytes(self.network.low());
        network == u32::from_ne_bytes(address) & u32::from_ne_bytes(self.mask.low())
    }

    /// The range of the first `prefix` bits of `network`; `prefix` counts as in IPv6 (96 more for IPv4).
    #[must_use]
    pub fn new(network: Addr, prefix: u8) -> Self {
        let mut mask = [0_u8; 16];
        for (first, byte) in (0..).step_by(8).zip(&mut mask) {
            let bits = u32::from(prefix).saturating_sub(first);
            *byte = !u8::MAX.checked_shr(bits).unwrap_or(0);
        }
        let mask = Addr::v6(mask);
        Self {
            network: network.and(mask),
            mask,
        }
    }
}

/// How the kernel's ticks become nanoseconds of its monotonic clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Clock {
    /// Nanoseconds of a tick; 0 where that is not known, and the kernel is asked for the time.
    pub tick: u64,
    /// The time when the count of ticks was 0, modulo 2^64.
    pub start: u64,
}

impl Clock {
    /// The kernel is asked for the time.
    pub const SLOW: Self = Self { tick: 0, start: 0 };

    /// The time at a count of ticks, in nanoseconds.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, ticks: u64) -> u64 {
        ticks.wrapping_mul(self.tick).wrapping_add(self.start)
    }
}

/// Settings of the program: read-only data, so that the verifier drops what is switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Settings {
    /// `--service-cidr`, IPv4: other destinations are let pass without a look-up.
    pub service_v4: Range,
    /// `--service-cidr`, IPv6.
    pub service_v6: Range,
    /// How long after its last packet a closing flow's SYN keeps the backend, in nanoseconds (C4).
    pub closing_reuse: u64,
    /// How long a flow lives without a packet, in nanoseconds: of which only a SYN was seen,
    pub opening_timeout: u64,
    /// one that both sides talk in,
    pub established_timeout: u64,
    /// one that one side has ended,
    pub ended_timeout: u64,
    /// one that both have ended, for the last ACKs (C5),
    pub closing_timeout: u64,
    /// and one over UDP.
    pub datagram_timeout: u64,
    /// What a pod that calls itself through a service sees as its peer (D13).
    pub hairpin_v4: Addr,
    /// As above, IPv6.
    pub hairpin_v6: Addr,
    /// Nanoseconds between two ICMP errors to one client, on average (D8).
    pub error_interval: u64,
    /// Flag for the L4 checksum helper on IPv6: `BPF_F_IPV6` where the kernel knows it, else 0.
    pub ipv6_checksum_flag: u64,
    /// The network namespace whose sockets are translated, as the kernel numbers it; 0 for every one.
    pub socket_netns: u64,
    /// 1 where the kernel lets a call be refused with an error of ours (`ECONNREFUSED`), else 0 (`EPERM`).
    pub socket_refuses: u64,
    /// How the program tells the time.
    pub clock: Clock,
    /// 1 where packets may go past the stack (`--forwarding redirect`), else 0.
    pub past_stack: u64,
    /// The node's own network namespace: its processes alone reach node ports by the loopback device (E6). 0 for none.
    pub node_netns: u64,
    /// 1 where clients outside reach `ClusterIP`s too, else 0 (E1).
    pub expose_cluster_ips: u64,
    /// First of the ports for masqueraded clients whose own is taken (E8),
    pub masquerade_first: u32,
    /// and how many there are.
    pub masquerade_count: u32,
    /// Direct server return: 0 without, 1 for clients that other nodes forward, 2 for this node's own clients too.
    pub direct_return: u64,
}

const SECOND: u64 = 1_000_000_000;

impl Settings {
    /// As compiled: no range, the documented times.
    pub const DEFAULT: Self = Self {
        service_v4: Range::EMPTY,
        service_v6: Range::EMPTY,
        closing_reuse: 30 * SECOND,
        opening_timeout: 60 * SECOND,
        established_timeout: 24 * 60 * 60 * SECOND,
        ended_timeout: 60 * 60 * SECOND,
        closing_timeout: 10 * SECOND,
        datagram_timeout: 180 * SECOND,
        hairpin_v4: Addr::v4([169, 254, 42, 1]),
        hairpin_v6: Addr::v6([
            0xfd, 0xc1, 0x05, 0x7e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x42, 0, 1,
        ]),
        error_interval: 100_000_000,
        ipv6_checksum_flag: 0,
        socket_netns: 0,
        socket_refuses: 0,
        clock: Clock::SLOW,
        past_stack: 0,
        node_netns: 0,
        expose_cluster_ips: 0,
        // Below the node ports and the kernel's own choice.
        masquerade_first: 1024,
        masquerade_count: 30_000 - 1024,
        direct_return: 0,
    };
}

impl Settings {
    /// Whether packets may go past the stack.
    #[inline(always)]
    #[must_use]
    pub const fn is_past_stack(&self) -> bool {
        self.past_stack != 0
    }

    /// Whether clients that other nodes forward are answered from here.
    #[inline(always)]
    #[must_use]
    pub const fn takes_forwarded(&self) -> bool {
        self.direct_return != 0
    }

    /// Whether this node forwards clients to other nodes, which answer them.
    #[inline(always)]
    #[must_use]
    pub const fn forwards_clients(&self) -> bool {
        self.direct_return > 1
    }

    /// For how long a flow lives without a packet, in nanoseconds (C5).
    #[inline(always)]
    #[must_use]
    pub const fn timeout(&self, protocol: Proto, state: FlowState) -> u64 {
        match (protocol, state) {
            (Proto::UDP, _) => self.datagram_timeout,
            (_, FlowState::OPENING) => self.opening_timeout,
            (_, FlowState::ENDED) => self.ended_timeout,
            (_, FlowState::CLOSING) => self.closing_timeout,
            _ => self.established_timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_its_prefix_says() {
        let range = Range::new(Addr::v4([10, 96, 7, 7]), 96 + 16);
        assert!(range.contains(Addr::v4([10, 96, 0, 1])) && range.contains_low([10, 96, 255, 1]));
        assert!(!range.contains(Addr::v4([10, 97, 0, 1])) && !range.contains_low([10, 97, 0, 1]));
        assert!(!Range::EMPTY.contains_low([0; 4]) && !Range::EMPTY.contains(Addr::UNSPECIFIED));
    }
}
