//! Direct server return (docs/adr/0019-direct-server-return.md): the ways of packets between the node that is called and the backend's.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT};
use clusterip_common::packet::{self, Env as _, Frame as _, Origin};

use crate::{
    env::KernelEnv,
    frame::tc::TcFrame,
    hooks::{BESIDE, MEND, go_on, tc_action},
    maps::work,
};

/// A packet past the services: an action if another node has forwarded it, else [`BESIDE`].
#[inline(always)]
pub(crate) fn forwarded(skb: *mut __sk_buff, place: u32, (is_v6, origin): (bool, Origin)) -> i32 {
    if packet::may_be_forwarded(&KernelEnv, origin) {
        cip_way_forwarded(skb, place, is_v6.into())
    } else {
        BESIDE
    }
}

/// A packet past the services that another node may have forwarded; else [`BESIDE`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_forwarded(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let next = packet::forwarded(&mut frame, &KernelEnv, is_v6 != 0, work);
    go_on(&frame, next)
}

/// Does to a client's packet what was decided, and says what was called where another node is to answer.
#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cip_way_forward(skb: *mut __sk_buff, network: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let verdict = packet::forward(&mut frame, &KernelEnv, work);
    tc_action(&frame, verdict)
}

/// What leaves: an action if it answers a client whom another node forwarded, else [`MEND`].
#[inline(always)]
pub(crate) fn returned(skb: *mut __sk_buff, place: u32) -> i32 {
    if KernelEnv.settings().takes_forwarded() {
        cip_way_returned(skb, place)
    } else {
        MEND
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_returned(skb: *mut __sk_buff, network: u32) -> i32 {
    let frame = TcFrame::at_network(skb, network);
    let Some(work) = work() else {
        return TC_ACT_SHOT;
    };
    let next = packet::returned(&KernelEnv, frame.network(), work);
    go_on(&frame, next)
}
