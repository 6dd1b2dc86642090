//! Debian's kernels: downloaded and unpacked below `.tools/vm/`, never installed on this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::{process::run, setup};

/// A kernel and its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` has it.
    pub(crate) release: String,
    /// What is booted.
    pub(crate) image: PathBuf,
    /// Below it are `kernel/` and `modules.builtin`.
    pub(crate) modules: PathBuf,
}

/// The newest kernel of a series such as 6.1 that apt offers; the one that is unpacked already, if there is one.
///
/// # Errors
/// When apt has no such kernel, or cannot download it.
pub(crate) fn obtain(workspace: &Path, series: &str) -> anyhow::Result<Kernel> {
    let folder = workspace.join(".tools/vm").join(series);
    if !folder.exists() {
        let package = newest(series)?;
        println!("\n== kernel {series}: {package} into .tools/vm/");
        unpack(&package, &folder)?;
    }
    unpacked(&folder).with_context(|| {
        format!(
            "the kernel in {0} is of no use; remove the folder and try again",
            folder.display()
        )
    })
}

fn newest(series: &str) -> anyhow::Result<String> {
    let offered = || -> anyhow::Result<Option<String>> {
        let mut apt = Command::new("apt-cache");
        apt.args(["pkgnames", &format!("linux-image-{series}")]);
        let output = apt
            .output()
            .context("start apt-cache; the kernels are packages of Debian")?;
        let names = String::from_utf8_lossy(&output.stdout);
        let kernels = names.lines().filter(|name| is_kernel(name, series));
        Ok(kernels.max_by_key(|name| numbers(name)).map(String::from))
    };
    if let Some(package) = offered()? {
        return Ok(package);
    }
    setup::refresh_packages()?;
    offered()?.with_context(|| {
        format!(
            "apt offers no kernel {series}: no package linux-image-{series}.*-amd64 in its lists. Debian 12 \
             (bookworm, with bookworm-security) has 6.1 and 6.12"
        )
    })
}

/// Whether a package is an ordinary signed kernel of the series: no meta-package, debug symbols, or cloud or realtime kernel.
fn is_kernel(package: &str, series: &str) -> bool {
    package
        .strip_prefix("linux-image-")
        .and_then(|rest| rest.strip_suffix("-amd64"))
        .filter(|version| {
            version
                .split('-')
                .all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
        })
        .and_then(|version| version.strip_prefix(series))
        .is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// The numbers of a version, to compare it by.
fn numbers(text: &str) -> Vec<u32> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// A folder that exists is complete: it gets its name last.
fn unpack(package: &str, folder: &Path) -> anyhow::Result<()> {
    let part = folder.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
    run(Command::new("apt-get")
        .args(["-q", "download", package])
        .current_dir(&part))
    .with_context(|| format!("apt-get update && apt-get download {package}"))?;
    let archive = entries(&part)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get left no package in {}", part.display()))?;
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&part))?;
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    fs::rename(&part, folder).with_context(|| format!("make {}", folder.display()))
}

fn unpacked(folder: &Path) -> anyhow::Result<Kernel> {
    // Where /lib is a link to /usr/lib, newer packages have only the latter.
    let roots = [folder.join("lib/modules"), folder.join("usr/lib/modules")];
    let root = roots
        .iter()
        .find(|root| root.is_dir())
        .context("it has no modules")?;
    let [modules] = <[PathBuf; 1]>::try_from(entries(root)?)
        .map_err(|found| anyhow::anyhow!("modules of {} kernels instead of one", found.len()))?;
    let release = modules
        .file_name()
        .context("no release")?
        .to_string_lossy()
        .into_owned();
    let image = folder.join("boot").join(format!("vmlinuz-{release}"));
    ensure!(image.is_file(), "there is no {}", image.display());
    Ok(Kernel {
        release,
        image,
        modules,
    })
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths: Result<_, _> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect();
    paths.with_context(|| format!("read {}", folder.display()))
}

/// Refuses what is no series, before it becomes a part of a path.
///
/// # Errors
/// Says what is wanted.
pub(crate) fn check_series(series: &str) -> anyhow::Result<()> {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match series.split_once('.') {
        Some((major, minor)) if number(major) && number(minor) => Ok(()),
        _ => bail!("{series:?} is no series of kernels; wanted is one like 6.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ordinary_kernel_of_a_series_is_taken() {
        for (package, series) in [
            ("linux-image-6.1.0-56-amd64", "6.1"),
            ("linux-image-6.12.117+deb12-amd64", "6.12"),
        ] {
            assert!(is_kernel(package, series), "{package}");
        }
        for (package, series) in [
            ("linux-image-6.12.117+deb12-amd64", "6.1"),
            ("linux-image-6.12-amd64", "6.12"),
            ("linux-image-6.1.0-56-cloud-amd64", "6.1"),
            ("linux-image-6.1.0-56-rt-amd64", "6.1"),
            ("linux-image-6.1.0-56-amd64-dbg", "6.1"),
            ("linux-image-6.1.0-56-amd64-unsigned", "6.1"),
        ] {
            assert!(!is_kernel(package, series), "{package}");
        }
        assert!(numbers("6.12.117+deb12") > numbers("6.12.99+deb12"));
    }

    #[test]
    fn a_series_is_two_numbers() {
        assert!(check_series("6.1").is_ok());
        for wrong in ["", "6", "6.", "6.1.0", "../6.1", "six.one"] {
            assert!(check_series(wrong).is_err(), "{wrong}");
        }
    }
}
