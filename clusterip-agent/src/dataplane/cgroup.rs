//! The hooks on the sockets of a cgroup's processes: attached, taken over, taken away.
//!
//! As with devices, links are pinned and outlive the agent; the next one replaces the programs in place.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::programs::{
    CgroupAttachMode,
    links::{FdLink, PinnedLink},
};
use log::{debug, info};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{
    links::OldLink,
    load::{LoadError, Loaded, SOCKET_PROGRAMS},
    pins::Pins,
};

/// Where the kernel lists mounts.
const MOUNTS: &str = "/proc/self/mountinfo";

/// A hook on sockets that could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The directory is no cgroup.
    #[error(
        "{path} is no cgroup of version 2; name one with --cgroup, mostly the root: the mount point of type cgroup2 in \
         {MOUNTS}"
    )]
    NotCgroup2 {
        /// The directory.
        path: PathBuf,
    },
    /// A directory or file.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The attachment.
    #[error("attach {program} to cgroup {cgroup}; --socket-lb off leaves sockets alone")]
    Attach {
        /// Which program.
        program: &'static str,
        /// To which cgroup.
        cgroup: PathBuf,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where cgroup2 is mounted, the whole of it rather than a part. None if it is not.
#[must_use]
pub fn root() -> Option<PathBuf> {
    mounted(&fs::read_to_string(MOUNTS).ok()?)
}

/// As [`root`], of the text of a mountinfo: `id parent device root mount-point options ... - type source options`.
fn mounted(mounts: &str) -> Option<PathBuf> {
    let of_cgroup2 = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (kind.split(' ').next()? == "cgroup2").then_some((root, point))
    });
    let whole = of_cgroup2
        .filter(|(root, _)| *root == "/")
        .map(|(_, point)| point);
    whole.map(unescape).next().map(PathBuf::from)
}

/// A space in a path is written `\040`.
fn unescape(text: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(text.to_owned(), |text, (written, meant)| {
        text.replace(written, meant)
    })
}

/// Whether a directory is a cgroup of version 2.
///
/// # Errors
/// It is not, or is not there.
pub fn check(cgroup: &Path) -> Result<(), CgroupError> {
    let stat = statfs(cgroup).map_err(|error| CgroupError::Io {
        operation: "look at",
        path: cgroup.to_owned(),
        source: error.into(),
    })?;
    if stat.filesystem_type() == CGROUP2_SUPER_MAGIC {
        Ok(())
    } else {
        Err(CgroupError::NotCgroup2 {
            path: cgroup.to_owned(),
        })
    }
}

/// Attaches the programs to a cgroup, or puts them in the place of an earlier agent's.
///
/// # Errors
/// Which program could not be attached, and why.
pub fn attach(loaded: &mut Loaded, pins: &Pins, cgroup: &Path) -> Result<(), CgroupError> {
    check(cgroup)?;
    let io_error = |operation| {
        move |source| CgroupError::Io {
            operation,
            path: cgroup.to_owned(),
            source,
        }
    };
    let directory = File::open(cgroup).map_err(io_error("open"))?;
    let number = directory.metadata().map_err(io_error("look at"))?.ino();
    for program in SOCKET_PROGRAMS {
        attach_one(loaded, program, &pin(pins, program), &directory, number).map_err(|source| {
            CgroupError::Attach {
                program,
                cgroup: cgroup.to_owned(),
                source,
            }
        })?;
    }
    info!(cgroup:% = cgroup.display(); "attached to sockets");
    Ok(())
}

fn attach_one(
    loaded: &mut Loaded,
    name: &'static str,
    pin: &Path,
    cgroup: &File,
    number: u64,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let program = loaded.socket_program(name)?;
    if let Some(link) = OldLink::open(pin)? {
        let result = link.cgroup().and_then(|old| {
            if old == number {
                link.update(std::os::fd::AsFd::as_fd(
                    program.fd().map_err(io::Error::other)?,
                ))
            } else {
                Err(io::Error::other("it is attached to another cgroup"))
            }
        });
        match result {
            Ok(()) => return Ok(()),
            Err(error) => {
                debug!(program = name, error:err; "the pinned link is of no use");
                fs::remove_file(pin)?;
            }
        }
    }
    // Links of one cgroup are many anyway, and the kernel refuses any mode for them.
    let id = program.attach(cgroup, CgroupAttachMode::Single)?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    let _pinned: PinnedLink = link.pin(pin)?;
    Ok(())
}

/// Takes the programs of an earlier agent away; nothing happens if there are none.
///
/// # Errors
/// A pin could not be removed.
pub fn detach(pins: &Pins) -> Result<(), CgroupError> {
    for program in SOCKET_PROGRAMS.iter().rev() {
        let path = pin(pins, program);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CgroupError::Io {
                    operation: "unpin",
                    path,
                    source: error,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn pin(pins: &Pins, program: &str) -> PathBuf {
    pins.links().join(format!("cgroup_{program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
40 31 0:37 /kubepods/pod7 /sys/fs/cgroup/part rw,relatime - cgroup2 cgroup2 rw
41 31 0:37 / /sys/fs/cgroup/all\\040of\\040it rw,relatime shared:4 master:1 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_whole_of_cgroup2_is_found_among_the_mounts() {
        assert_eq!(
            mounted(HYBRID),
            Some(PathBuf::from("/sys/fs/cgroup/all of it"))
        );
        assert_eq!(mounted(""), None);
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        let error = check(Path::new("/")).unwrap_err();
        assert!(error.to_string().contains("--cgroup"), "{error}");
    }
}
