//! What the bench measures against: one LRU look-up, three checksum helpers and the store, and nothing else. The agent
//! never loads it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::host_endian_bytes,
    reason = "the plain way of a first program, which is what it stands for"
)]

use aya_ebpf::{
    bindings::{BPF_F_PSEUDO_HDR, TC_ACT_UNSPEC},
    helpers::{bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace},
    macros::classifier,
    programs::TcContext,
};
use clusterip_common::{
    abi::{Flow, FlowKey},
    packet::{Ethernet, Frame as _, Ports},
    wire::{Addr, Proto},
};
use network_types::{
    eth::EtherType,
    ip::{Ipv4Hdr, Ipv6Hdr},
};

use crate::{frame::tc::TcFrame, maps::FLOWS};

const L3: usize = size_of::<Ethernet>();
const UDP_CHECKSUM: usize = 6;

#[classifier]
fn cip_reference(ctx: TcContext) -> i32 {
    let mut frame = TcFrame::of(ctx, L3);
    let Some(ethernet) = frame.at::<Ethernet>(0) else {
        return TC_ACT_UNSPEC;
    };
    let _done = if ethernet.kind.0 == (EtherType::Ipv4 as u16).to_ne_bytes() {
        translate_v4(&mut frame)
    } else {
        translate_v6(&mut frame)
    };
    TC_ACT_UNSPEC
}

#[inline(always)]
fn look_up(source: Addr, destination: Addr, ports: Ports) -> Option<Flow> {
    let key = FlowKey {
        source,
        destination,
        source_port: ports.source,
        destination_port: ports.destination,
        protocol: Proto::UDP,
        zero: 0,
        zero_tail: 0,
    };
    // SAFETY: the value is copied at once.
    unsafe { FLOWS.get(key) }.copied()
}

#[inline(always)]
fn translate_v4(frame: &mut TcFrame) -> Option<()> {
    const L4: usize = L3 + Ipv4Hdr::LEN;
    let ip = frame.at::<Ipv4Hdr>(L3)?;
    let (source, old) = (ip.src_addr, ip.dst_addr);
    let ports = *frame.at::<Ports>(L4)?;
    let flow = look_up(Addr::v4(source), Addr::v4(old), ports)?;
    let new = flow.address.low();
    let skb = frame.ctx.skb.skb;
    let (old_word, new_word) = (
        u32::from_ne_bytes(old).into(),
        u32::from_ne_bytes(new).into(),
    );
    let check = core::mem::offset_of!(Ipv4Hdr, check);
    // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
    unsafe { bpf_l3_csum_replace(skb, (L3 + check) as u32, old_word, new_word, 4) };
    let pseudo = u64::from(BPF_F_PSEUDO_HDR) | 4;
    // SAFETY: as above.
    unsafe { bpf_l4_csum_replace(skb, (L4 + UDP_CHECKSUM) as u32, old_word, new_word, pseudo) };
    fix_port(frame, L4, ports, &flow);
    frame.at_mut::<Ipv4Hdr>(L3)?.dst_addr = new;
    frame.at_mut::<Ports>(L4)?.destination = flow.port;
    Some(())
}

#[inline(always)]
fn translate_v6(frame: &mut TcFrame) -> Option<()> {
    const L4: usize = L3 + Ipv6Hdr::LEN;
    let ip = frame.at::<Ipv6Hdr>(L3)?;
    let (source, mut old) = (Addr::v6(ip.src_addr), Addr::v6(ip.dst_addr));
    let ports = *frame.at::<Ports>(L4)?;
    let mut flow = look_up(source, old, ports)?;
    let skb = frame.ctx.skb.skb;
    let (from, to) = ((&raw mut old).cast(), (&raw mut flow.address).cast());
    // SAFETY: two addresses of 16 bytes each, on the stack.
    let change = unsafe { bpf_csum_diff(from, 16, to, 16, 0) } as u64;
    let pseudo = u64::from(BPF_F_PSEUDO_HDR);
    // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
    unsafe { bpf_l4_csum_replace(skb, (L4 + UDP_CHECKSUM) as u32, 0, change, pseudo) };
    fix_port(frame, L4, ports, &flow);
    frame.at_mut::<Ipv6Hdr>(L3)?.dst_addr = flow.address.octets();
    frame.at_mut::<Ports>(L4)?.destination = flow.port;
    Some(())
}

#[inline(always)]
fn fix_port(frame: &TcFrame, l4: usize, ports: Ports, flow: &Flow) {
    let old = u16::from_ne_bytes(ports.destination.0).into();
    let new = u16::from_ne_bytes(flow.port.0).into();
    let at = (l4 + UDP_CHECKSUM) as u32;
    // SAFETY: the context is the kernel's; packet pointers are taken anew after each call.
    unsafe { bpf_l4_csum_replace(frame.ctx.skb.skb, at, old, new, 2) };
}
