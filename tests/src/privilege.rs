//! Whether a test may do what needs root.

/// True for root. Otherwise a loud word that `what` was skipped, or in CI a failure: a skip must not look green.
///
/// # Panics
/// In CI without privilege.
#[must_use]
pub fn granted(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("CI").is_none(),
            "{what} needs root, and CI must not skip it"
        );
        eprintln!(
            "\nSKIP  {what}: needs root (run `cargo xtask test` as root, or let it use sudo)\n"
        );
    }
    root
}
