//! Builds the eBPF program and leaves its object at `$OUT_DIR/clusterip`, where the agent includes it.
//!
//! A step of our own, because aya-build sets all of RUSTFLAGS and cannot pass `-Ctarget-cpu=v3`
//! (docs/adr/0002-toolchain.md).

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

#[path = "../xtask/src/toolchain.rs"]
mod toolchain;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("clusterip-ebpf was not built: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let missing = |what| format!("{what} is missing. Type: cargo xtask setup");
    let compiler = toolchain::compiler()
        .ok_or_else(|| missing("a compiler with `core` for bpfel-unknown-none"))?;
    let linker = toolchain::linker(&workspace).ok_or_else(|| missing("bpf-linker"))?;

    let mut watched = vec![linker.clone(), compiler.rustc()];
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "xtask/src/toolchain.rs",
        "clusterip-ebpf/Cargo.toml",
        "clusterip-ebpf/build.rs",
        "clusterip-ebpf/src",
        "clusterip-common/Cargo.toml",
        "clusterip-common/src",
    ] {
        watched.push(workspace.join(path));
    }
    for path in watched {
        println!("cargo::rerun-if-changed={}", path.display());
    }

    let target_dir = out.join("ebpf");
    let mut cargo = Command::new(compiler.cargo().unwrap_or_else(|| env!("CARGO").into()));
    // What cargo and clippy tell a build script is about the host's build, not about this one.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
        let told = text.starts_with("CARGO") && !kept.iter().any(|keep| text.starts_with(keep));
        if told || text.starts_with("RUSTC") || text == "RUSTFLAGS" || text == "RUSTUP_TOOLCHAIN" {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--locked",
            "--package=clusterip-ebpf",
            "--profile=bpf",
        ])
        .arg(format!("--target={}", toolchain::TARGET))
        .arg("--target-dir")
        .arg(&target_dir)
        .env("RUSTC", compiler.rustc())
        .env("RUSTC_BOOTSTRAP", toolchain::UNSTABLE)
        .env("CARGO_ENCODED_RUSTFLAGS", toolchain::RUSTFLAGS.join("\x1f"))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &linker);
    if !compiler.prebuilt_core {
        // Only "1" lets a stable cargo build `core` itself.
        cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core");
    }
    let status = cargo
        .status()
        .map_err(|error| format!("{cargo:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{cargo:?}: {status}"));
    }
    let object = target_dir.join(toolchain::TARGET).join("bpf/clusterip");
    fs::copy(&object, out.join("clusterip"))
        .map(drop)
        .map_err(|error| format!("copy {}: {error}", object.display()))
}
