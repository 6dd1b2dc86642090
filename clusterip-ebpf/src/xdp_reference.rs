//! What the bench runs at a driver: the packet function with its end, a turn to the device that the packet came by, and that turn
//! alone. The agent never loads these.
#![expect(
    clippy::indexing_slicing,
    clippy::host_endian_bytes,
    reason = "a frame of the bench's is moved as it lies, a word at a time, and all words are there"
)]

use core::cell::UnsafeCell;

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    macros::xdp,
    programs::XdpContext,
};
use clusterip_common::packet::{self, Frame as _, Link, Next, Origin, Verdict};

use crate::{env::KernelEnv, event::Written, frame::xdp::XdpFrame, maps::work};

/// No action of XDP: the packet is to be translated.
const TRANSLATE: u32 = 0x100;
/// Nor this: both sides of its flow are to be written first.
const NOTE: u32 = 0x101;

/// The turn alone.
#[xdp]
const fn cip_xdp_turn(_ctx: XdpContext) -> u32 {
    XDP_TX
}

/// The frame that [`cip_xdp_source`] sends, which the bench writes; a section, and so a map, of its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.frame")]
static FRAME: Written<[u64; WORDS]> = Written(UnsafeCell::new([0; WORDS]));
/// 64 bytes.
const WORDS: usize = 8;

/// A client's device. What has been through a node and comes to be sent once more is not as it was: each frame is written anew.
#[xdp]
fn cip_xdp_source(ctx: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(ctx);
    for word in 0..WORDS {
        // SAFETY: the address of a word of the static; nothing is read here.
        let place = unsafe { (&raw const (*FRAME.0.get())[word]) };
        // SAFETY: the bench wrote it before.
        let bytes = unsafe { place.read_volatile() };
        let Some(to) = frame.at_mut::<[u8; 8]>(word * 8) else {
            return XDP_ABORTED;
        };
        *to = bytes.to_ne_bytes();
    }
    XDP_TX
}

/// The other end of the wire.
#[xdp]
const fn cip_xdp_sink(_ctx: XdpContext) -> u32 {
    XDP_DROP
}

/// What comes from another node for a service, in a flow that is known, and the turn. What begins a flow is not for here.
#[xdp]
fn cip_xdp_service(ctx: XdpContext) -> u32 {
    let context = ctx.ctx;
    let mut frame = XdpFrame::new(ctx);
    let network = match packet::admit::<false, _, _>(&mut frame, &KernelEnv, Link::Ethernet) {
        Ok((network, _origin)) => network,
        Err(verdict) => return action(&frame, verdict),
    };
    #[expect(clippy::cast_possible_truncation, reason = "a few bytes into a frame")]
    let place = network.offset as u32;
    match flow(context, place, network.is_v6) {
        TRANSLATE => translate(context, place),
        NOTE => {
            note();
            translate(context, place)
        }
        action => action,
    }
}

#[inline(never)]
fn note() -> u32 {
    if let Some(work) = work() {
        packet::note(&KernelEnv, work);
    }
    0
}

/// A function of its own for the sake of the stack, as the one below.
#[inline(never)]
fn flow(context: *mut xdp_md, network: u32, is_v6: bool) -> u32 {
    let frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_ABORTED;
    };
    match packet::flow_from_pod(&frame, &KernelEnv, (is_v6, Origin::Inside), work) {
        Next::Translate => TRANSLATE,
        Next::Note => NOTE,
        Next::Verdict(verdict) => action(&frame, verdict),
        _ => XDP_ABORTED,
    }
}

#[inline(never)]
fn translate(context: *mut xdp_md, network: u32) -> u32 {
    let mut frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_ABORTED;
    };
    let verdict = packet::translate(&mut frame, &work.translation);
    action(&frame, verdict)
}

/// Counts a verdict, as the hooks of the agent do, and turns what is translated.
#[inline(always)]
fn action(frame: &XdpFrame, verdict: Verdict) -> u32 {
    KernelEnv::count(verdict.outcome(), frame.len());
    match verdict {
        Verdict::Translated(_) => XDP_TX,
        Verdict::Drop(_) => XDP_DROP,
        Verdict::Pass(_) | Verdict::Refuse(_) | Verdict::Reply(_) => XDP_PASS,
    }
}
