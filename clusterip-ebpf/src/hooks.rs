//! One function per hook. The names carry a prefix: they are what `bpftool` and `tc` show.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use clusterip_common::{
    abi::Outcome,
    packet::{self, Frame as _, Verdict},
};

use crate::{env::KernelEnv, frame::tc::TcFrame};

/// Not an action of TC: the packet is to be answered, the reason is added.
const REFUSED: i32 = 0x100;
const NO_ENDPOINT: i32 = Outcome::NoEndpoint.index().cast_signed();
const NO_SERVICE: i32 = Outcome::NoService.index().cast_signed();

#[classifier]
fn cip_from_pod(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if packet::is_icmp(&mut TcFrame(ctx)) {
        return icmp_from_pod(skb);
    }
    let action = flow_from_pod(skb);
    if action < REFUSED {
        action
    } else {
        answer(skb, action - REFUSED)
    }
}

#[classifier]
fn cip_to_pod(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if packet::is_icmp(&mut TcFrame(ctx)) {
        icmp_to_pod(skb)
    } else {
        flow_to_pod(skb)
    }
}

/// The ways are functions in the kernel, too: each has a stack frame of its own, and 512 bytes hold one of them.
#[inline(never)]
fn flow_from_pod(skb: *mut __sk_buff) -> i32 {
    let mut frame = TcFrame(TcContext::new(skb));
    let verdict = packet::flow_from_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

/// Makes the answer to what was refused, for a reason by its number.
#[inline(never)]
fn answer(skb: *mut __sk_buff, reason: i32) -> i32 {
    let mut frame = TcFrame(TcContext::new(skb));
    let reason = match reason {
        NO_ENDPOINT => Outcome::NoEndpoint,
        NO_SERVICE => Outcome::NoService,
        _ => Outcome::NoFlow,
    };
    let verdict = packet::reject(&mut frame, reason);
    tc_action(&frame, verdict)
}

#[inline(never)]
fn flow_to_pod(skb: *mut __sk_buff) -> i32 {
    let mut frame = TcFrame(TcContext::new(skb));
    let verdict = packet::flow_to_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

#[inline(never)]
fn icmp_from_pod(skb: *mut __sk_buff) -> i32 {
    let mut frame = TcFrame(TcContext::new(skb));
    let verdict = packet::icmp_from_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

#[inline(never)]
fn icmp_to_pod(skb: *mut __sk_buff) -> i32 {
    let mut frame = TcFrame(TcContext::new(skb));
    let verdict = packet::icmp_to_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

/// The only conversion of a verdict: counts it and tells the kernel. What goes on is left to the next program (a CNI's)
/// and then to the stack.
#[inline(always)]
fn tc_action(frame: &TcFrame, verdict: Verdict) -> i32 {
    if let Verdict::Refuse(reason) = verdict {
        return REFUSED + reason.index().cast_signed();
    }
    KernelEnv::count(verdict.outcome(), frame.len());
    match verdict {
        Verdict::Pass(_) | Verdict::Translated(_) | Verdict::Refuse(_) => TC_ACT_UNSPEC,
        Verdict::Reply(outcome) => {
            debug!(&frame.0, "reply, outcome {}", outcome.index());
            let device = frame.device();
            // SAFETY: the helper takes two numbers.
            let action = unsafe { bpf_redirect(device, 0) };
            #[expect(clippy::cast_possible_truncation, reason = "a TC action")]
            let action = action as i32;
            action
        }
        Verdict::Drop(outcome) => {
            debug!(&frame.0, "drop, outcome {}", outcome.index());
            TC_ACT_SHOT
        }
    }
}

/// What the helpers in use ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
