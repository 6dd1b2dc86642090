//! The hook at an uplink's driver: what comes from outside to a service ends before the stack makes anything of it (E1), and what
//! is for a backend on another node, in a flow that is known, is sent on from here (docs/adr/0017-at-the-driver.md).

use aya_ebpf::{
    bindings::{
        xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        xdp_md,
    },
    helpers::bpf_redirect,
    macros::xdp,
    programs::XdpContext,
};
use aya_log_ebpf::debug;
use clusterip_common::{
    abi::{Direction, Outcome},
    packet::{
        self, Exit, Frame as _, Link, Next, Verdict,
        driver::{self, Of},
    },
};

use crate::{env::KernelEnv, event, frame::xdp::XdpFrame, leave, maps::work};

/// Not actions of XDP: the packet may be a request, or an answer, of a flow that is known; where its IP header begins is added.
const REQUEST: u32 = 0x200;
const ANSWER: u32 = 0x400;
const PLACE: u32 = 0x1f;
/// Nor are these: the packet is translated, both sides of its flow are to be written first, its way is to be looked up.
const TRANSLATE: u32 = 0x100;
const NOTE: u32 = 0x101;
const LOOK_UP: u32 = 0x102;
/// And this: it may belong to a client whom the node stands for, and has no entry.
const MEND: u32 = 0x103;
/// Or it ends here; the number of the outcome is added.
const DROP: u32 = 0x800;

#[xdp]
#[expect(clippy::needless_pass_by_value, reason = "the signature of a program")]
fn cip_uplink_xdp(ctx: XdpContext) -> u32 {
    let context = ctx.ctx;
    let read = read(context);
    if read & (REQUEST | ANSWER) == 0 {
        return end(context, read);
    }
    let (place, is_request) = (read & PLACE, read & REQUEST != 0);
    let mut action = known(context, place, is_request);
    if action == LOOK_UP {
        if cip_xdp_look_up(context) == 0 {
            return XDP_PASS;
        }
        action = known(context, place, is_request);
    }
    match action {
        TRANSLATE => {}
        NOTE => {
            cip_xdp_note(place);
        }
        LOOK_UP => return XDP_PASS,
        action => return end(context, action),
    }
    let device = cip_xdp_depart(context, place);
    if device == 0 {
        return XDP_DROP;
    }
    let mut action = cip_xdp_other_end(context, place);
    if action == MEND {
        action = cip_xdp_mend(context, place);
    }
    match action {
        TRANSLATE => {}
        NOTE => {
            cip_xdp_note(place);
        }
        XDP_PASS => return send(context, device),
        action => return end(context, action),
    }
    match cip_xdp_translate(context, place) {
        XDP_DROP => XDP_DROP,
        _ => send(context, device),
    }
}

#[inline(always)]
fn known(context: *mut xdp_md, place: u32, is_request: bool) -> u32 {
    if is_request {
        cip_xdp_request(context, place)
    } else {
        cip_xdp_answer(context, place)
    }
}

/// A function of its own for the sake of the stack.
#[inline(never)]
fn read(context: *mut xdp_md) -> u32 {
    let mut frame = XdpFrame::new(XdpContext::new(context));
    let (network, origin) =
        match packet::admit::<false, _, _>(&mut frame, &KernelEnv, Link::Ethernet) {
            Ok(admitted) => admitted,
            Err(verdict) => return go_on(Next::Verdict(verdict)),
        };
    let Some(work) = work() else {
        return XDP_PASS;
    };
    #[expect(clippy::cast_possible_truncation, reason = "a few bytes into a frame")]
    let place = network.offset as u32 & PLACE;
    match driver::read(&mut frame, &KernelEnv, (network.is_v6, origin), work) {
        Some(Of::Request) => REQUEST | place,
        Some(Of::Answer) => ANSWER | place,
        None => XDP_PASS,
    }
}

/// What a way has said, if it is the last word.
#[inline(always)]
fn end(context: *mut xdp_md, action: u32) -> u32 {
    if action & DROP == 0 {
        return XDP_PASS;
    }
    cip_xdp_drop(context, action & !DROP)
}

/// Ends a packet for a reason, by its number: below the ways there is no stack left for it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_drop(context: *mut xdp_md, reason: u32) -> u32 {
    let frame = XdpFrame::at_network(context, 0);
    let outcome = event::outcome_of(reason).unwrap_or(Outcome::Truncated);
    done(&frame, Verdict::Drop(outcome))
}

