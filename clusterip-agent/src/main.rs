//! `clusterip`: the node agent and its tools.
#![expect(
    unused_crate_dependencies,
    reason = "the library of this package uses them"
)]

use std::process::ExitCode;

fn main() -> ExitCode {
    clusterip_agent::command::main()
}
