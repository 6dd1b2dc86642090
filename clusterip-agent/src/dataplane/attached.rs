//! Which programs are attached somewhere, whoever attached them.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use super::{
    attach::every_program,
    links::{bpf, inform, raw},
    load::{SOCKET_PROGRAMS, UPLINK_XDP},
};

/// Commands of bpf(2).
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

/// Programs of one place that are looked at.
const MOST: usize = 64;
/// Letters that the kernel keeps of a program's name.
const NAME: usize = 15;

/// Where programs are attached to a device, with the kernel's numbers.
const AT_DEVICES: [(u32, &str); 2] = [(46, "tcx/ingress"), (47, "tcx/egress")];
/// Where programs are attached to a cgroup, as far as they meet what this program translates.
const AT_CGROUPS: [(u32, &str); 8] = [
    (10, "connect4"),
    (11, "connect6"),
    (14, "sendmsg4"),
    (15, "sendmsg6"),
    (19, "recvmsg4"),
    (20, "recvmsg6"),
    (29, "getpeername4"),
    (30, "getpeername6"),
];

/// A program that is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attached {
    /// Where: `tcx/ingress`, `connect4`.
    pub hook: &'static str,
    /// The kernel's number for it.
    pub id: u32,
    /// Its name, 15 letters at most; None where this process may not ask (`CAP_SYS_ADMIN`).
    pub name: Option<String>,
}

impl Attached {
    /// Whether it is one of this program's own.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.as_deref().is_some_and(is_ours)
    }
}

/// Whether a program of this name, as the kernel keeps it, is one of this program's own.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let mut ours = every_program().chain(SOCKET_PROGRAMS).chain([UPLINK_XDP]);
    ours.any(|own| own == name || own.get(..NAME) == Some(name))
}

/// Programs that links attach to a device of this network namespace. A kernel that has no such links has none.
///
/// # Errors
/// The kernel does not say.
pub fn at_device(index: u32) -> io::Result<Vec<Attached>> {
    let mut all = Vec::new();
    for (attach_type, hook) in AT_DEVICES {
        match query(index, attach_type) {
            Ok(ids) => all.extend(ids.into_iter().map(|id| attached(hook, id))),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// Programs that are attached to a cgroup itself, at the calls of sockets.
///
/// # Errors
/// There is no such directory, or the kernel does not say.
pub fn at_cgroup(cgroup: &Path) -> io::Result<Vec<Attached>> {
    let directory = File::open(cgroup)?;
    let target = raw(directory.as_raw_fd())?;
    let mut all = Vec::new();
    for (attach_type, hook) in AT_CGROUPS {
        let ids = query(target, attach_type)?;
        all.extend(ids.into_iter().map(|id| attached(hook, id)));
    }
    Ok(all)
}

/// The program of a number, at a device's driver.
#[must_use]
pub fn at_driver(id: u32) -> Attached {
    attached("xdp", id)
}

fn attached(hook: &'static str, id: u32) -> Attached {
    Attached {
        hook,
        id,
        name: name(id).ok(),
    }
}

/// The part of `union bpf_attr` for this command.
#[repr(C)]
#[derive(Default)]
struct Query {
    /// A descriptor, or the number of a device.
    target: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    /// How many there is room for, and then how many there are.
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

fn query(target: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST];
    let mut query = Query {
        target,
        attach_type,
        programs: ids.as_mut_ptr() as u64,
        count: u32::try_from(MOST).map_err(io::Error::other)?,
        ..Query::default()
    };
    match bpf(PROG_QUERY, &mut query) {
        Ok(_zero) => {}
        // A device that never had one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    ids.truncate(query.count as usize);
    Ok(ids)
}

#[repr(C)]
struct GetFd {
    id: u32,
    next: u32,
    flags: u32,
}

/// `struct bpf_prog_info` as far as its name.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: u64,
    lengths: u64,
    /// Instructions in two forms, and the time of loading.
    before: [u64; 3],
    user: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
}

fn name(id: u32) -> io::Result<String> {
    let mut get = GetFd {
        id,
        next: 0,
        flags: 0,
    };
    let fd = bpf(PROG_GET_FD_BY_ID, &mut get)?;
    let fd = fd.try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut info = Info::default();
    inform(&program, &mut info)?;
    let text = String::from_utf8_lossy(&info.name).into_owned();
    Ok(text.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_programs_are_known_by_what_the_kernel_keeps_of_their_names() {
        for name in every_program().chain(SOCKET_PROGRAMS) {
            assert!(is_ours(name.get(..NAME).unwrap_or(name)), "{name}");
        }
        assert!(!is_ours("cil_from_contai") && !is_ours("cip") && !is_ours(""));
    }
}
