//! ICMP: the ways of pings to services, and of errors about flows (D7).

use aya_ebpf::bindings::__sk_buff;
use clusterip_common::packet;

use crate::{env::KernelEnv, frame::tc::TcFrame, hooks::tc_action};

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cip_way_icmp_from_pod(
    skb: *mut __sk_buff,
    network: u32,
    is_v6: u32,
) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::icmp_from_pod(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}

#[inline(never)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn cip_way_icmp_to_pod(skb: *mut __sk_buff, network: u32, is_v6: u32) -> i32 {
    let mut frame = TcFrame::at_network(skb, network);
    let verdict = packet::icmp_to_pod(&mut frame, &KernelEnv, is_v6 != 0);
    tc_action(&frame, verdict)
}
