//! Modules of a kernel, each after those it needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

/// A module, as the kernel takes it.
#[derive(Debug)]
pub(crate) struct Module {
    /// With underscores, as `lsmod` has it.
    pub(crate) name: String,
    /// Its ELF file, not compressed.
    pub(crate) bytes: Vec<u8>,
}

/// The modules a kernel comes with.
#[derive(Debug)]
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Those below `folder`, which is `/lib/modules/RELEASE`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn of(folder: &Path) -> anyhow::Result<Self> {
        let list = folder.join("modules.builtin");
        let text = fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))?;
        let builtin = text
            .lines()
            .filter_map(|line| name(Path::new(line)))
            .collect();
        let mut files = BTreeMap::new();
        collect(&folder.join("kernel"), &mut files)?;
        Ok(Self { files, builtin })
    }

    /// Whether there is a file of this module.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The wanted modules that are not built in, and what they need, in the order to load them in.
    ///
    /// # Errors
    /// When the kernel has no such module, or one cannot be read.
    pub(crate) fn in_order(&self, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
        let mut loaded = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.add(name, &mut seen, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn add(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        loaded: &mut Vec<Module>,
    ) -> anyhow::Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let file = self.files.get(name);
        let file = file
            .with_context(|| format!("this kernel has no module {name}, and it is not built in"))?;
        let bytes = read(file)?;
        let needs = depends(&bytes)
            .with_context(|| format!("{} does not say what it needs", file.display()))?;
        for need in needs {
            self.add(&need, seen, loaded)?;
        }
        loaded.push(Module {
            name: name.to_owned(),
            bytes,
        });
        Ok(())
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry
            .with_context(|| format!("read {}", folder.display()))?
            .path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if let Some(name) = name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `sch_ingress` for `.../sch-ingress.ko.xz`: files have either line, the kernel has one.
fn name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, _compression) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("read {}", file.display()));
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(file)
        .output()
        .context("start xz")?;
    ensure!(
        output.status.success(),
        "xz -dc {}: {}",
        file.display(),
        output.status
    );
    Ok(output.stdout)
}

/// What a module says in its `.modinfo`, a list of `key=value` that end with a zero byte.
fn depends(module: &[u8]) -> Option<Vec<String>> {
    let key = b"\0depends=";
    let start = module.windows(key.len()).position(|window| window == key)? + key.len();
    let value = module.get(start..)?.split(|byte| *byte == 0).next()?;
    let value = std::str::from_utf8(value).ok()?;
    let names = value.split(',').filter(|name| !name.is_empty());
    Some(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_says_what_it_needs() {
        let module = b"\x7fELF\0license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0name=sctp\0";
        assert_eq!(depends(module).unwrap(), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(
            depends(b"\x7fELF\0depends=\0name=veth\0")
                .unwrap()
                .is_empty()
        );
        assert_eq!(depends(b"\x7fELF\0name=veth\0"), None);
    }

    #[test]
    fn a_module_has_one_name() {
        for file in ["kernel/net/act-bpf.ko", "act_bpf.ko.xz"] {
            assert_eq!(name(Path::new(file)).as_deref(), Some("act_bpf"));
        }
        assert_eq!(name(Path::new("modules.order")), None);
    }
}
