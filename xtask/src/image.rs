//! The container image, as an archive of an OCI layout: made without a container engine, loaded by any.
//!
//! ```text
//! clusterip-VERSION-ARCH.tar
//!   oci-layout  index.json  manifest.json (for `docker load`)
//!   blobs/sha256/  the manifest, the configuration, one layer with /clusterip in it
//! ```
//! The same sources give the same bytes: nothing in it has a time or an owner.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use clap::ValueEnum;

use crate::{
    process::{cargo, line, run},
    setup::{self, Purpose},
};

/// What an image is for. A C library is linked into the program: an image of nothing else has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// As images name it.
    const fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// As the compiler names it.
    const fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler for it on a machine of another kind, and the Debian packages that it and its static C library come in.
    const fn cross(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => (
                "x86_64-linux-gnu-gcc",
                "gcc-x86-64-linux-gnu libc6-dev-amd64-cross",
            ),
            Self::Arm64 => (
                "aarch64-linux-gnu-gcc",
                "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            ),
        }
    }

    fn is_own(self) -> bool {
        self.target().starts_with(env::consts::ARCH)
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `cargo xtask image`.
///
/// # Errors
/// When the build fails, or `tar`, `gzip` or `sha256sum` are missing.
pub(crate) fn command(
    workspace: &Path,
    name: &str,
    architecture: Architecture,
) -> anyhow::Result<()> {
    let program = build(workspace, architecture)?;
    let folder = target(workspace).join("image").join(architecture.name());
    let archive = pack(&program, &folder, name, architecture)?;
    println!(
        "\n{}\n  ctr -n k8s.io images import {file}    docker load -i {file}\n  skopeo copy oci-archive:{file} docker://REGISTRY/clusterip:{VERSION}",
        archive.display(),
        file = archive.file_name().unwrap_or_default().display(),
    );
    Ok(())
}

fn target(workspace: &Path) -> PathBuf {
    let given = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    given.unwrap_or_else(|| workspace.join("target"))
}

/// The agent as one file that needs nothing around it.
fn build(workspace: &Path, architecture: Architecture) -> anyhow::Result<PathBuf> {
    setup::ensure(workspace, Purpose::Build)?;
    let triple = architecture.target();
    // `--target`, so that these flags are not those of build scripts and macros, which cannot be static.
    let mut build = cargo(workspace);
    build
        .args(["build", "--locked", "--release", "--target", triple])
        .args(["--package", "clusterip-agent", "--bin", "clusterip"])
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    if !architecture.is_own() {
        let (compiler, packages) = architecture.cross();
        let found = Command::new(compiler).arg("--version").output();
        ensure!(
            found.is_ok_and(|output| output.status.success()),
            "an image for {} needs {compiler} (Debian packages {packages}) and Rust's library (rustup target add {triple})",
            architecture.name()
        );
        let underscored = triple.replace('-', "_");
        build.env(format!("CC_{underscored}"), compiler).env(
            format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase()),
            compiler,
        );
    }
    run(&mut build)?;
    Ok(target(workspace).join(triple).join("release/clusterip"))
}

