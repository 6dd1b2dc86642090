//! A driver's buffer as a frame.
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
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use clusterip_common::packet::{ChecksumFix, Ethernet, Frame, Wire};

use super::{opaque, pointer};

/// Bytes of an Ethernet header.
const ETHERNET: usize = size_of::<Ethernet>();
/// Bytes of a VLAN tag.
const TAG: usize = 4;
/// No IP header begins behind this.
const FARTHEST: u32 = 31;

/// The packet of an XDP hook. All of it is in reach, and its checksums are complete.
pub(crate) struct XdpFrame {
    /// What the hook was given.
    pub(crate) ctx: XdpContext,
    network: usize,
}

impl XdpFrame {
    /// The frame of a buffer.
    #[inline(always)]
    pub(crate) const fn new(ctx: XdpContext) -> Self {
        Self { ctx, network: 0 }
    }

    /// As above, for a way, of which the verifier sees that others could call it with any number.
    #[inline(always)]
    pub(crate) fn at_network(context: *mut xdp_md, network: u32) -> Self {
        Self {
            ctx: XdpContext::new(context),
            network: opaque((network & FARTHEST) as usize),
        }
    }

    /// Where the frame begins,
    #[inline(always)]
    fn start(&self) -> usize {
        pointer::<{ offset_of!(xdp_md, data) }, _>(self.ctx.ctx)
    }

    /// and where it ends.
    #[inline(always)]
    fn end(&self) -> usize {
        pointer::<{ offset_of!(xdp_md, data_end) }, _>(self.ctx.ctx)
    }

    #[inline(always)]
    fn address<T>(&self, offset: usize) -> Option<usize> {
        let at = opaque(self.start() + offset);
        // SAFETY: a frame lies behind something, and the compiler spares a test for it.
        unsafe { assert_unchecked(at != 0) };
        (at + size_of::<T>() <= self.end()).then_some(at)
    }
}

impl XdpFrame {
    /// Copies `N` bytes to `to` from `gap` bytes behind it.
    #[inline(always)]
    fn bring_forward<const N: usize>(&mut self, gap: usize, to: usize) -> bool {
        let Some(bytes) = self.at::<[u8; N]>(gap + to).copied() else {
            return false;
        };
        self.at_mut::<[u8; N]>(to)
            .map(|place| *place = bytes)
            .is_some()
    }
}

impl Frame for XdpFrame {
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
        self.end() - self.start()
    }

    #[inline(always)]
    fn pull(&mut self, _: usize) {}

    #[inline(always)]
    fn forget(&self, number: usize) -> usize {
        // SAFETY: the address of a field of the kernel's context; nothing is read here.
        let index = unsafe { &raw const (*self.ctx.ctx).ingress_ifindex };
        // Two readings of one field: the same to us, two unknown numbers to the verifier.
        // SAFETY: the context is the kernel's.
        let once = unsafe { index.read_volatile() };
        // SAFETY: as above.
        let again = unsafe { index.read_volatile() };
        (number as u32 ^ once ^ again) as usize
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

    #[inline(always)]
    fn fix_checksum(&mut self, offset: usize, fix: ChecksumFix) -> bool {
        let Some(field) = self.at_mut::<[u8; 2]>(offset) else {
            return false;
        };
        *field = fix.of_complete(*field);
        true
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) -> bool {
        let change = len as i32 - self.len() as i32;
        // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
        change <= 0 && unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, change) == 0 }
    }

    /// Room is in front of the frame: what stands before the IP header moves there.
    #[inline(always)]
    fn open_gap(&mut self, bytes: usize) -> bool {
        // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -(bytes as i32)) } != 0 {
            return false;
        }
        if !self.bring_forward::<ETHERNET>(bytes, 0) {
            return false;
        }
        // VLAN tags, two at most.
        [ETHERNET, ETHERNET + TAG]
            .into_iter()
            .all(|tag| tag >= self.network || self.bring_forward::<TAG>(bytes, tag))
    }
}
