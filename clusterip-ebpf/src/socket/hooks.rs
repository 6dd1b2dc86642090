//! One function per hook. The names carry a prefix and have 15 characters at most: they are what `bpftool` shows.

use aya_ebpf::{helpers::bpf_set_retval, macros::cgroup_sock_addr, programs::SockAddrContext};
use clusterip_common::packet::{
    Env as _,
    socket::{self, SocketVerdict},
};

use super::call::{CallV4, CallV6};
use crate::{env::KernelEnv, event};

/// What the kernel takes for an answer.
const GO_ON: i32 = 1;
const FAIL: i32 = 0;
const ECONNREFUSED: i32 = 111;

#[cgroup_sock_addr(connect4)]
fn cip_connect4(ctx: SockAddrContext) -> i32 {
    let mut socket = CallV4(ctx);
    let verdict = socket::connect(&mut socket, &KernelEnv);
    event::call_v4(&socket.0, verdict);
    call(verdict)
}

#[cgroup_sock_addr(sendmsg4)]
fn cip_sendmsg4(ctx: SockAddrContext) -> i32 {
    let mut socket = CallV4(ctx);
    let verdict = socket::sendmsg(&mut socket, &KernelEnv);
    event::call_v4(&socket.0, verdict);
    call(verdict)
}

#[cgroup_sock_addr(recvmsg4)]
fn cip_recvmsg4(ctx: SockAddrContext) -> i32 {
    count(socket::reveal(&mut CallV4(ctx), &KernelEnv));
    GO_ON
}

#[cgroup_sock_addr(getpeername4)]
fn cip_peername4(ctx: SockAddrContext) -> i32 {
    // Looking does not count.
    let _verdict = socket::reveal(&mut CallV4(ctx), &KernelEnv);
    GO_ON
}

#[cgroup_sock_addr(connect6)]
fn cip_connect6(ctx: SockAddrContext) -> i32 {
    let mut socket = CallV6(ctx);
    let verdict = socket::connect(&mut socket, &KernelEnv);
    event::call_v6(&socket.0, verdict);
    call(verdict)
}

#[cgroup_sock_addr(sendmsg6)]
fn cip_sendmsg6(ctx: SockAddrContext) -> i32 {
    let mut socket = CallV6(ctx);
    let verdict = socket::sendmsg(&mut socket, &KernelEnv);
    event::call_v6(&socket.0, verdict);
    call(verdict)
}

#[cgroup_sock_addr(recvmsg6)]
fn cip_recvmsg6(ctx: SockAddrContext) -> i32 {
    count(socket::reveal(&mut CallV6(ctx), &KernelEnv));
    GO_ON
}

#[cgroup_sock_addr(getpeername6)]
fn cip_peername6(ctx: SockAddrContext) -> i32 {
    // Looking does not count.
    let _verdict = socket::reveal(&mut CallV6(ctx), &KernelEnv);
    GO_ON
}

/// The only conversion of a verdict on a call: counts it and tells the kernel.
#[inline(always)]
fn call(verdict: SocketVerdict) -> i32 {
    count(verdict);
    match verdict {
        SocketVerdict::Pass(_) | SocketVerdict::Translated(_) => GO_ON,
        SocketVerdict::Refuse(_) => {
            if KernelEnv.settings().socket_refuses != 0 {
                // SAFETY: the helper takes a number. Without it the call fails with EPERM.
                unsafe { bpf_set_retval(-ECONNREFUSED) };
            }
            FAIL
        }
        SocketVerdict::Deny(_) => FAIL,
    }
}

/// Every call of every process comes by; those that are not ours are not counted beside packets.
#[inline(always)]
fn count(verdict: SocketVerdict) {
    if !matches!(verdict, SocketVerdict::Pass(_)) {
        KernelEnv::count_call(verdict.outcome());
    }
}
