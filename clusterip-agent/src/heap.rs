//! Memory that is not needed any more.

/// Gives free memory back to the kernel, after something large: what parsing and comparing take for a moment would stay with the
/// process otherwise, in pieces between what is kept.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes a number, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}
