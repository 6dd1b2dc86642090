//! What the program says of itself, where it was loaded with a level above 0.

use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};

use super::load::Loaded;

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum DiagnosticsError {
    /// The ring buffer.
    #[error("open the log of the eBPF program")]
    Open(#[source] aya_log::Error),
    /// Waiting for it.
    #[error("wait for the log of the eBPF program")]
    Wait(#[source] std::io::Error),
}

/// Passes the program's lines on to the agent's log, in the background.
///
/// # Errors
/// The program's ring buffer cannot be read.
pub fn follow(loaded: &mut Loaded) -> Result<(), DiagnosticsError> {
    let logger = EbpfLogger::init(loaded.ebpf_mut()).map_err(DiagnosticsError::Open)?;
    // SAFETY: the logger owns the descriptor of its ring buffer and keeps it open until it is dropped, with the AsyncFd.
    let logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = logger.map_err(|error| DiagnosticsError::Wait(error.into()))?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
