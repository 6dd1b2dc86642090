//! A wish to end (SIGTERM, SIGHUP), so that the terminal is given back as it was. Ctrl-C is a key here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::super::reach;

/// Becomes true when one of them came.
pub(super) fn listen() -> anyhow::Result<Arc<AtomicBool>> {
    let ended = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&ended);
    let wait = move || {
        let came = reach::run(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hang_up.recv() => gone(),
            }
            anyhow::Ok(())
        });
        // Without handlers the signals end the process at once.
        if matches!(came, Ok(Ok(()))) {
            noted.store(true, Ordering::Relaxed);
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .context("start a thread for signals")?;
    Ok(ended)
}

/// The terminal has gone, most likely: who waits for a key of it then reads its end again and again, and looks at nothing else.
#[expect(clippy::exit, reason = "nobody else is left who could end this")]
fn gone() {
    // If it is there still, it is given back as it was.
    let _result = ratatui::try_restore();
    std::process::exit(1);
}
