//! Past the stack: the ways of a packet that need the kernel's routes and its redirections (docs/forwarding.md).

use core::{cell::UnsafeCell, ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_fib_lookup as Params},
    helpers::{bpf_fib_lookup, bpf_redirect_neigh, bpf_redirect_peer},
};
use clusterip_common::{
    abi::Direction,
    packet::{self, Ask, Exit, Found, Macs, Route},
    wire::Addr,
};

use crate::{
    env::KernelEnv,
    event::Written,
    frame::tc::TcFrame,
    hooks::{BESIDE, LOOK_UP, TRANSLATE, go_on, tc_action},
    maps::work,
};

/// How often routes, neighbours and links have changed: a section, and so a map, of its own, which the agent writes.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data.changes")]
static CHANGES: Written<u32> = Written(UnsafeCell::new(0));

/// The agent's count.
#[inline(always)]
pub(crate) fn changes() -> u32 {
    // SAFETY: the agent may write it at any time; one load sees the old or the new number.
    unsafe { CHANGES.0.get().read_volatile() }
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// What `bpf_fib_lookup` says where the next hop's address is not known.
const NO_NEIGHBOUR: i64 = 7;

/// As numbers, for functions that others could call.
const REQUEST: u32 = Direction::REQUEST.0 as u32;
const REPLY: u32 = Direction::REPLY.0 as u32;
const UNKNOWN: u32 = Exit::Unknown.index();
const PEER: u32 = Exit::Peer.index();

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "one of two")]
const fn direction(side: u32) -> Direction {
    Direction(side as u8)
}

/// A request that is to be translated.
#[inline(always)]
pub(crate) fn send(skb: *mut __sk_buff, network: u32) -> i32 {
    let exit = match cip_way_exit(skb, network) {
        UNKNOWN => {
            cip_way_look_up(skb, REQUEST);
            cip_way_exit(skb, network)
        }
        exit => exit,
    };
    cip_way_depart(skb, network, exit)
}

/// What may be a reply to a pod of this node: an action, or [`BESIDE`].
#[inline(always)]
pub(crate) fn turn(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let action = match cip_way_turn(skb, network, is_v6) {
        LOOK_UP => {
            cip_way_look_up(skb, REPLY);
            cip_way_turn(skb, network, is_v6)
        }
        action => action,
    };
    match action {
        TRANSLATE => cip_way_depart(skb, network, PEER),
        LOOK_UP => BESIDE,
        action => action,
    }
}

/// Which way a request goes on, by its number.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_exit(skb: *mut __sk_buff, network: u32) -> u32 {
    let frame = TcFrame::at_network(skb, network);
    let exit = work().map_or(Exit::NoRoute, |work| {
        packet::exit(&frame, &KernelEnv, work, Direction::REQUEST)
    });
    exit.index()
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_turn(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let next = packet::turn(&mut frame, &KernelEnv, is_v6 != 0, work);
    go_on(&frame, next)
}

/// Asks the kernel for the way, and remembers it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_look_up(skb: *mut __sk_buff, side: u32) -> u32 {
    if let Some(work) = work() {
        let ask = packet::ask(&KernelEnv, work, direction(side));
        // SAFETY: the context is the kernel's; reading a field of it is what it is for.
        let device = unsafe { (*skb).ifindex };
        let route = route(skb.cast(), device, &ask);
        packet::learn(&KernelEnv, &ask, &route);
    }
    0
}

/// Does to a packet what was decided, and sends it on its way.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_depart(skb: *mut __sk_buff, network: u32, exit: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let exit = Exit::of(exit);
    let (verdict, device) = packet::depart(&mut frame, &KernelEnv, work, exit);
    let action = tc_action(&frame, verdict);
    if action != TC_ACT_UNSPEC || device == 0 {
        return action;
    }
    let action = if exit == Exit::Peer {
        // SAFETY: the helper takes two numbers.
        unsafe { bpf_redirect_peer(device, 0) }
    } else {
        // The kernel finds the next hop by itself, and keeps its neighbour alive.
        // SAFETY: no parameters, as a null pointer of length 0 says.
        unsafe { bpf_redirect_neigh(device, ptr::null_mut(), 0, 0) }
    };
    #[expect(clippy::cast_possible_truncation, reason = "a TC action")]
    let action = action as i32;
    action
}

/// Words of `struct bpf_fib_lookup`. As words because of its twelve bytes of Ethernet addresses, and of anything that is not
/// a word, the compiler makes stores where the verifier wants none.
const WORDS: usize = 8;

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "parts of words, and the size of a small structure"
)]
pub(crate) fn route(context: *mut c_void, device: u32, ask: &Ask) -> Route {
    let family = if ask.is_v6 { AF_INET6 } else { AF_INET };
    let source_port = ask.ports.source.as_it_lies();
    let target_port = ask.ports.destination.as_it_lies();
    let [[s0, s1], [t0, t1]] = [ask.source, ask.target].map(|address| words(address, ask.is_v6));
    // The last part of the first word is a length, so that the kernel says what the longest is.
    let mut question: [u64; WORDS] = [
        u64::from(family)
            | u64::from(ask.protocol.0) << 8
            | u64::from(source_port) << 16
            | u64::from(target_port) << 32
            | 1 << 48,
        u64::from(device),
        s0,
        s1,
        t0,
        t1,
        0,
        0,
    ];
    let (at, size) = (question.as_mut_ptr(), size_of::<[u64; WORDS]>() as i32);
    // SAFETY: the context is the kernel's, and the structure as long as is said.
    let result = unsafe { bpf_fib_lookup(context, at.cast::<Params>(), size, 0) };
    let found = match result {
        0 => Found::All,
        NO_NEIGHBOUR => Found::NoNeighbour,
        _ => return Route::NONE,
    };
    // The last of them: VLAN, four bytes of the source; two more, and the destination.
    let [first, second, _, _, _, _, before, last] = question;
    let source = before >> 32;
    Route {
        found,
        device: second as u32,
        mtu: (first >> 48) as u32,
        macs: Macs::of_words(
            last >> 16 | source << 48,
            (source >> 16) as u32 | (last << 16) as u32,
        ),
    }
}

/// An address as the kernel wants it here: one of IPv4 in the first four bytes.
#[inline(always)]
const fn words(address: Addr, is_v6: bool) -> [u64; 2] {
    let [high, low] = address.words();
    if is_v6 { [high, low] } else { [low >> 32, 0] }
}
