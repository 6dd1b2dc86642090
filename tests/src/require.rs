//! What a test needs from the machine. A skipped test shouts; in CI it fails.

use std::{
    io::{ErrorKind, Write as _},
    process::{Command, Stdio},
};

/// Whether namespaces can be made here. If not, says so past the test runner's capture of output.
///
/// # Panics
/// In CI (`CI` is set), where nothing may be skipped.
#[must_use]
pub fn root(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs root for network namespaces, and nothing is skipped in CI"
    );
    loudly(&format!(
        "SKIP {test}: needs root for network namespaces (cargo xtask test netns)"
    ));
    false
}

/// Whether a program is there that the set-up does not install. If not, says so; it is no SKIP, which fails in CI: such a program looks
/// once more at what other tests show.
#[must_use]
pub fn program(name: &str) -> bool {
    let found = Command::new(name)
        .arg("--help")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = !matches!(found, Err(error) if error.kind() == ErrorKind::NotFound);
    if !is_there {
        loudly(&format!("NOTE {name} is not on this machine"));
    }
    is_there
}

/// Says a line past the test runner's capture of output: the print macros are captured, a write to stderr is not.
pub fn loudly(line: &str) {
    drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
}

/// Ends a test (one that returns a `Result`) that cannot run here, loudly.
#[macro_export]
macro_rules! require_root {
    () => {
        if !$crate::require::root(::std::thread::current().name().unwrap_or(module_path!())) {
            return Ok(());
        }
    };
}
