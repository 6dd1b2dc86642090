//! A socket buffer as a frame.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "offsets and lengths within a frame, as the helpers want them"
)]

use core::{
    hint::assert_unchecked,
    mem::{offset_of, size_of},
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::{
        bpf_csum_update, bpf_l4_csum_replace, bpf_sk_lookup_udp, bpf_sk_release,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skc_lookup_tcp,
    },
    programs::TcContext,
};
use clusterip_common::{
    abi::FlowKey,
    packet::{ChecksumFix, Env as _, Frame, Sum, Wire, advance_crc},
    wire::{Addr, Proto},
};

use super::{opaque, pointer};
use crate::env::KernelEnv;

/// `BPF_ADJ_ROOM_MAC`: room between the Ethernet header and what follows it. The bindings leave this enum out.
const ADJUST_AFTER_MAC: u32 = 1;

/// `GSO_BY_FRAGS`: a buffer of many packets of SCTP, which holds their header, and the chunks of each in a buffer of its own.
const BY_FRAGMENTS: usize = 0xffff;
/// Look-ups of sockets in the network namespace of the device (`BPF_F_CURRENT_NETNS`).
const OWN_NETNS: u64 = u64::MAX;

/// No IP header begins behind this.
const FARTHEST: u32 = 31;

/// The packet of a TC hook.
pub(crate) struct TcFrame {
    /// What the hook was given.
    pub(crate) ctx: TcContext,
    network: usize,
}

impl TcFrame {
    /// The frame of a buffer whose IP header begins at `network`.
    #[inline(always)]
    pub(crate) const fn new(skb: *mut __sk_buff, network: usize) -> Self {
        Self {
            ctx: TcContext::new(skb),
            network,
        }
    }

    /// As above, of what a hook was given.
    #[inline(always)]
    pub(crate) const fn of(ctx: TcContext, network: usize) -> Self {
        Self { ctx, network }
    }

    /// As above, for a way, of which the verifier sees that others could call it with any number.
    #[inline(always)]
    pub(crate) fn at_network(skb: *mut __sk_buff, network: u32) -> Self {
        Self::new(skb, opaque((network & FARTHEST) as usize))
    }

    /// Where the bytes in reach begin,
    #[inline(always)]
    fn start(&self) -> usize {
        pointer::<{ offset_of!(__sk_buff, data) }, _>(self.ctx.skb.skb)
    }

    /// and where they end.
    #[inline(always)]
    fn end(&self) -> usize {
        pointer::<{ offset_of!(__sk_buff, data_end) }, _>(self.ctx.skb.skb)
    }

    #[inline(always)]
    fn address<T>(&self, offset: usize) -> Option<usize> {
        let at = opaque(self.start() + offset);
        // SAFETY: a frame lies behind something, and the compiler spares a test for it.
        unsafe { assert_unchecked(at != 0) };
        (at + size_of::<T>() <= self.end()).then_some(at)
    }
}

/// The IPv4 address of a mapped one, as the kernel's structures have it.
#[inline(always)]
const fn last_of(address: Addr) -> u32 {
    let [.., last] = address.quarters();
    last
}

/// The verifier looks at a function that others could call once, whatever leads to it; at one of ours it looks anew from
/// each place that calls it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_advance_crc(change: u32, length: usize) -> u32 {
    advance_crc(change, length)
}