// As in `hooks`: each way has a stack frame of its own, and the verifier looks at it once.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_request(context: *mut xdp_md, network: u32) -> u32 {
    let frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_PASS;
    };
    let next = driver::request(&frame, &KernelEnv, work);
    go_on(next)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_answer(context: *mut xdp_md, network: u32) -> u32 {
    let frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_PASS;
    };
    let next = driver::answer(&frame, &KernelEnv, work);
    go_on(next)
}

/// Asks the kernel for the way, and remembers it; 0: this packet takes the stack.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_look_up(context: *mut xdp_md) -> u32 {
    let Some(work) = work() else {
        return 0;
    };
    let ask = packet::ask(&KernelEnv, work, Direction::REQUEST);
    // SAFETY: the context is the kernel's; reading a field of it is what it is for.
    let device = unsafe { (*context).ingress_ifindex };
    let route = leave::route(context.cast(), device, &ask);
    driver::learn_at_driver(&KernelEnv, &ask, &route).into()
}

/// Writes the entries of both sides of a packet's flow. An argument that is not used would be left out where this is called, and
/// the verifier wants it: so it is given back.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_note(network: u32) -> u32 {
    if let Some(work) = work() {
        packet::note(&KernelEnv, work);
    }
    network
}

/// Does what TC would do at ingress, and makes the frame ready to leave: the device, 0 if it ends here.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_depart(context: *mut xdp_md, network: u32) -> u32 {
    let mut frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return 0;
    };
    let (verdict, device) = packet::depart(&mut frame, &KernelEnv, work, Exit::Driver);
    done(&frame, verdict);
    device
}

/// What TC would do at egress.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_other_end(context: *mut xdp_md, network: u32) -> u32 {
    let frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_DROP;
    };
    let next = driver::other_end(&KernelEnv, frame.network(), work, frame.len());
    left(&frame, next)
}

/// As in `hooks`.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_mend(context: *mut xdp_md, network: u32) -> u32 {
    let frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_DROP;
    };
    let next = packet::mend(&KernelEnv, frame.network(), work);
    left(&frame, next)
}

/// What egress comes to: TC counts there what it passes.
#[inline(always)]
fn left(frame: &XdpFrame, next: Next) -> u32 {
    if let Next::Verdict(Verdict::Pass(outcome)) = next {
        KernelEnv::count(outcome, frame.len());
    }
    go_on(next)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_xdp_translate(context: *mut xdp_md, network: u32) -> u32 {
    let mut frame = XdpFrame::at_network(context, network);
    let Some(work) = work() else {
        return XDP_DROP;
    };
    let verdict = packet::translate(&mut frame, &work.translation);
    done(&frame, verdict)
}

/// What a way comes to.
#[inline(always)]
const fn go_on(next: Next) -> u32 {
    match next {
        Next::Translate => TRANSLATE,
        Next::Note => NOTE,
        Next::LookUp => LOOK_UP,
        Next::Mend => MEND,
        Next::Verdict(Verdict::Drop(outcome)) => DROP | outcome.index(),
        // As it came: TC's hook at the device counts it.
        _ => XDP_PASS,
    }
}

/// Back to where it came from, or out of another driver.
#[inline(always)]
fn send(context: *mut xdp_md, device: u32) -> u32 {
    // SAFETY: the context is the kernel's; reading a field of it is what it is for.
    if device == unsafe { (*context).ingress_ifindex } {
        return XDP_TX;
    }
    // SAFETY: the helper takes two numbers.
    let action = unsafe { bpf_redirect(device, 0) };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an XDP action"
    )]
    let action = action as u32;
    action
}

/// The only conversion of a verdict on what TC does not see: counts it, and tells who listens.
#[inline(always)]
fn done(frame: &XdpFrame, verdict: Verdict) -> u32 {
    KernelEnv::count(verdict.outcome(), frame.len());
    event::driver(frame.ctx.ctx, verdict);
    match verdict {
        Verdict::Pass(_) | Verdict::Translated(_) | Verdict::Refuse(_) => XDP_PASS,
        Verdict::Reply(_) => XDP_TX,
        Verdict::Drop(outcome) => {
            debug!(&frame.ctx, "drop, outcome {}", Outcome::index(outcome));
            XDP_DROP
        }
    }
}
