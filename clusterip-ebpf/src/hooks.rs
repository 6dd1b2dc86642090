//! One function per hook. The names carry a prefix: they are what `bpftool` and `tc` show.

use aya_ebpf::{
    bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use clusterip_common::packet::{self, Frame as _, Verdict};

use crate::{env::KernelEnv, frame::tc::TcFrame};

#[classifier]
fn cip_from_pod(ctx: TcContext) -> i32 {
    let mut frame = TcFrame(ctx);
    let verdict = packet::from_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

#[classifier]
fn cip_to_pod(ctx: TcContext) -> i32 {
    let mut frame = TcFrame(ctx);
    let verdict = packet::to_pod(&mut frame, &KernelEnv);
    tc_action(&frame, verdict)
}

/// The only conversion of a verdict: counts it and tells the kernel. What goes on is left to the next program (a CNI's)
/// and then to the stack.
#[inline(always)]
fn tc_action(frame: &TcFrame, verdict: Verdict) -> i32 {
    KernelEnv::count(verdict.outcome(), frame.len());
    match verdict {
        Verdict::Pass(_) | Verdict::Translated(_) => TC_ACT_UNSPEC,
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
