//! What a test-run of XDP wants.

use std::time::Duration;

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

/// `struct xdp_md`, as the kernel reads it, of a frame of so many bytes that comes in by a device.
#[must_use]
pub fn context(bytes: usize, device: u32) -> Vec<u8> {
    let bytes = u32::try_from(bytes).unwrap_or_default();
    [0, bytes, 0, device, 0, 0].map(u32::to_ne_bytes).concat()
}

/// The monotonic clock in nanoseconds, as programs read it.
///
/// # Errors
/// The kernel has none.
pub fn coarse() -> Result<u64> {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?);
    Ok(now.as_nanos().try_into()?)
}

/// In which of the times it is for which a way at a driver holds without the stack.
///
/// # Errors
/// As above.
pub fn period() -> Result<u64> {
    Ok(coarse()? >> 33)
}
