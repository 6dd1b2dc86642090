//! One function per hook. The names carry a prefix: they are what `bpftool` and `tc` show.

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC},
    helpers::bpf_redirect,
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use clusterip_common::{
    abi::{EventHook, Outcome},
    packet::{self, Env as _, Frame as _, Link, Network, Next, Origin, Verdict, Work},
};

use crate::{
    begin::begin,
    direct_return,
    env::KernelEnv,
    event::{keep, notice, told},
    frame::tc::TcFrame,
    icmp, leave,
    maps::work,
};

/// Not an action of TC: the packet is to be answered, the reason is added.
const REFUSED: i32 = 0x100;
/// Nor are these: the packet is served, whose sender is inside or outside the cluster, it begins a flow, in the place of
/// another one, it goes past the services, it is translated, it may turn here, its way is to be looked up, both sides of
/// its flow are to be written.
const ADMITTED: i32 = -0x200;
const ADMITTED_STRANGER: i32 = -0x207;
const CHOOSE: i32 = -0x201;
const CHOOSE_AGAIN: i32 = -0x202;
pub(crate) const BESIDE: i32 = -0x203;
pub(crate) const TRANSLATE: i32 = -0x204;
const TURN: i32 = -0x205;
pub(crate) const LOOK_UP: i32 = -0x206;
const NOTE: i32 = -0x208;
/// And this: it may belong to a client whom the node stands for, and has no entry, or to one whom another node forwarded.
pub(crate) const MEND: i32 = -0x209;
/// The port of the node that was to be its client's is somebody else's.
pub(crate) const TAKEN: i32 = -0x20a;
/// An array has its only entry: this is for the verifier.
pub(crate) const LOST: Next = Next::Verdict(Verdict::Drop(Outcome::ReplyFailed));
/// Where the number of an origin begins that is handed on with the family.
const ORIGIN: u32 = 1;
/// What comes in by an uplink is refused for this reason alone: it asks for a link address.
const ARP: i32 = REFUSED + Outcome::Announced.index().cast_signed();
const NO_ENDPOINT: i32 = Outcome::NoEndpoint.index().cast_signed();
const NO_SERVICE: i32 = Outcome::NoService.index().cast_signed();

#[classifier]
fn cip_from_pod(ctx: TcContext) -> i32 {
    from_pod(ctx, Link::Ethernet)
}

/// What of this leaves again by the uplink meets `cip_to_pod` there.
#[classifier]
fn cip_from_uplink(ctx: TcContext) -> i32 {
    from_uplink(ctx, Link::Ethernet)
}

/// As above, at devices whose frames begin with the IP header (D11).
#[classifier]
fn cip_uplink_ip(ctx: TcContext) -> i32 {
    from_uplink(ctx, Link::None)
}

#[classifier]
fn cip_to_pod(ctx: TcContext) -> i32 {
    to_pod(ctx, Link::Ethernet)
}

/// At devices whose frames begin with the IP header (D11).
#[classifier]
fn cip_from_pod_ip(ctx: TcContext) -> i32 {
    from_pod(ctx, Link::None)
}

/// As above.
#[classifier]
fn cip_to_pod_ip(ctx: TcContext) -> i32 {
    to_pod(ctx, Link::None)
}

#[inline(always)]
fn from_pod(ctx: TcContext, link: Link) -> i32 {
    let skb = ctx.skb.skb;
    told(
        skb,
        EventHook::FROM_POD,
        link,
        request(ctx, link, Origin::Pod),
    )
}

