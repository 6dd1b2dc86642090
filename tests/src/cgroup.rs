//! A cgroup of a test's own: what is attached to it meets the processes that the test puts there, and no other.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use clusterip_agent::dataplane::cgroup;

use crate::wait;

const PREFIX: &str = "clusterip-test";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A cgroup of version 2. Removed when dropped, with the processes in it.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new one below that of this process. Those that dead processes of ours left are removed.
    ///
    /// # Errors
    /// cgroup2 is not mounted, or not writable.
    pub fn new() -> Result<Self> {
        let root = cgroup::root().context("no cgroup2 is mounted")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("read /proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let parent = root.join(own.unwrap_or_default());
        remove_stale(&parent);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}", std::process::id());
        let path = parent.join(name);
        fs::create_dir(&path).with_context(|| format!("make cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a process into it. Its sockets belong here from now on; those that it has stay where they are.
    ///
    /// # Errors
    /// The process has ended.
    pub fn add(&self, process: u32) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), process.to_string())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is left when this fails is removed by the next one.
        drop(fs::write(self.path.join("cgroup.kill"), "1"));
        let removed = || fs::remove_dir(&self.path).ok();
        if wait::polled(wait::PATIENCE, removed).is_none() {
            eprintln!("cgroup {} stays", self.path.display());
        }
    }
}

fn remove_stale(parent: &Path) {
    let names = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in names {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            let rest = name.strip_prefix(PREFIX)?.strip_prefix('-')?;
            rest.split('-').next()
        });
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another test may be doing the same.
            drop(fs::remove_dir(entry.path()));
        }
    }
}
