//! `cargo xtask run`: the demo.
#![expect(unused_crate_dependencies, reason = "they are the library's")]

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use clusterip_tests::{
    demo::{self, Options},
    interrupt,
};

fn main() -> ExitCode {
    match demo::run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // As a shell reports a death by SIGINT.
        Err(_) if interrupt::requested() => ExitCode::from(130),
        Err(error) => {
            // Nothing can be done if even this cannot be written.
            drop(writeln!(std::io::stderr(), "demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
