//! How a flow begins: a backend, a port for the client, one of the node in its place, the entries.

use aya_ebpf::bindings::__sk_buff;
use clusterip_common::{
    abi::{BackendId, Outcome},
    packet::{self, Next, PORT_TRIES, Verdict},
    wire::Be16,
};

use crate::{
    env::KernelEnv,
    frame::tc::TcFrame,
    hooks::{LOST, TAKEN, go_on, tc_action},
    maps::work,
};

/// A mark: what a way answers is a number and no action.
const NUMBER: u64 = 1 << 32;
/// Where a node's port begins behind a client's.
const NODE_PORT: u32 = 16;

/// A packet that begins a flow: its backend, or an action.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_choose(skb: *mut __sk_buff) -> u64 {
    let next = work().map_or(LOST, |work| packet::choose(&KernelEnv, work));
    number_of(skb, next)
}

/// The client's port of a flow with a backend, or an action.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_port(skb: *mut __sk_buff, backend: u32) -> u64 {
    let backend = BackendId(backend);
    let next = work().map_or(LOST, |work| packet::port(&KernelEnv, work, backend));
    number_of(skb, next)
}

/// A try for the node's port in the place of the client's, 0 if there is none, or an action.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_node_port(
    skb: *mut __sk_buff,
    network: u32,
    backend: u32,
    port: u32,
    attempt: u32,
) -> u64 {
    let frame = TcFrame::at_network(skb, network);
    let chosen = (BackendId(backend), port_in(port));
    let next = work().map_or(LOST, |work| {
        packet::node_port(&frame, &KernelEnv, work, chosen, attempt)
    });
    number_of(skb, next)
}

/// Opens the flow of a packet, over an old entry if it replaces one.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_open(
    skb: *mut __sk_buff,
    network: u32,
    backend: u32,
    ports: u32,
    replaces: u32,
) -> i32 {
    let frame = TcFrame::at_network(skb, network);
    let ports = (port_in(ports), port_in(ports >> NODE_PORT));
    let chosen = (BackendId(backend), ports);
    let next = work().map_or(LOST, |work| {
        packet::open(&frame, &KernelEnv, work, replaces != 0, chosen)
    });
    go_on(&frame, next)
}

/// A packet that ends here: no port of the node was free, or none stayed so (E8).
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn cip_way_exhausted(skb: *mut __sk_buff) -> i32 {
    let verdict = Verdict::Drop(Outcome::PortsExhausted);
    tc_action(&TcFrame::new(skb, 0), verdict)
}

/// All of the above: a packet that begins a flow, over an old entry if it replaces one.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "numbers behind a mark")]
pub(crate) fn begin(skb: *mut __sk_buff, network: u32, replaces: u32) -> i32 {
    let backend = cip_way_choose(skb);
    if backend & NUMBER == 0 {
        return (backend as u32).cast_signed();
    }
    let port = cip_way_port(skb, backend as u32);
    if port & NUMBER == 0 {
        return (port as u32).cast_signed();
    }
    for attempt in 0..PORT_TRIES {
        let node_port = cip_way_node_port(skb, network, backend as u32, port as u32, attempt);
        let action = if node_port & NUMBER == 0 {
            (node_port as u32).cast_signed()
        } else {
            let ports = port as u32 | (node_port as u32) << NODE_PORT;
            cip_way_open(skb, network, backend as u32, ports, replaces)
        };
        if action != TAKEN {
            return action;
        }
    }
    cip_way_exhausted(skb)
}

/// The port in the lower half of a number.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn port_in(number: u32) -> Be16 {
    Be16::new(number as u16)
}

#[inline(always)]
fn number_of(skb: *mut __sk_buff, next: Next) -> u64 {
    match next {
        Next::Backend(BackendId(id)) => NUMBER | u64::from(id),
        Next::Port(port) | Next::NodePort(port) => NUMBER | u64::from(port.get()),
        next => go_on(&TcFrame::new(skb, 0), next).cast_unsigned().into(),
    }
}
