//! Builds the eBPF program and leaves its object at `$OUT_DIR/clusterip`, where the agent includes it.
//!
//! A step of our own, because aya-build sets all of RUSTFLAGS and cannot pass `-Ctarget-cpu=v3`
//! (docs/adr/0002-toolchain.md).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

/// What the object is made of, from the workspace's root.
const SOURCES: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "xtask/src/toolchain.rs",
    "clusterip-ebpf/Cargo.toml",
    "clusterip-ebpf/build.rs",
    "clusterip-ebpf/src",
    "clusterip-common/Cargo.toml",
    "clusterip-common/src",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("clusterip-ebpf was not built: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// The program is the same for each profile of the agent, and is built once for all of them: `target/ebpf`, seen from
/// `target/PROFILE/build/PACKAGE/out`.
fn shared(out: &Path) -> Option<PathBuf> {
    Some(out.ancestors().nth(4)?.join("ebpf"))
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let missing = |what| format!("{what} is missing. Type: cargo xtask setup");
    let compiler = toolchain::compiler()
        .ok_or_else(|| missing("a compiler with `core` for bpfel-unknown-none"))?;
    let linker = toolchain::linker(&workspace).ok_or_else(|| missing("bpf-linker"))?;

    let mut watched = vec![linker.clone()];
    watched.extend(SOURCES.map(|path| workspace.join(path)));
    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }

    let target_dir = shared(&out).ok_or_else(|| format!("{} is no OUT_DIR", out.display()))?;
    let own_cargo = env::var_os("CARGO").ok_or("CARGO is not set")?;
    let program = compiler.cargo().unwrap_or_else(|| own_cargo.into());
    let mut cargo = compiler.command(&program, "build", &linker);
    cargo
        .current_dir(&workspace)
        .args(["--package", "clusterip-ebpf", "--target-dir"])
        .arg(&target_dir);
    let status = cargo
        .status()
        .map_err(|error| format!("start {}: {error}", program.display()))?;
    if !status.success() {
        return Err(format!("{} build: {status}", program.display()));
    }
    let object = target_dir.join(toolchain::TARGET).join("bpf/clusterip");
    fs::copy(&object, out.join("clusterip"))
        .map(drop)
        .map_err(|error| format!("copy {}: {error}", object.display()))
}