/// What a client sends, wherever it was seen.
#[inline(always)]
fn request(ctx: TcContext, link: Link, origin: Origin) -> i32 {
    let skb = ctx.skb.skb;
    let mut frame = TcFrame::of(ctx, 0);
    let Some(Network { offset, is_v6 }) = packet::network(&mut frame, link) else {
        return tc_action(&frame, Verdict::Pass(Outcome::NotOurs));
    };
    frame.enter(offset);
    let (place, family) = (place_of(offset), u32::from(is_v6));
    if packet::is_icmp(&mut frame, is_v6) {
        if origin != Origin::Pod && packet::is_solicitation(&frame, is_v6) {
            return cip_way_neighbour(skb, family);
        }
        return icmp::cip_way_icmp_from_pod(skb, place, family);
    }
    let seen = family | (origin as u32) << ORIGIN;
    let action = match cip_way_flow_from_pod(skb, place, seen) {
        CHOOSE => begin(skb, place, 0),
        CHOOSE_AGAIN => begin(skb, place, 1),
        TURN => match leave::turn(skb, place, family) {
            BESIDE => return beside(skb, place, seen),
            action => return action,
        },
        BESIDE => return beside(skb, place, seen),
        NOTE => cip_way_note(skb),
        action => action,
    };
    match action {
        TRANSLATE if goes_past_stack(origin) => leave::send(skb, place),
        TRANSLATE if packet::may_forward(&KernelEnv, origin) => {
            direct_return::cip_way_forward(skb, place)
        }
        TRANSLATE => cip_way_translate(skb, place),
        action if action < REFUSED => action,
        refused => cip_way_answer(skb, place, refused - REFUSED),
    }
}

/// What goes past the services goes by the stack.
#[inline(always)]
fn beside(skb: *mut __sk_buff, place: u32, seen: u32) -> i32 {
    let action = match direct_return::forwarded(skb, place, how_seen(seen)) {
        BESIDE => cip_way_beside(skb, place, seen),
        action => action,
    };
    carry_out(skb, place, action)
}

#[inline(always)]
fn from_uplink(ctx: TcContext, link: Link) -> i32 {
    let skb = ctx.skb.skb;
    let action = match admit(skb, link == Link::None) {
        ADMITTED => request(ctx, link, Origin::Inside),
        ADMITTED_STRANGER => request(ctx, link, Origin::Outside),
        ARP => cip_way_neighbour(skb, 0),
        action => action,
    };
    told(skb, EventHook::FROM_UPLINK, link, action)
}

/// A function of its own for the sake of the stack, as those below.
#[inline(never)]
fn admit(skb: *mut __sk_buff, is_bare: bool) -> i32 {
    let mut frame = TcFrame::new(skb, 0);
    let link = if is_bare { Link::None } else { Link::Ethernet };
    match packet::admit::<true, _, _>(&mut frame, &KernelEnv, link) {
        Ok((_, Origin::Outside)) => ADMITTED_STRANGER,
        Ok(_) => ADMITTED,
        Err(verdict) => tc_action(&frame, verdict),
    }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a few bytes into a frame")]
const fn place_of(offset: usize) -> u32 {
    offset as u32
}

#[inline(always)]
fn to_pod(ctx: TcContext, link: Link) -> i32 {
    let skb = ctx.skb.skb;
    told(skb, EventHook::TO_POD, link, reply(ctx, link))
}

#[inline(always)]
fn reply(ctx: TcContext, link: Link) -> i32 {
    let skb = ctx.skb.skb;
    let mut frame = TcFrame::of(ctx, 0);
    let Some(Network { offset, is_v6 }) = packet::network(&mut frame, link) else {
        return tc_action(&frame, Verdict::Pass(Outcome::NotOurs));
    };
    frame.enter(offset);
    let (place, family) = (place_of(offset), u32::from(is_v6));
    if packet::is_icmp(&mut frame, is_v6) {
        icmp::cip_way_icmp_to_pod(skb, place, family)
    } else {
        let action = match cip_way_flow_to_pod(skb, place, family) {
            MEND => match direct_return::returned(skb, place) {
                MEND => cip_way_mend(skb, place),
                action => action,
            },
            action => action,
        };
        carry_out(skb, place, action)
    }
}

/// What is left to do of what a way has said.
#[inline(always)]
fn carry_out(skb: *mut __sk_buff, place: u32, action: i32) -> i32 {
    let action = match action {
        NOTE => cip_way_note(skb),
        action => action,
    };
    match action {
        TRANSLATE => cip_way_translate(skb, place),
        action => action,
    }
}

// The ways are functions in the kernel, too: each has a stack frame of its own, and 512 bytes hold one of them. That others
// could call them lets the verifier look at each once, and not anew for each place that leads to it.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_flow_from_pod(skb: *mut __sk_buff, network: u32, seen: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let (is_v6, origin) = how_seen(seen);
    let next = packet::flow_from_pod(&frame, &KernelEnv, (is_v6, origin), work);
    if goes_past_stack(origin) || packet::may_forward(&KernelEnv, origin) {
        return go_on(&frame, next);
    }
    translated(&mut frame, next, work)
}

