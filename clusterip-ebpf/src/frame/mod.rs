//! The kernel's bodies of `packet::Frame`.

use core::arch::asm;

pub(crate) mod tc;
pub(crate) mod xdp;

/// Hides from the compiler how a pointer came about. Otherwise it tests one sum of base and variable offset and reads
/// through another that it takes for the same, and the verifier does not. Nor is it to know which bits of an offset are zero: it would set them
/// where it is to add, and after that the verifier of some kernels knows no bounds.
#[inline(always)]
fn opaque(mut pointer: usize) -> usize {
    // An empty text would give two lines of debug information to one instruction, which the kernel refuses.
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// A field of a context that is a pointer to the verifier. To the compiler it is half a register, which it may copy as such, and then it is
/// no pointer any more: so it is read by hand.
#[inline(always)]
fn pointer<const FIELD: usize, C>(context: *const C) -> usize {
    let pointer;
    // SAFETY: reads a field of the kernel's context.
    unsafe {
        asm!("{0} = *(u32 *)({1} + {2})", out(reg) pointer, in(reg) context, const FIELD,
            options(pure, readonly, nostack, preserves_flags));
    }
    pointer
}

/// Hides from the compiler what it knows of a value's bytes, and lets it know that it is the same place each time.
#[inline(always)]
#[expect(
    clippy::pointers_in_nomem_asm_block,
    reason = "the pointer is passed on, and nothing is read by it"
)]
pub(crate) fn known_later<T>(value: &T) -> &T {
    let mut place: *const T = value;
    // SAFETY: moves a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) place, options(pure, nomem, nostack, preserves_flags)) };
    // SAFETY: it is the reference that was given.
    unsafe { &*place }
}
