//! Set-up, build, run, test and lint in one command.
//!
//! Knows cargo and the machine, nothing of the other crates: it has to build before the eBPF toolchain is there.
#![expect(clippy::print_stdout, reason = "a command for a terminal")]

mod bench;
mod image;
mod lint;
mod mutate;
mod process;
mod run;
mod setup;
mod summary;
mod test;
mod toolchain;
mod vm;

use std::{path::Path, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Everything one does with this repository.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what the build and the tests need; nothing when nothing is missing
    Setup {
        /// Also cargo-deny, which `lint` uses when it is there (some minutes)
        #[arg(long)]
        all: bool,
    },
    /// Build the agent with the eBPF program in it
    Build {
        /// Further arguments for cargo, such as `--release`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        cargo: Vec<String>,
    },
    /// The demo: a node, pods, the services of `examples/`, and requests to them
    Run {
        /// Arguments for the demo, such as `--once`; `-- --help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        demo: Vec<String>,
    },
    /// Make the container image with the agent in it: an archive that `ctr images import` and `docker load` take
    Image {
        /// What it is called, without the tag, which is the version
        #[arg(default_value = "clusterip")]
        name: String,
        /// For which machines; another than this one's needs a C compiler for it
        #[arg(long, value_enum, default_value = "amd64")]
        arch: image::Architecture,
    },
    /// Run the tests, or one part of them
    Test {
        /// Which part
        #[arg(value_enum, default_value_t)]
        part: test::Choice,
        /// Arguments for the test programs, such as the name of a test
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Boot other kernels in a virtual machine, and run there what depends on the kernel
    Vm {
        /// Series of kernels that apt offers, such as 6.1
        #[arg(default_values_t = vm::SERIES.map(String::from))]
        kernels: Vec<String>,
        /// Only this test program: verifier, kernel or netns
        #[arg(long)]
        test: Option<String>,
        /// Arguments for the test programs, such as the name of a test, in the place of the usual ones
        #[arg(last = true)]
        filter: Vec<String>,
    },
    /// Format, clippy for the host and for the eBPF target, licences
    Lint,
    /// What must hold on main: `lint`, `test`, then `vm`; a part that cannot run is a failure
    Ci,
    /// Break each rule on purpose, in a copy of the tree, and see whether the tests notice
    Mutate {
        /// Rules by number, such as C4; all without any
        rules: Vec<String>,
        /// Also what shows in network namespaces only (root)
        #[arg(long)]
        all: bool,
    },
    /// Measure: everything, with tables and plots below target/bench, or one thing
    Bench {
        /// What to measure
        #[arg(value_enum, default_value_t)]
        subject: bench::Subject,
        /// Put the tables and plots into docs/performance.md (of everything)
        #[arg(long)]
        docs: bool,
        /// Arguments for the measurement, such as `--quick` of `agent`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes, and no backtrace of this program: what went wrong is outside it.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> anyhow::Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is not inside the workspace")?;
    match verb {
        Verb::Setup { all } => setup::command(workspace, all),
        Verb::Build { cargo } => run::build(workspace, &cargo),
        Verb::Run { demo } => run::demo(workspace, &demo),
        Verb::Image { name, arch } => image::command(workspace, &name, arch),
        Verb::Test { part, filter } => test::command(workspace, part, &filter, process::in_ci()),
        Verb::Vm {
            kernels,
            test,
            filter: arguments,
        } => {
            let selection = vm::Selection { test, arguments };
            vm::command(workspace, &kernels, &selection, process::in_ci())
        }
        Verb::Lint => lint::command(workspace, process::in_ci()),
        Verb::Ci => {
            lint::command(workspace, true)?;
            test::command(workspace, test::Choice::All, &[], true)?;
            let kernels = vm::SERIES.map(String::from);
            // Each packet vector loads the programs anew, which takes an emulated machine many minutes: only by hand and on the forge.
            let selection = vm::Selection {
                test: Some("verifier".into()),
                ..vm::Selection::default()
            };
            vm::command(workspace, &kernels, &selection, true)
        }
        Verb::Mutate { rules, all } => mutate::command(workspace, &rules, all),
        Verb::Bench {
            subject,
            docs,
            arguments,
        } => bench::command(workspace, subject, docs, &arguments),
    }
}
