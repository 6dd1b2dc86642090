//! The hook at a driver: what comes from outside to a service ends before the stack makes anything of it (E1).

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use clusterip_common::packet::{self, Frame as _, Link, Verdict};

use crate::{env::KernelEnv, event, frame::xdp::XdpFrame};

/// What is served goes on to `cip_from_uplink`, which is at the same device.
#[xdp]
fn cip_uplink_xdp(ctx: XdpContext) -> u32 {
    let mut frame = XdpFrame::new(ctx);
    match packet::admit(&mut frame, &KernelEnv, Link::Ethernet) {
        Ok(_) => XDP_PASS,
        Err(verdict) => xdp_action(&frame, verdict),
    }
}

/// The only conversion of a verdict here. What goes on is counted where it is seen next: by the device's TC hook.
#[inline(always)]
fn xdp_action(frame: &XdpFrame, verdict: Verdict) -> u32 {
    let action = match verdict {
        Verdict::Pass(_) | Verdict::Translated(_) | Verdict::Refuse(_) => return XDP_PASS,
        Verdict::Reply(_) => XDP_TX,
        Verdict::Drop(outcome) => {
            debug!(&frame.ctx, "drop, outcome {}", outcome.index());
            XDP_DROP
        }
    };
    KernelEnv::count(verdict.outcome(), frame.len());
    event::driver(frame.ctx.ctx, verdict);
    action
}
