//! Network namespaces: anonymous ones that a file descriptor holds, named ones for `ip netns exec`.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::{self, File},
    io,
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

/// Where iproute2 looks for names.
const NAMES: &str = "/run/netns";

/// Alias of the loopback device of a named namespace: tells ours from one that the user made.
const MARK: &str = "clusterip demo";

/// What a thread or a process goes into.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    net: Arc<OwnedFd>,
    mounts: Option<Arc<OwnedFd>>,
}

impl Entry {
    /// The namespaces and their kinds. The mount namespace comes first, as the net one needs nothing of it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (BorrowedFd<'_>, CloneFlags)> {
        let mounts = self
            .mounts
            .iter()
            .map(|fd| (fd.as_fd(), CloneFlags::CLONE_NEWNS));
        mounts.chain([(self.net.as_fd(), CloneFlags::CLONE_NEWNET)])
    }

    fn enter(&self) -> nix::Result<()> {
        if self.mounts.is_some() {
            // A thread that shares its root and working directory with others may not change its mount namespace.
            unshare(CloneFlags::CLONE_FS)?;
        }
        self.parts()
            .try_for_each(|(namespace, kind)| setns(namespace, kind))
    }
}

/// A network namespace, and a mount namespace beside it if it has one. Lives as long as a handle of it; nothing of
/// it is left when the process dies, unless it is named.
#[derive(Clone, Debug)]
pub struct Namespace {
    entry: Entry,
    name: Option<Arc<Name>>,
}

impl Namespace {
    /// A new one that only this process can see.
    ///
    /// # Errors
    /// The kernel refused: mostly for want of privileges.
    pub fn anonymous() -> Result<Self> {
        // Its own thread: what `unshare` does to a thread cannot be undone.
        let net = aside(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net").map(OwnedFd::from)
        })
        .context("make a network namespace")?;
        let entry = Entry {
            net: Arc::new(net),
            mounts: None,
        };
        Ok(Self { entry, name: None })
    }

    /// A new one that `ip netns` knows by `name`. One of the same name that a dead process of ours left is removed first.
    ///
    /// # Errors
    /// The name is taken by a live process or by somebody else, or the kernel refused.
    pub fn named(name: &str) -> Result<Self> {
        let mut namespace = Self::anonymous()?;
        let name = Name::give(name, &namespace)?;
        namespace.name = Some(Arc::new(name));
        namespace.ip(&format!("link set dev lo alias \"{MARK}\"\n"))?;
        Ok(namespace)
    }

    /// Its name under `ip netns`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name
            .as_deref()
            .and_then(|name| name.path.file_name()?.to_str())
    }

    /// Leaves its name behind, as this process would if it were killed: for the test of that.
    pub fn abandon(self) {
        if let Some(name) = self.name.and_then(|name| Arc::try_unwrap(name).ok()) {
            // The lock is released by closing it; the name is not removed.
            let mut name = std::mem::ManuallyDrop::new(name);
            drop(name.alive.take());
        }
    }

    /// Adds a mount namespace with a fresh bpffs: pins stay in it from one process to the next, and vanish with it.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn with_bpffs(mut self) -> Result<Self> {
        let mounts = aside(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&str>;
            // Nothing that is mounted here may reach the machine's own namespace.
            mount(
                nothing,
                "/",
                nothing,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                nothing,
            )?;
            mount(
                Some("bpf"),
                "/sys/fs/bpf",
                Some("bpf"),
                MsFlags::empty(),
                nothing,
            )?;
            File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
        })
        .context("make a mount namespace with a bpffs on /sys/fs/bpf")?;
        self.entry.mounts = Some(Arc::new(mounts));
        Ok(self)
    }

    /// Does something inside, on a thread of its own, and waits for it. Sockets that it makes belong to the namespace
    /// wherever they are used. A panic goes on in the caller.
    ///
    /// # Errors
    /// The namespace could not be entered, or what `work` says.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        aside(|| {
            self.entry.enter()?;
            work()
        })
    }

    /// Starts a thread that lives inside.
    ///
    /// # Errors
    /// No thread could be made.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        name: String,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<thread::JoinHandle<io::Result<T>>> {
        let entry = self.entry.clone();
        thread::Builder::new().name(name).spawn(move || {
            entry.enter()?;
            work()
        })
    }

    /// A program that will run inside and die with this process. Paths in it are best absolute. Start it with
    /// [`crate::process::spawn`] if it shall outlive the calling thread.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        crate::sys::confine(&mut command, self.entry.clone());
        command
    }

    /// Runs commands of `ip`, one a line, inside.
    ///
    /// # Errors
    /// `ip` is not installed, or a line failed: the error holds what `ip` says and the lines.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = self
            .command("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("run ip (Debian package iproute2)")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes()).context("write to ip")?;
        }
        let output = child.wait_with_output().context("wait for ip")?;
        if !output.status.success() {
            let mut numbered = String::new();
            for (i, line) in lines.lines().enumerate() {
                writeln!(numbered, "{:>4} {line}", i + 1)?;
            }
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("ip -batch failed: {}\n{numbered}", said.trim_end());
        }
        Ok(())
    }

    /// A path to it that works in every process of the machine as long as this value lives.
    #[must_use]
    pub(crate) fn path(&self) -> PathBuf {
        let fd = self.entry.net.as_raw_fd();
        format!("/proc/{}/fd/{fd}", std::process::id()).into()
    }
}

