//! Child processes that never outlive this one.

use std::{
    io,
    process::{Child, Command, ExitStatus},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait;

type Order = (Command, mpsc::Sender<io::Result<Child>>);

/// The thread that starts children. The signal that kills a child "when its parent dies" is sent when the *thread*
/// that started it ends (prctl(2), `PR_SET_PDEATHSIG`), hence one that lives as long as the process.
static STARTER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, received) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for (mut command, reply) in received {
            // Who asked may be gone; the child is then dropped and dies with this process.
            drop(reply.send(command.spawn()));
        }
    });
    orders
});

/// A child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// Starts a command made by [`crate::Namespace::command`].
///
/// # Errors
/// The program could not be started.
pub fn spawn(command: Command) -> io::Result<Process> {
    let gone = |_| io::Error::other("the thread that starts children is gone");
    let (reply, answer) = mpsc::channel();
    STARTER
        .send((command, reply))
        .map_err(|_unsent| io::Error::other("the thread that starts children is gone"))?;
    let child = answer.recv().map_err(gone)??;
    Ok(Process { child })
}

impl Process {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The kernel does not know the child.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Asks it to stop (SIGTERM) and waits; kills it if it does not within `patience`.
    ///
    /// # Errors
    /// It had to be killed.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let pid = Pid::from_raw(self.id().cast_signed());
        kill(pid, Signal::SIGTERM).with_context(|| format!("send SIGTERM to {pid}"))?;
        let stopped = wait::polled(patience, || self.child.try_wait().ok().flatten());
        if stopped.is_none() {
            self.kill();
        }
        stopped
            .with_context(|| format!("process {pid} did not stop within {patience:?} of SIGTERM"))
    }

    /// Kills it (SIGKILL) and waits for its end. Does nothing if it has ended.
    pub fn kill(&mut self) {
        // Fails only if it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
