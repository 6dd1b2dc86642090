//! Property tests that do the same each time.

use proptest::test_runner::{Config, RngSeed};

/// So many cases, the same ones in every run; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` go elsewhere and further.
pub(crate) fn config(cases: u32) -> Config {
    let default = Config::default();
    let is_asked = |name: &str| std::env::var_os(name).is_some();
    Config {
        cases: if is_asked("PROPTEST_CASES") {
            default.cases
        } else {
            cases
        },
        rng_seed: if is_asked("PROPTEST_RNG_SEED") {
            default.rng_seed
        } else {
            RngSeed::Fixed(1)
        },
        failure_persistence: None,
        ..default
    }
}