/// Writes the archive, and returns where it is.
fn pack(
    program: &Path,
    folder: &Path,
    name: &str,
    architecture: Architecture,
) -> anyhow::Result<PathBuf> {
    let machine = architecture.name();
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("empty {}", folder.display()))?;
    }
    let (root, layout) = (folder.join("root"), folder.join("layout"));
    let blobs = layout.join("blobs/sha256");
    for place in [&root, &blobs] {
        fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
    }
    fs::copy(program, root.join("clusterip"))
        .with_context(|| format!("copy {}", program.display()))?;

    let layer = folder.join("layer.tar");
    tar(&layer, &root, &["clusterip"])?;
    let unpacked = digest(&layer)?;
    // No time and no name in it.
    output(Command::new("gzip").args(["-n", "-9", "-f"]).arg(&layer))?;
    let layer = folder.join("layer.tar.gz");
    let layer = blob(&blobs, &fs::read(&layer)?)?;

    let config = format!(
        r#"{{"architecture":"{machine}","os":"linux","config":{{"Entrypoint":["/clusterip"],"Labels":{{{labels}}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{unpacked}"]}},"history":[{{"created_by":"cargo xtask image"}}]}}"#,
        labels = labels(),
    );
    let config = blob(&blobs, config.as_bytes())?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]}}"#,
        config.descriptor("application/vnd.oci.image.config.v1+json", ""),
        layer.descriptor("application/vnd.oci.image.layer.v1.tar+gzip", ""),
    );
    let manifest = blob(&blobs, manifest.as_bytes())?;
    let reference = format!("{name}:{VERSION}");
    let about = format!(
        r#","annotations":{{"io.containerd.image.name":"{full}","org.opencontainers.image.ref.name":"{VERSION}"}},"platform":{{"architecture":"{machine}","os":"linux"}}"#,
        full = full(&reference),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        manifest.descriptor(MANIFEST, &about),
    );
    let docker = format!(
        r#"[{{"Config":"blobs/sha256/{}","RepoTags":["{reference}"],"Layers":["blobs/sha256/{}"]}}]"#,
        config.digest, layer.digest,
    );
    for (file, text) in [
        ("index.json", index.as_str()),
        ("manifest.json", &docker),
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
    ] {
        fs::write(layout.join(file), text).with_context(|| format!("write {file}"))?;
    }
    let archive = folder.join(format!("clusterip-{VERSION}-{machine}.tar"));
    let parts = ["blobs", "index.json", "manifest.json", "oci-layout"];
    tar(&archive, &layout, &parts)?;
    Ok(archive)
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn labels() -> String {
    let labels = [
        ("title", "clusterip"),
        ("description", "Kubernetes Services on each node by eBPF"),
        ("version", VERSION),
        ("licenses", "(MIT OR Apache-2.0) AND (MIT OR GPL-2.0-only)"),
    ];
    let labels =
        labels.map(|(key, value)| format!(r#""org.opencontainers.image.{key}":"{value}""#));
    labels.join(",")
}

/// As a container runtime completes a reference.
fn full(reference: &str) -> String {
    match reference.split('/').next() {
        Some(first) if first == reference => format!("docker.io/library/{reference}"),
        Some(host) if host.contains(['.', ':']) || host == "localhost" => reference.to_owned(),
        _ => format!("docker.io/{reference}"),
    }
}

/// A file of the layout.
struct Blob {
    digest: String,
    bytes: usize,
}

impl Blob {
    fn descriptor(&self, media_type: &str, more: &str) -> String {
        let Self { digest, bytes } = self;
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{digest}","size":{bytes}{more}}}"#)
    }
}

fn blob(blobs: &Path, bytes: &[u8]) -> anyhow::Result<Blob> {
    let place = blobs.join("new");
    fs::write(&place, bytes).with_context(|| format!("write {}", place.display()))?;
    let digest = digest(&place)?;
    fs::rename(&place, blobs.join(&digest)).with_context(|| format!("name blob {digest}"))?;
    let bytes = bytes.len();
    Ok(Blob { digest, bytes })
}

fn digest(file: &Path) -> anyhow::Result<String> {
    let said = output(Command::new("sha256sum").arg(file))?;
    let digest = said.split_whitespace().next().unwrap_or_default();
    // A name with a backslash in it has one before the sum.
    let digest = digest.trim_start_matches('\\').to_owned();
    ensure!(digest.len() == 64, "sha256sum said {said:?}");
    Ok(digest)
}

fn tar(archive: &Path, folder: &Path, parts: &[&str]) -> anyhow::Result<()> {
    output(
        Command::new("tar")
            .args(["--format=ustar", "--sort=name", "--mtime=@0"])
            .args([
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mode=u+rwX,go+rX,go-w",
            ])
            .arg("-cf")
            .arg(archive)
            .arg("-C")
            .arg(folder)
            .args(parts),
    )
    .map(drop)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = line(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {line}"))?;
    ensure!(output.status.success(), "{line}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read what {line} printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever else knows archives of images reads it, by both of its tables of contents, and compares the digests.
    fn others_read(archive: &Path, folder: &Path) {
        for transport in ["oci-archive", "docker-archive"] {
            let copied = folder.join(transport);
            let mut skopeo = Command::new("skopeo");
            skopeo
                .args(["--insecure-policy", "copy", "--quiet"])
                .arg(format!("{transport}:{}", archive.display()))
                .arg(format!("dir:{}", copied.display()));
            let output = match skopeo.output() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    eprintln!("NOTE no skopeo here: nobody else has read the image");
                    return;
                }
                output => output.unwrap(),
            };
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{transport}: {said}");
            let manifest = fs::read_to_string(copied.join("manifest.json")).unwrap();
            assert_eq!(manifest.matches("sha256:").count(), 2, "{manifest}");
        }
    }

    #[test]
    fn references_are_completed_as_runtimes_do() {
        for (given, wanted) in [
            ("clusterip:1", "docker.io/library/clusterip:1"),
            ("me/clusterip:1", "docker.io/me/clusterip:1"),
            ("localhost/clusterip:1", "localhost/clusterip:1"),
            ("registry.example:5000/a/b:1", "registry.example:5000/a/b:1"),
        ] {
            assert_eq!(full(given), wanted);
        }
    }

    #[test]
    fn the_same_program_gives_the_same_archive_and_every_blob_has_its_digest_as_name() {
        let folder = env::temp_dir().join(format!("clusterip-image-{}", std::process::id()));
        let program = folder.join("program");
        fs::create_dir_all(&folder).unwrap();
        fs::write(&program, "a program").unwrap();
        let archives = ["one", "two"].map(|name| {
            let archive = pack(
                &program,
                &folder.join(name),
                "clusterip",
                Architecture::Arm64,
            )
            .unwrap();
            let blobs = folder.join(name).join("layout/blobs/sha256");
            let mut count = 0;
            for entry in fs::read_dir(blobs).unwrap() {
                let path = entry.unwrap().path();
                assert_eq!(
                    digest(&path).unwrap(),
                    path.file_name().unwrap().to_str().unwrap()
                );
                count += 1;
            }
            assert_eq!(count, 3);
            let index = fs::read_to_string(folder.join(name).join("layout/index.json")).unwrap();
            assert!(index.contains(r#""io.containerd.image.name":"docker.io/library/clusterip:"#));
            fs::read(archive).unwrap()
        });
        assert!(archives[0] == archives[1]);
        let archive = folder.join(format!("one/clusterip-{VERSION}-arm64.tar"));
        others_read(&archive, &folder);
        fs::remove_dir_all(&folder).unwrap();
    }
}
