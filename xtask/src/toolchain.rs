//! Where the eBPF program's compiler and linker are. The agent's build script compiles this file too, so it uses
//! nothing but the standard library.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the eBPF program.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Crates that use unstable features of the compiler, as `RUSTC_BOOTSTRAP` wants them. Never "1": that would let
/// everything else use them as well.
const UNSTABLE: &str = "aya_ebpf,clusterip,clusterip_common";

/// Name under which `cargo xtask setup` links a distribution's compiler into rustup.
pub(crate) const LINKED: &str = "clusterip-bpf";

/// A compiler that can produce code for [`TARGET`].
#[derive(Debug)]
pub(crate) struct Compiler {
    /// Root of the toolchain: `bin/rustc` is below it.
    pub(crate) root: PathBuf,
    /// Whether `core` comes with it. If not, its source does, and cargo has to build it.
    pub(crate) prebuilt_core: bool,
}

impl Compiler {
    /// The toolchain's own cargo, which a linked one may lack.
    pub(crate) fn cargo(&self) -> Option<PathBuf> {
        Some(self.root.join("bin/cargo")).filter(|cargo| cargo.exists())
    }

    /// A command that compiles for [`TARGET`] with this compiler and `linker`. `program` and `verb` are cargo and
    /// `build`, or cargo-clippy and `clippy`; the caller adds packages and where the output goes.
    pub(crate) fn command(&self, program: &Path, verb: &str, linker: &Path) -> Command {
        let mut cargo = Command::new(program);
        // What the cargo, clippy or cargo-run above us said is about the host's build, not about this one.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"];
            let told = text.starts_with("CARGO") && !kept.iter().any(|keep| text.starts_with(keep));
            if told || text.starts_with("RUSTC") || text == "RUSTFLAGS" {
                cargo.env_remove(&name);
            }
        }
        // A build script is told for which machine; else it is this one.
        let machine = env::var("CARGO_CFG_TARGET_ARCH");
        let machine = machine.as_deref().unwrap_or(env::consts::ARCH);
        let flags = [
            &format!("--cfg=bpf_target_arch=\"{machine}\""),
            // The program's BTF is made from debug info.
            "-Cdebuginfo=2",
            "-Clink-arg=--btf",
            // The first with atomics that hand back what they found.
            "-Ctarget-cpu=v3",
        ];
        cargo
            .args([verb, "--locked", "--profile=bpf", "--target", TARGET])
            .env("RUSTC", self.root.join("bin/rustc"))
            .env("RUSTC_BOOTSTRAP", UNSTABLE)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker);
        if !self.prebuilt_core {
            // Only "1" lets a stable cargo build `core` itself.
            cargo.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=core");
        }
        cargo
    }

    fn at(root: PathBuf) -> Option<Self> {
        let rustlib = root.join("lib/rustlib");
        let prebuilt_core = rustlib.join(TARGET).join("lib").exists();
        let source = rustlib.join("src/rust/library/core").exists();
        let usable = root.join("bin/rustc").exists() && (prebuilt_core || source);
        usable.then_some(Self {
            root,
            prebuilt_core,
        })
    }
}

/// The best installed compiler: the linked one, then the workspace's own (1.95), stable, nightly, and whatever else
/// rustup has. Reads directories only; starts no process.
pub(crate) fn compiler() -> Option<Compiler> {
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")))?;
    let mut names: Vec<OsString> = fs::read_dir(rustup.join("toolchains"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    names.sort_by_key(|name| rank(&name.to_string_lossy()));
    names
        .into_iter()
        .find_map(|name| Compiler::at(rustup.join("toolchains").join(name)))
}

fn rank(toolchain: &str) -> usize {
    [LINKED, "1.95", "stable", "nightly"]
        .iter()
        .position(|prefix| toolchain.starts_with(prefix))
        .unwrap_or(usize::MAX)
}

/// The linker: the project's own (`.tools/bin/bpf-linker` below `workspace`), else the one on the path.
pub(crate) fn linker(workspace: &Path) -> Option<PathBuf> {
    let own = workspace.join(".tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(env::split_paths(&path))
        .map(|folder| folder.join("bpf-linker"))
        .find(|linker| linker.exists())
}
