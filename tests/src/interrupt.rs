//! A wish to stop (Ctrl-C, SIGTERM, SIGHUP), seen by everything that waits.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on those signals are noted instead of killing the process, so that everything is taken down in order.
///
/// # Errors
/// The kernel refused the handlers.
pub fn listen() -> Result<()> {
    crate::sys::note_signals().context("install the signal handlers")
}

/// Whether one of the signals came.
#[must_use]
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Called by the signal handler.
pub(crate) fn note() {
    REQUESTED.store(true, Ordering::Relaxed);
}
