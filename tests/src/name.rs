//! Names of network namespaces, as `ip netns` has them. They outlive a process that is killed, so the next owner of a name
//! tells a dead one's from a live one's, and both from those that are none of ours.

use std::{
    fs::{self, File, Permissions},
    io,
    mem::ManuallyDrop,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
};

use crate::Namespace;

/// Where iproute2 looks for names.
const FOLDER: &str = "/run/netns";

/// Mode of the folder where it was ours to make, so that the last to leave removes it. The sticky bit, which means
/// nothing where only root writes, is the mark.
const OUR_MODE: u32 = 0o1755;

/// Alias of the loopback device of a named namespace: tells ours from one that the user made.
const MARK: &str = "clusterip demo";

/// A name. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    /// A shared lock on the namespace's own inode: it lasts as long as this process and tells a live owner from a dead one.
    alive: File,
}

impl Name {
    /// Names a new namespace.
    pub(crate) fn give(name: &str, namespace: &Namespace) -> Result<Self> {
        let path = Path::new(FOLDER).join(name);
        let alive = File::open(namespace.path()).context("open the new namespace")?;
        alive.lock_shared().context("lock the new namespace")?;
        namespace.ip(&format!("link set dev lo alias \"{MARK}\"\n"))?;
        let _turn = turn()?;
        make_folder().with_context(|| format!("make {FOLDER}"))?;
        if path.exists() {
            remove_stale(&path, name)?;
        }
        File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        let nothing = None::<&str>;
        let mounted = mount(
            Some(&namespace.path()),
            &path,
            nothing,
            MsFlags::MS_BIND,
            nothing,
        );
        if mounted.is_err() {
            drop(fs::remove_file(&path));
        }
        mounted.with_context(|| format!("mount {}", path.display()))?;
        Ok(Self { path, alive })
    }

    /// The word.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// Leaves the name behind and gives up the lock, as death would.
    pub(crate) fn abandon(self) {
        let name = ManuallyDrop::new(self);
        drop(name.alive.unlock());
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Whatever fails here is found and removed by the next one of this name.
        let _turn = turn();
        drop(remove(&self.path));
        let is_ours = fs::metadata(FOLDER).is_ok_and(|data| data.mode() & 0o7777 == OUR_MODE);
        // The first is refused while there are names in it, whoever's they are.
        if is_ours && umount2(FOLDER, MntFlags::empty()).is_ok() {
            drop(fs::remove_dir(FOLDER));
        }
    }
}

/// One at a time in all processes of ours: the lock is on the folder above, and goes with the file.
fn turn() -> Result<File> {
    let above = File::open("/run").context("open /run")?;
    above.lock().context("lock /run")?;
    Ok(above)
}

/// Makes the folder of names unless it is there, and a shared mount of it, as `ip netns add` does when it finds it
/// bare. If that came later, on top of our names, they could not be unmounted any more.
fn make_folder() -> io::Result<()> {
    if !Path::new(FOLDER).exists() {
        fs::create_dir_all(FOLDER)?;
        fs::set_permissions(FOLDER, Permissions::from_mode(OUR_MODE))?;
    }
    let nothing = None::<&str>;
    let share = || {
        mount(
            nothing,
            FOLDER,
            nothing,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            nothing,
        )
    };
    let shared = share().or_else(|error| match error {
        // Not a mount point yet.
        Errno::EINVAL => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(FOLDER), FOLDER, nothing, flags, nothing)?;
            share()
        }
        error => Err(error),
    });
    Ok(shared?)
}

fn remove(path: &Path) -> io::Result<()> {
    // Not mounted is as good as unmounted.
    umount2(path, MntFlags::MNT_DETACH).or_else(|error| match error {
        Errno::EINVAL => Ok(()),
        error => Err(error),
    })?;
    fs::remove_file(path)
}

/// Removes a name whose owner is dead; refuses any other.
fn remove_stale(path: &Path, name: &str) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let data = file.metadata()?;
    // An ordinary file is not on the device of namespaces.
    let is_namespace = data.dev() == fs::metadata("/proc/self/ns/net")?.dev();
    if !is_namespace && data.len() == 0 {
        // Its owner died between making the file and mounting on it.
        return remove(path).with_context(|| format!("remove {}", path.display()));
    }
    ensure!(
        file.try_lock().is_ok(),
        "network namespace {name} belongs to another demo that is still running"
    );
    let stale = Namespace::of(file);
    let shown = stale
        .command("ip")
        .args(["-o", "link", "show", "lo"])
        .output();
    let shown = shown.context("run ip (Debian package iproute2)")?;
    ensure!(
        String::from_utf8_lossy(&shown.stdout).contains(MARK),
        "network namespace {name} is there already and not ours: ip netns delete {name}"
    );
    remove(path).with_context(|| format!("remove the stale {}", path.display()))
}
