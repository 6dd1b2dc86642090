//! How a pod finds names: its `/etc/resolv.conf`.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Where `ip netns exec NAME` looks for files that it mounts over those of `/etc`.
const FOLDER: &str = "/etc/netns";
const FILE: &str = "resolv.conf";

/// What a kubelet writes for a pod of a namespace.
#[must_use]
pub fn conf(servers: &[IpAddr], namespace: &str, domain: &str) -> String {
    let servers = servers.iter().map(|it| format!("nameserver {it}\n"));
    let servers: String = servers.collect();
    format!(
        "{servers}search {namespace}.svc.{domain} svc.{domain} {domain}\noptions ndots:5 timeout:1 attempts:5\n"
    )
}

/// The file for those who enter a named network namespace by `ip netns exec`. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Named {
    folder: PathBuf,
}

impl Named {
    pub(crate) fn write(name: &str, text: &str) -> Result<Self> {
        let folder = Path::new(FOLDER).join(name);
        let write = || -> io::Result<()> {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(FILE), text)
        };
        write().with_context(|| format!("write {}", folder.join(FILE).display()))?;
        Ok(Self { folder })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // Each fails if it is gone already, or if there is more in it than this file.
        drop(fs::remove_file(self.folder.join(FILE)));
        drop(fs::remove_dir(&self.folder));
        drop(fs::remove_dir(FOLDER));
    }
}