/// Family and origin, out of one number.
#[inline(always)]
const fn how_seen(seen: u32) -> (bool, Origin) {
    let origin = match seen >> ORIGIN {
        0 => Origin::Pod,
        1 => Origin::Inside,
        _ => Origin::Outside,
    };
    (seen & 1 != 0, origin)
}

/// A packet past the services.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_beside(skb: *mut __sk_buff, network: u32, seen: u32) -> i32 {
    let frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let next = packet::beside(&frame, &KernelEnv, how_seen(seen), work);
    go_on(&frame, next)
}

/// The node stands for clients from outside at the device that a packet leaves by: behind the stack (E2).
#[inline(always)]
fn goes_past_stack(origin: Origin) -> bool {
    KernelEnv.settings().is_past_stack() && origin == Origin::Pod
}

/// What the way of an established flow comes to: it translates the packet itself, because a call more is what such a packet
/// would pay most for.
#[inline(always)]
fn translated(frame: &mut TcFrame, next: Next, work: &Work) -> i32 {
    match next {
        Next::Translate => {
            let verdict = packet::translate(frame, &work.translation);
            tc_action(frame, verdict)
        }
        next => go_on(frame, next),
    }
}

/// Writes the entries of both sides of a packet's flow.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_note(skb: *mut __sk_buff) -> i32 {
    let next = work().map_or(LOST, |work| packet::note(&KernelEnv, work));
    go_on(&TcFrame::new(skb, 0), next)
}

/// A packet that leaves, and may belong to a client whom the node stands for.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_mend(skb: *mut __sk_buff, network: u32) -> i32 {
    let frame = TcFrame::at_network(skb, network);
    let next = work().map_or(LOST, |work| packet::mend(&KernelEnv, frame.network(), work));
    go_on(&frame, next)
}

/// What a way comes to.
#[inline(always)]
pub(crate) fn go_on(frame: &TcFrame, next: Next) -> i32 {
    match next {
        Next::Translate => TRANSLATE,
        Next::Note => NOTE,
        Next::Verdict(verdict) => tc_action(frame, verdict),
        Next::Choose { replaces: false } => CHOOSE,
        Next::Choose { replaces: true } => CHOOSE_AGAIN,
        Next::Beside => BESIDE,
        Next::Turn => TURN,
        Next::LookUp => LOOK_UP,
        Next::Mend => MEND,
        Next::Taken => TAKEN,
        Next::Backend(_) | Next::Port(_) | Next::NodePort(_) => TC_ACT_SHOT,
    }
}

/// Makes the answer to what was refused, for a reason by its number.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_answer(skb: *mut __sk_buff, network: u32, reason: i32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let reason = match reason {
        NO_ENDPOINT => Outcome::NoEndpoint,
        NO_SERVICE => Outcome::NoService,
        _ => Outcome::NoFlow,
    };
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    keep(skb);
    let verdict = packet::reject(&mut frame, &KernelEnv, work, reason);
    tc_action(&frame, verdict)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_flow_to_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let next = packet::flow_to_pod(&frame, &KernelEnv, is_v6 != 0, work);
    translated(&mut frame, next, work)
}

/// A neighbour that asks for a link address.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_neighbour(skb: *mut __sk_buff, is_v6: u32) -> i32 {
    let mut frame = TcFrame::new(skb, 0);
    let verdict = packet::answer_neighbour(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}

/// Does to a packet what one of the ways has decided.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_translate(skb: *mut __sk_buff, network: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let verdict = packet::translate(&mut frame, &work.translation);
    tc_action(&frame, verdict)
}

/// The only conversion of a verdict: counts it and tells the kernel. What goes on is left to the next program (a CNI's)
/// and then to the stack.
#[inline(always)]
pub(crate) fn tc_action(frame: &TcFrame, verdict: Verdict) -> i32 {
    if let Verdict::Refuse(reason) = verdict {
        return REFUSED + reason.index().cast_signed();
    }
    KernelEnv::count(verdict.outcome(), frame.len());
    notice(verdict);
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
