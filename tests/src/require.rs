//! What a test needs from the machine. A skipped test shouts; in CI it fails.

use std::io::Write as _;

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
    // The print macros are captured by the test runner, a write to stderr is not.
    let skip = format!("SKIP {test}: needs root for network namespaces (cargo xtask test netns)\n");
    drop(std::io::stderr().write_all(skip.as_bytes()));
    false
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
