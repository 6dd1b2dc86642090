//! Events for whoever listens: a note is made where a verdict is converted, and told at the end of the hook, where there
//! is stack left for it. While nobody listens all of this is one number that is zero.

use core::{cell::UnsafeCell, mem::size_of};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, bpf_sock_addr, xdp_md},
    helpers::{bpf_ktime_get_ns, bpf_skb_load_bytes},
    macros::map,
    maps::{PerCpuArray, RingBuf},
    programs::{SockAddrContext, XdpContext},
};
use clusterip_common::{
    abi::{
        Event, EventHook, EventKind, Outcome, Watch,
        event::{CAPTURE, RING, Record},
    },
    packet::{
        self, Env as _, Frame, Link, Verdict,
        event::{self, wants_frame},
        socket::{Socket, SocketVerdict},
    },
};

use crate::{
    env::KernelEnv,
    frame::{tc::TcFrame, xdp::XdpFrame},
    maps::work,
    socket::{CallV4, CallV6},
};

/// Events on their way to the agent that loaded this. Not pinned: the next agent brings its own.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(RING, 0);

/// Events that found no room.
#[map]
static LOST_EVENTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What is being told of the packet that this CPU is at.
#[map]
static NOTES: PerCpuArray<Note> = PerCpuArray::with_max_entries(1, 0);

/// The agent looks by itself: nobody is woken for each packet (`BPF_RB_NO_WAKEUP`).
const QUIETLY: u64 = 1;

#[repr(C)]
struct Note {
    record: Record,
    /// Whether it is to be told.
    is_due: u32,
    outcome: u32,
    kind: EventKind,
    /// The packet has ended its flow.
    has_ended: bool,
    _pad: [u8; 2],
    /// Bytes of the frame that were kept before it became an answer,
    kept: u32,
    /// and how many it had.
    length: u32,
    _tail: u32,
}

/// A place that the agent writes and programs read.
#[repr(transparent)]
pub(crate) struct Written<T>(pub(crate) UnsafeCell<T>);

// SAFETY: read field by field by `get`, each in one access; any mixture of old and new is good for a moment.
unsafe impl<T> Sync for Written<T> {}

/// What is wanted: by itself in a section, which becomes a map of that name, and is read without a look-up.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.watch")]
static WATCH: Written<Watch> = Written(UnsafeCell::new(Watch::NOBODY));

/// Whether anybody listens: what every packet pays.
#[inline(always)]
pub(crate) fn is_watched() -> bool {
    // SAFETY: the address of a field of the static; nothing is read here.
    let until = unsafe { &raw const (*WATCH.0.get()).until };
    // SAFETY: the agent may write it at any time; one load sees the old or the new number.
    (unsafe { until.read_volatile() }) != 0
}

#[inline(always)]
fn watch() -> &'static Watch {
    // SAFETY: the verifier lets nobody in the kernel write it, and what the agent writes meanwhile is as good.
    core::hint::black_box(unsafe { &*WATCH.0.get() })
}

#[inline(always)]
fn note() -> Option<&'static mut Note> {
    let note = NOTES.get_ptr_mut(0)?;
    // SAFETY: as of `work`: a packet's program is not interrupted by another on its CPU.
    Some(unsafe { &mut *note })
}

/// A verdict as two numbers, for a function that others could call.
const TRANSLATED: u32 = 0;
const REPLY: u32 = 1;
const DROP: u32 = 2;