/// An entry of `/run/netns`. Removed when dropped.
#[derive(Debug)]
struct Name {
    path: PathBuf,
    /// A shared lock on the namespace's own inode: it lasts as long as this process and tells a live owner from a dead one.
    alive: Option<File>,
}

/// Whether this process made the folder of names, and so removes it with the last of them.
static FOLDER_IS_OURS: Mutex<bool> = Mutex::new(false);

impl Name {
    fn give(name: &str, namespace: &Namespace) -> Result<Self> {
        let path = Path::new(NAMES).join(name);
        let mut ours = FOLDER_IS_OURS
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *ours |= !Path::new(NAMES).exists();
        fs::create_dir_all(NAMES).with_context(|| format!("make {NAMES}"))?;
        share_names().with_context(|| format!("make {NAMES} a shared mount"))?;
        if path.exists() {
            remove_stale(&path, name)?;
            // As it was the dead owner's.
            *ours = true;
        }
        let alive = File::open(namespace.path()).context("open the new namespace")?;
        alive.lock_shared().context("lock the new namespace")?;
        File::create_new(&path).with_context(|| format!("make {}", path.display()))?;
        let name = Self {
            path,
            alive: Some(alive),
        };
        let nothing = None::<&str>;
        mount(
            Some(&namespace.path()),
            &name.path,
            nothing,
            MsFlags::MS_BIND,
            nothing,
        )
        .with_context(|| format!("mount {}", name.path.display()))?;
        Ok(name)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // Whatever fails here is found and removed by the next one of this name.
        let mut ours = FOLDER_IS_OURS
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        drop(remove(&self.path));
        // The first is refused while there are names in it, whoever's they are.
        if *ours && umount2(NAMES, MntFlags::empty()).is_ok() {
            drop(fs::remove_dir(NAMES));
            *ours = false;
        }
    }
}

/// What `ip netns add` does to the folder when it finds it bare. If it did so later, on top of our names, they could
/// not be unmounted any more.
fn share_names() -> nix::Result<()> {
    let nothing = None::<&str>;
    let share = || {
        mount(
            nothing,
            NAMES,
            nothing,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            nothing,
        )
    };
    share().or_else(|error| match error {
        // Not a mount point yet.
        Errno::EINVAL => {
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(NAMES), NAMES, nothing, flags, nothing)?;
            share()
        }
        error => Err(error),
    })
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
    if file.metadata()?.len() == 0 && file.metadata()?.is_file() && !is_namespace(path)? {
        // Its owner died between making the file and mounting on it.
        return remove(path).with_context(|| format!("remove {}", path.display()));
    }
    ensure!(
        file.try_lock().is_ok(),
        "network namespace {name} belongs to another demo that is still running"
    );
    let stale = Namespace {
        entry: Entry {
            net: Arc::new(file.into()),
            mounts: None,
        },
        name: None,
    };
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

/// Whether something of the namespace file system is mounted on the path: an ordinary file is not on that device.
fn is_namespace(path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| fs::metadata(path).map(|data| data.dev());
    Ok(device(path)? == device(Path::new("/proc/self/ns/net"))?)
}

/// Runs on a thread of its own, which ends with it. A panic goes on in the caller.
fn aside<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
