//! The kernel's bodies of `packet::Frame`.

use core::arch::asm;

pub(crate) mod tc;
pub(crate) mod xdp;

/// Hides from the compiler how a pointer came about. Otherwise it tests one sum of base and variable offset and reads
/// through another that it takes for the same, and the verifier does not.
#[inline(always)]
fn opaque(mut pointer: usize) -> usize {
    // An empty text would give two lines of debug information to one instruction, which the kernel refuses.
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}
