//! Network namespaces: anonymous ones that a file descriptor holds, named ones for `ip netns exec`.

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs::File,
    io,
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
};

use crate::name::Name;

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
            File::open("/proc/thread-self/ns/net")
        })
        .context("make a network namespace")?;
        Ok(Self::of(net))
    }

    /// A new one that `ip netns` knows by `name`. One of the same name that a dead process of ours left is removed first.
    ///
    /// # Errors
    /// The name is taken by a live process or by somebody else, or the kernel refused.
    pub fn named(name: &str) -> Result<Self> {
        let mut namespace = Self::anonymous()?;
        namespace.name = Some(Arc::new(Name::give(name, &namespace)?));
        Ok(namespace)
    }

    /// The one that a file of the kernel's names.
    pub(crate) fn of(file: File) -> Self {
        let entry = Entry {
            net: Arc::new(file.into()),
            mounts: None,
        };
        Self { entry, name: None }
    }

    /// Its name under `ip netns`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref().and_then(Name::as_str)
    }

    /// Leaves its name behind, as this process would if it were killed: for the test of that.
    pub fn abandon(self) {
        if let Some(name) = self.name.and_then(Arc::into_inner) {
            name.abandon();
        }
    }

    /// Adds a mount namespace with a bpffs and a `/run` of its own: pins and state stay in it from one process to the
    /// next, and vanish with it.
    ///
    /// # Errors
    /// The kernel refused.
    pub(crate) fn with_mounts(mut self) -> Result<Self> {
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
            for (kind, place) in [("bpf", "/sys/fs/bpf"), ("tmpfs", "/run")] {
                mount(Some(kind), place, Some(kind), MsFlags::empty(), nothing)?;
            }
            File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
        })
        .context("make a mount namespace with a bpffs on /sys/fs/bpf and a tmpfs on /run")?;
        self.entry.mounts = Some(Arc::new(mounts));
        Ok(self)
    }

    /// Adds a mount namespace with a `/etc/resolv.conf` of its own.
    ///
    /// # Errors
    /// The kernel refused, or the machine has no such file for it to be mounted over.
    pub(crate) fn with_resolv_conf(mut self, text: &str) -> Result<Self> {
        let mounts = aside(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing = None::<&str>;
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(nothing, "/", nothing, private, nothing)?;
            let flags = MsFlags::empty();
            mount(Some("tmpfs"), "/mnt", Some("tmpfs"), flags, nothing)?;
            std::fs::write("/mnt/resolv.conf", text)?;
            let (from, to) = (Some("/mnt/resolv.conf"), "/etc/resolv.conf");
            mount(from, to, nothing, MsFlags::MS_BIND, nothing)?;
            File::open("/proc/thread-self/ns/mnt").map(OwnedFd::from)
        })
        .context("make a mount namespace with a resolv.conf")?;
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
    pub fn path(&self) -> PathBuf {
        let fd = self.entry.net.as_raw_fd();
        format!("/proc/{}/fd/{fd}", std::process::id()).into()
    }
}

/// Runs on a thread of its own, which ends with it. A panic goes on in the caller.
fn aside<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