/// Makes a note of a verdict, if somebody listens.
#[inline(always)]
pub(crate) fn notice(verdict: Verdict) {
    let class = match verdict {
        Verdict::Pass(_) | Verdict::Refuse(_) => return,
        Verdict::Translated(_) => TRANSLATED,
        Verdict::Reply(_) => REPLY,
        Verdict::Drop(_) => DROP,
    };
    if is_watched() {
        let _scalar = cip_event_note(class, verdict.outcome().index());
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_event_note(class: u32, outcome: u32) -> u32 {
    // First of all: what is kept over a call takes of the stack, and below the longest ways 32 bytes are left.
    let now = KernelEnv.now();
    let Some(note) = note() else {
        return 0;
    };
    let has_ended = core::mem::replace(&mut note.has_ended, false);
    note.is_due = 0;
    let Some(name) = outcome_of(outcome) else {
        return 0;
    };
    let verdict = match class {
        TRANSLATED => Verdict::Translated(name),
        REPLY => Verdict::Reply(name),
        _ => Verdict::Drop(name),
    };
    let Some(kind) = event::kind(verdict, has_ended) else {
        return 0;
    };
    note.kind = kind;
    note.outcome = outcome;
    note.is_due = watch().wants(kind, name, now).into();
    0
}

/// One of the outcomes, or another one that is treated the same way.
#[inline(always)]
pub(crate) fn outcome_of(index: u32) -> Option<Outcome> {
    Outcome::ALL.get(index as usize).copied()
}

/// Notes that a flow has ended, if somebody listens.
#[inline(always)]
pub(crate) fn ended() {
    if is_watched()
        && let Some(note) = note()
    {
        note.has_ended = true;
    }
}

/// Keeps what is told of a frame that is about to become an answer, if somebody listens.
#[inline(always)]
pub(crate) fn keep(skb: *mut __sk_buff) {
    if is_watched()
        && let Some(note) = note()
    {
        // SAFETY: the context is the kernel's.
        note.length = unsafe { (*skb).len };
        if watch().capture != 0 {
            note.kept = load(skb, &mut note.record.frame);
        }
    }
}

/// Bytes of the beginning of a frame.
#[inline(always)]
fn load(skb: *mut __sk_buff, to: &mut [u8; CAPTURE]) -> u32 {
    // SAFETY: the context is the kernel's.
    let length = unsafe { (*skb).len };
    #[expect(clippy::cast_possible_truncation, reason = "128")]
    let room = CAPTURE as u32;
    if length >= room {
        // SAFETY: the helper writes as many bytes as there are.
        let result = unsafe { bpf_skb_load_bytes(skb.cast(), 0, to.as_mut_ptr().cast(), room) };
        return if result == 0 { room } else { 0 };
    }
    if length == 0 {
        return 0;
    }
    // From 1 on, in a form that verifiers before 6.12 see too: they learn nothing of a number that is not 0.
    let length = (core::hint::black_box(length - 1) & (room - 1)) + 1;
    // SAFETY: as above, fewer than there is room for.
    let result = unsafe { bpf_skb_load_bytes(skb.cast(), 0, to.as_mut_ptr().cast(), length) };
    if result == 0 { length } else { 0 }
}

/// Tells what was noted of a packet, at the end of its hook.
#[inline(always)]
pub(crate) fn told(skb: *mut __sk_buff, hook: EventHook, link: Link, action: i32) -> i32 {
    if is_watched() {
        let _scalar = cip_event_tell(skb, u32::from(hook.0), u32::from(link == Link::None));
    }
    action
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_event_tell(skb: *mut __sk_buff, hook: u32, is_bare: u32) -> i32 {
    let Some(note) = note() else {
        return 0;
    };
    // What was kept is this packet's, or nobody's.
    let kept = core::mem::replace(&mut note.kept, 0);
    let length = core::mem::replace(&mut note.length, 0);
    if core::mem::replace(&mut note.is_due, 0) == 0 {
        return 0;
    }
    let mut frame = TcFrame::new(skb, 0);
    let link = if is_bare == 0 {
        Link::Ethernet
    } else {
        Link::None
    };
    let Some(network) = packet::network(&mut frame, link) else {
        return 0;
    };
    frame.enter(network.offset);
    #[expect(clippy::cast_possible_truncation, reason = "one of a few")]
    let hook = EventHook(hook as u8);
    let seen = (note.kind, note.outcome, hook, network.is_v6);
    let (watch, event) = (watch(), &mut note.record.event);
    let Some(work) = work() else {
        return 0;
    };
    if !event::describe(&frame, &KernelEnv, work, watch, seen, event) {
        return 0;
    }
    if note.kind == EventKind::REJECTED {
        event.bytes = length;
    }
    event.device = frame.device();
    event.captured = 0;
    if wants_frame(watch, note.kind) {
        event.captured = if note.kind == EventKind::REJECTED {
            kept
        } else {
            load(skb, &mut note.record.frame)
        };
    }
    send(&mut note.record);
    0
}

/// Tells of a frame that ends at a driver.
#[inline(always)]
pub(crate) fn driver(context: *mut xdp_md, verdict: Verdict) {
    notice(verdict);
    if is_watched() {
        let _scalar = cip_event_xdp(context);
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_event_xdp(context: *mut xdp_md) -> i32 {
    let Some(note) = note() else {
        return 0;
    };
    if core::mem::replace(&mut note.is_due, 0) == 0 {
        return 0;
    }
    let mut frame = XdpFrame::new(XdpContext::new(context));
    let Some(network) = packet::network(&mut frame, Link::Ethernet) else {
        return 0;
    };
    frame.enter(network.offset);
    let seen = (note.kind, note.outcome, EventHook::DRIVER, network.is_v6);
    let (watch, event) = (watch(), &mut note.record.event);
    let Some(work) = work() else {
        return 0;
    };
    if !event::describe(&frame, &KernelEnv, work, watch, seen, event) {
        return 0;
    }
    // SAFETY: the context is the kernel's.
    event.device = unsafe { (*context).ingress_ifindex };
    event.captured = 0;
    if wants_frame(watch, note.kind) {
        event.captured = event::copy(&frame, &mut note.record.frame);
    }
    send(&mut note.record);
    0
}

/// Into the ring, with the frame if there is one.
#[inline(always)]
fn send(record: &mut Record) {
    // SAFETY: the helper takes nothing and gives a number.
    record.event.time = unsafe { bpf_ktime_get_ns() };
    let result = if record.event.captured == 0 {
        EVENTS.output::<Event>(&record.event, QUIETLY)
    } else {
        EVENTS.output::<Record>(&*record, QUIETLY)
    };
    if result.is_err() {
        lost();
    }
}

#[inline(always)]
fn lost() {
    if let Some(count) = LOST_EVENTS.get_ptr_mut(0) {
        // SAFETY: this CPU's own counter; one that is interrupted here may count one too few.
        unsafe { *count += 1 };
    }
}

/// Tells of a call, if somebody listens.
#[inline(always)]
pub(crate) fn call_v4(context: &SockAddrContext, verdict: SocketVerdict) {
    if let Some(kind) = event::kind_of_call(verdict)
        && is_watched()
    {
        let _scalar = cip_event_call4(
            context.as_ptr().cast(),
            u32::from(kind.0),
            verdict.outcome().index(),
        );
    }
}

/// As above, of IPv6.
#[inline(always)]
pub(crate) fn call_v6(context: &SockAddrContext, verdict: SocketVerdict) {
    if let Some(kind) = event::kind_of_call(verdict)
        && is_watched()
    {
        let _scalar = cip_event_call6(
            context.as_ptr().cast(),
            u32::from(kind.0),
            verdict.outcome().index(),
        );
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_event_call4(context: *mut bpf_sock_addr, kind: u32, outcome: u32) -> i32 {
    call(&CallV4(SockAddrContext::new(context)), kind, outcome)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_event_call6(context: *mut bpf_sock_addr, kind: u32, outcome: u32) -> i32 {
    call(&CallV6(SockAddrContext::new(context)), kind, outcome)
}

/// A call may be interrupted, and go on beside another one on its CPU: it writes into the ring itself.
#[inline(always)]
fn call(socket: &impl Socket, kind: u32, outcome: u32) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "one of a few")]
    let kind = EventKind(kind as u8);
    let watch = watch();
    let Some(name) = outcome_of(outcome) else {
        return 0;
    };
    if !watch.wants(kind, name, KernelEnv.now()) {
        return 0;
    }
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        lost();
        return 0;
    };
    entry.write(Event::NONE);
    // SAFETY: it was written just now.
    let event = unsafe { entry.assume_init_mut() };
    if event::describe_call(socket, &KernelEnv, watch, (kind, outcome), event) {
        // SAFETY: the helper takes nothing and gives a number.
        event.time = unsafe { bpf_ktime_get_ns() };
        entry.submit(QUIETLY);
    } else {
        entry.discard(QUIETLY);
    }
    0
}

const _: () = assert!(size_of::<Note>() == size_of::<Record>() + 24);
