#![no_main]

use clusterip_tests::property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::parse(bytes));
