//! What holds for any packet (`clusterip_tests::property`), over some thousand of them, the same in every run.
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` go further and elsewhere; `fuzz/` goes on without an end.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::fmt;

use clusterip_tests::property;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed},
};

/// Most bytes of one case: some dozen frames.
const MOST: usize = 1_500;

/// Bytes that are shown on one line where they fail a property.
struct Hex(Vec<u8>);

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = self;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Up to so many bytes.
fn bytes(most: usize) -> impl Strategy<Value = Hex> {
    vec(any::<u8>(), 0..=most).prop_map(Hex)
}

fn config(cases: u32) -> Config {
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

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn d4_d5_what_is_read_in_a_frame_is_what_a_second_reader_finds(Hex(bytes) in bytes(300)) {
        property::parse(&bytes);
    }

    #[test]
    fn d1_d2_a_checksum_that_is_fixed_is_that_of_the_whole_text(Hex(bytes) in bytes(600)) {
        property::checksum(&bytes);
    }

    #[test]
    fn d7_an_error_about_a_flow_tells_of_that_flow(Hex(bytes) in bytes(100)) {
        property::icmp_inner(&bytes);
    }
}

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn a1_c6_c11_d2_a_frame_is_translated_answered_or_left_as_it_is(Hex(bytes) in bytes(MOST)) {
        property::process(&bytes);
    }
}
