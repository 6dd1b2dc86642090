//! A terminal that a test types into and looks at: tmux, which dies with the test.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Namespace,
    process::{self, Process},
    wait,
};

/// Where its server listens, in a node's own `/run`.
const SOCKET: &str = "/run/tmux.sock";

/// A terminal in a node. Its programs end with it.
#[derive(Debug)]
pub struct Terminal {
    node: Namespace,
    _server: Process,
}

impl Terminal {
    /// Opens one of that size, and starts a command of the shell in it.
    ///
    /// # Errors
    /// tmux is not installed, or did not start.
    pub fn start(node: &Namespace, (columns, rows): (u16, u16), command: &str) -> Result<Self> {
        let mut server = node.command("tmux");
        server
            .args(["-D", "-S", SOCKET, "-f", "/dev/null"])
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        let server = process::spawn(server).context("run tmux (cargo xtask setup installs it)")?;
        let terminal = Self {
            node: node.clone(),
            _server: server,
        };
        let is_there = || Ok(Path::new(SOCKET).exists());
        wait::until("tmux listens", || {
            node.run(is_there).ok().filter(|is_there| *is_there)
        })?;
        let (columns, rows) = (columns.to_string(), rows.to_string());
        terminal.tmux(&["new-session", "-d", "-x", &columns, "-y", &rows, command])?;
        Ok(terminal)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.node.command("tmux");
        command
            .args(["-u", "-S", SOCKET])
            .args(arguments)
            .env("LC_ALL", "C.UTF-8");
        let output = command.output().context("run tmux")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Presses keys, by tmux's names: `q`, `Enter`, `Down`, `C-c`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// What stands on it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, (columns, rows): (u16, u16)) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows])
            .map(drop)
    }

    /// Whether a program has taken over the whole of it, or hides its cursor.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn is_taken(&self) -> Result<bool> {
        let flags = self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"])?;
        Ok(flags.trim() != "0 1")
    }

    /// Number of the process that the shell started last in it.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn shell(&self) -> Result<u32> {
        let id = self.tmux(&["display-message", "-p", "#{pane_pid}"])?;
        id.trim().parse().context("a number of a process")
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Errors
    /// It was not: the error has the screen.
    pub fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        let found = wait::until(what, || {
            last = self.screen().ok()?;
            is_so(&last).then(|| last.clone())
        });
        found.with_context(|| format!("the screen was\n{last}"))
    }
}
