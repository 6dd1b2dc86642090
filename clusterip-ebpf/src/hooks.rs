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
    packet::{self, Frame as _, Link, Network, Verdict},
};

use crate::{env::KernelEnv, frame::tc::TcFrame};

/// Not an action of TC: the packet is to be answered, the reason is added.
const REFUSED: i32 = 0x100;
/// Nor is this: the packet is served.
const ADMITTED: i32 = 0x200;
const NO_ENDPOINT: i32 = Outcome::NoEndpoint.index().cast_signed();
const NO_SERVICE: i32 = Outcome::NoService.index().cast_signed();

#[classifier]
fn cip_from_pod(ctx: TcContext) -> i32 {
    from_pod(ctx.skb.skb, Link::Ethernet)
}

/// What of this leaves again by the uplink meets `cip_to_pod` there.
#[classifier]
fn cip_from_uplink(ctx: TcContext) -> i32 {
    from_uplink(ctx.skb.skb, Link::Ethernet)
}

/// As above, at devices whose frames begin with the IP header (D11).
#[classifier]
fn cip_uplink_ip(ctx: TcContext) -> i32 {
    from_uplink(ctx.skb.skb, Link::None)
}

#[classifier]
fn cip_to_pod(ctx: TcContext) -> i32 {
    to_pod(ctx.skb.skb, Link::Ethernet)
}

/// At devices whose frames begin with the IP header (D11).
#[classifier]
fn cip_from_pod_ip(ctx: TcContext) -> i32 {
    from_pod(ctx.skb.skb, Link::None)
}

/// As above.
#[classifier]
fn cip_to_pod_ip(ctx: TcContext) -> i32 {
    to_pod(ctx.skb.skb, Link::None)
}

#[inline(always)]
fn from_pod(skb: *mut __sk_buff, link: Link) -> i32 {
    let mut frame = TcFrame::new(skb, 0);
    let Some(Network { offset, is_v6 }) = packet::network(&mut frame, link) else {
        return tc_action(&frame, Verdict::Pass(Outcome::NotOurs));
    };
    frame.enter(offset);
    let (place, family) = (offset as u32, u32::from(is_v6));
    if packet::is_icmp(&mut frame, is_v6) {
        return cip_way_icmp_from_pod(skb, place, family);
    }
    let action = cip_way_flow_from_pod(skb, place, family);
    if action < REFUSED {
        action
    } else {
        cip_way_answer(skb, place, family, action - REFUSED)
    }
}

#[inline(always)]
fn from_uplink(skb: *mut __sk_buff, link: Link) -> i32 {
    match admit(skb, link == Link::None) {
        ADMITTED => from_pod(skb, link),
        action => action,
    }
}

/// A function of its own for the sake of the stack, as those below.
#[inline(never)]
fn admit(skb: *mut __sk_buff, is_bare: bool) -> i32 {
    let mut frame = TcFrame::new(skb, 0);
    let link = if is_bare { Link::None } else { Link::Ethernet };
    match packet::admit(&mut frame, &KernelEnv, link) {
        Ok(_) => ADMITTED,
        Err(verdict) => tc_action(&frame, verdict),
    }
}

#[inline(always)]
fn to_pod(skb: *mut __sk_buff, link: Link) -> i32 {
    let mut frame = TcFrame::new(skb, 0);
    let Some(Network { offset, is_v6 }) = packet::network(&mut frame, link) else {
        return tc_action(&frame, Verdict::Pass(Outcome::NotOurs));
    };
    frame.enter(offset);
    let (place, family) = (offset as u32, u32::from(is_v6));
    if packet::is_icmp(&mut frame, is_v6) {
        cip_way_icmp_to_pod(skb, place, family)
    } else {
        cip_way_flow_to_pod(skb, place, family)
    }
}

// The ways are functions in the kernel, too: each has a stack frame of its own, and 512 bytes hold one of them. That others
// could call them lets the verifier look at each once, and not anew for each place that leads to it.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_flow_from_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::flow_from_pod(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}

/// Makes the answer to what was refused, for a reason by its number.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_answer(skb: *mut __sk_buff, network: u32, is_v6: u32, reason: i32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let reason = match reason {
        NO_ENDPOINT => Outcome::NoEndpoint,
        NO_SERVICE => Outcome::NoService,
        _ => Outcome::NoFlow,
    };
    let verdict = packet::reject(&mut frame, &KernelEnv, reason, is_v6 != 0);
    tc_action(&frame, verdict)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_flow_to_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::flow_to_pod(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_icmp_from_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::icmp_from_pod(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_icmp_to_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::icmp_to_pod(&mut frame, &KernelEnv, is_v6 != 0);
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
            debug!(&frame.ctx, "reply, outcome {}", outcome.index());
            let device = frame.device();
            // SAFETY: the helper takes two numbers.
            let action = unsafe { bpf_redirect(device, 0) };
            #[expect(clippy::cast_possible_truncation, reason = "a TC action")]
            let action = action as i32;
            action
        }
        Verdict::Drop(outcome) => {
            debug!(&frame.ctx, "drop, outcome {}", outcome.index());
            TC_ACT_SHOT
        }
    }
}

/// What the helpers in use ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
