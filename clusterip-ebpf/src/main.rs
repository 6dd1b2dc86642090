//! The hooks of the dataplane: a table of contents over `clusterip_common::packet`.
//!
//! On the host this crate is an empty program, so that one cargo command covers the workspace.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch, core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        internal_features,
        reason = "a fetching atomic add exists on this target only as an intrinsic (B1)"
    ),
    expect(
        clippy::inline_always,
        reason = "the verifier cannot follow packet pointers through a call"
    )
)]

#[cfg(target_arch = "bpf")]
mod begin;
#[cfg(target_arch = "bpf")]
mod direct_return;
#[cfg(target_arch = "bpf")]
mod env;
#[cfg(target_arch = "bpf")]
mod event;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod icmp;
#[cfg(target_arch = "bpf")]
mod leave;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reference;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod xdp;
#[cfg(target_arch = "bpf")]
mod xdp_reference;

#[cfg(not(target_arch = "bpf"))]
const fn main() {}

#[cfg(target_arch = "bpf")]
#[panic_handler]
const fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