impl Frame for TcFrame {
    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: the context is the kernel's; reading a field of it is what it is for.
        unsafe { (*self.ctx.skb.skb).ifindex }
    }

    #[inline(always)]
    fn network(&self) -> usize {
        self.network
    }

    #[inline(always)]
    fn enter(&mut self, network: usize) {
        self.network = network;
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.ctx.len() as usize
    }

    #[inline(always)]
    fn pull(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len());
        let is_short = self.start() + bytes > self.end();
        // Of those in fragments, what is pulled would be torn out of the first of many packets.
        if is_short && self.segment() != BY_FRAGMENTS {
            // A failure shows at the next look at the bytes.
            // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
            let _result = unsafe { bpf_skb_pull_data(self.ctx.skb.skb, bytes as u32) };
        }
    }

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        // SAFETY: the address of a field of the kernel's context; nothing is read here.
        let index = unsafe { &raw const (*self.ctx.skb.skb).ifindex };
        // Two readings of one field: the same to us, two unknown numbers to the verifier.
        // SAFETY: the context is the kernel's.
        let once = unsafe { index.read_volatile() };
        // SAFETY: as above.
        let again = unsafe { index.read_volatile() };
        (number as u32 ^ once ^ again) as usize
    }

    #[inline(always)]
    fn segment(&self) -> usize {
        // SAFETY: the context is the kernel's; reading a field of it is what it is for.
        (unsafe { (*self.ctx.skb.skb).gso_size }) as usize
    }

    #[inline(always)]
    fn add_to_sum(&mut self, change: Sum) {
        // It says no where there is no sum of the whole.
        // SAFETY: the context is the kernel's, and no packet pointer is held.
        let _result = unsafe { bpf_csum_update(self.ctx.skb.skb, change.0) };
    }

    #[inline(always)]
    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { T::UNALIGNED };
        // SAFETY: in bounds by the test in `address`; `Wire` makes any bytes at any address a `T`.
        self.address::<T>(offset)
            .map(|at| unsafe { &*(at as *const T) })
    }

    #[inline(always)]
    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        const { T::UNALIGNED };
        // SAFETY: as above, and `&mut self` makes the borrow unique.
        self.address::<T>(offset)
            .map(|at| unsafe { &mut *(at as *mut T) })
    }

    /// The kernel's helper knows whether the checksum is complete, or begun and left to the device: then only the
    /// pseudo header counts (D2).
    #[inline(always)]
    fn fix_checksum(&mut self, offset: usize, fix: ChecksumFix) -> bool {
        let mut flags = 0;
        if fix.zero_is_none {
            flags |= u64::from(BPF_F_MARK_MANGLED_0);
        }
        if fix.ipv6 {
            flags |= KernelEnv.settings().ipv6_checksum_flag;
        }
        let (skb, offset) = (self.ctx.skb.skb, offset as u32);
        let pseudo = flags | u64::from(BPF_F_PSEUDO_HDR);
        // Most services have the port of their backends, and a call costs more than to see that.
        for (change, flags) in [(fix.addresses, pseudo), (fix.ports, flags)] {
            if change == Sum::ZERO {
                continue;
            }
            // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
            if unsafe { bpf_l4_csum_replace(skb, offset, 0, u64::from(change.0), flags) } != 0 {
                return false;
            }
        }
        true
    }

    #[inline(always)]
    fn advance_crc(&self, change: u32, length: usize) -> u32 {
        cip_advance_crc(change, length)
    }

    #[inline(always)]
    fn has_socket(&self, tuple: &FlowKey) -> bool {
        let skb = self.ctx.skb.skb.cast();
        let is_tcp = match tuple.protocol {
            Proto::TCP => true,
            Proto::UDP => false,
            // The kernel's helpers know no others.
            _ => return false,
        };
        let mut ends = bpf_sock_tuple {
            __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
                ipv6: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                    saddr: tuple.source.quarters(),
                    daddr: tuple.destination.quarters(),
                    sport: tuple.source_port.as_it_lies(),
                    dport: tuple.destination_port.as_it_lies(),
                },
            },
        };
        let mut size = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>();
        if tuple.source.is_mapped() {
            ends.__bindgen_anon_1.ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: last_of(tuple.source),
                daddr: last_of(tuple.destination),
                sport: tuple.source_port.as_it_lies(),
                dport: tuple.destination_port.as_it_lies(),
            };
            size = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>();
        }
        let size = size as u32;
        let socket = if is_tcp {
            // SAFETY: the context is the kernel's; the tuple is as long as `size` says.
            unsafe { bpf_skc_lookup_tcp(skb, &raw mut ends, size, OWN_NETNS, 0) }
        } else {
            // SAFETY: as above.
            unsafe { bpf_sk_lookup_udp(skb, &raw mut ends, size, OWN_NETNS, 0) }
        };
        if socket.is_null() {
            return false;
        }
        // SAFETY: what the look-up has found is held until this call, and not used after it.
        unsafe { bpf_sk_release(socket.cast()) };
        true
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
        unsafe { bpf_skb_change_tail(self.ctx.skb.skb, len as u32, 0) == 0 }
    }

    #[inline(always)]
    fn open_gap(&mut self, bytes: usize) -> bool {
        // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
        unsafe { bpf_skb_adjust_room(self.ctx.skb.skb, bytes as i32, ADJUST_AFTER_MAC, 0) == 0 }
    }
}
