//! The kernel's bodies of `packet::socket::Socket`, one per family: the context of a call.

#![expect(
    clippy::host_endian_bytes,
    reason = "the context's fields hold bytes in network order; they are moved, not converted"
)]

use aya_ebpf::{
    EbpfContext as _,
    bindings::bpf_sock_addr,
    helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use clusterip_common::{
    packet::socket::Socket,
    wire::{Addr, Be16, Proto},
};

/// A call with an address of IPv4.
pub(crate) struct CallV4(pub(crate) SockAddrContext);

/// A call with an address of IPv6.
pub(crate) struct CallV6(pub(crate) SockAddrContext);

/// A field of the context. Each in an access of its own and of its own width: the verifier refuses what the compiler
/// would merge.
macro_rules! read {
    ($context:expr, $($field:tt)+) => {{
        let context: *mut bpf_sock_addr = $context.sock_addr;
        // SAFETY: the kernel's context, readable as long as the program runs.
        let place = unsafe { &raw const (*context).$($field)+ };
        // SAFETY: as above.
        unsafe { place.read_volatile() }
    }};
}

macro_rules! write {
    ($context:expr, $value:expr, $($field:tt)+) => {{
        let context: *mut bpf_sock_addr = $context.sock_addr;
        // SAFETY: the kernel's context; it lets a program of this type write the address.
        let place = unsafe { &raw mut (*context).$($field)+ };
        // SAFETY: as above.
        unsafe { place.write_volatile($value) }
    }};
}

#[inline(always)]
fn protocol(context: &SockAddrContext) -> Proto {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "one byte on the wire; MPTCP, 262, becomes TCP, which it is there"
    )]
    Proto(read!(context, protocol) as u8)
}

#[inline(always)]
fn netns(context: &SockAddrContext) -> u64 {
    // SAFETY: the kernel's context.
    unsafe { bpf_get_netns_cookie(context.as_ptr()) }
}

#[inline(always)]
fn cookie(context: &SockAddrContext) -> u64 {
    // SAFETY: the kernel's context.
    unsafe { bpf_get_socket_cookie(context.as_ptr()) }
}

/// `TCP_ESTABLISHED`, which a connected UDP socket is in too.
const CONNECTED: u32 = 1;

#[inline(always)]
fn is_connected(context: &SockAddrContext) -> bool {
    let socket = read!(context, __bindgen_anon_1.sk);
    // SAFETY: the kernel's socket, which lives as long as the call.
    !socket.is_null() && unsafe { (*socket).state } == CONNECTED
}

#[inline(always)]
fn port(context: &SockAddrContext) -> Be16 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the field is wider than the port in it"
    )]
    Be16((read!(context, user_port) as u16).to_ne_bytes())
}

#[inline(always)]
fn set_port(context: &SockAddrContext, port: Be16) {
    write!(context, u32::from(u16::from_ne_bytes(port.0)), user_port);
}

impl Socket for CallV4 {
    #[inline(always)]
    fn protocol(&self) -> Proto {
        protocol(&self.0)
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        netns(&self.0)
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        cookie(&self.0)
    }

    #[inline(always)]
    fn is_connected(&self) -> bool {
        is_connected(&self.0)
    }

    #[inline(always)]
    fn peer(&self) -> (Addr, Be16) {
        let address = read!(self.0, user_ip4).to_ne_bytes();
        (Addr::v4(address), port(&self.0))
    }

    #[inline(always)]
    fn set_peer(&mut self, address: Addr, port: Be16) {
        write!(self.0, u32::from_ne_bytes(address.low()), user_ip4);
        set_port(&self.0, port);
    }
}

impl Socket for CallV6 {
    #[inline(always)]
    fn protocol(&self) -> Proto {
        protocol(&self.0)
    }

    #[inline(always)]
    fn netns(&self) -> u64 {
        netns(&self.0)
    }

    #[inline(always)]
    fn cookie(&self) -> u64 {
        cookie(&self.0)
    }

    #[inline(always)]
    fn is_connected(&self) -> bool {
        is_connected(&self.0)
    }

    #[inline(always)]
    fn peer(&self) -> (Addr, Be16) {
        let [a0, a1, a2, a3] = read!(self.0, user_ip6[0]).to_ne_bytes();
        let [b0, b1, b2, b3] = read!(self.0, user_ip6[1]).to_ne_bytes();
        let [c0, c1, c2, c3] = read!(self.0, user_ip6[2]).to_ne_bytes();
        let [d0, d1, d2, d3] = read!(self.0, user_ip6[3]).to_ne_bytes();
        let octets = [
            a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3,
        ];
        (Addr::v6(octets), port(&self.0))
    }

    #[inline(always)]
    fn set_peer(&mut self, address: Addr, port: Be16) {
        let [first, second, third, last] = address.quarters();
        write!(self.0, first, user_ip6[0]);
        write!(self.0, second, user_ip6[1]);
        write!(self.0, third, user_ip6[2]);
        write!(self.0, last, user_ip6[3]);
        set_port(&self.0, port);
    }
}
