//! What aya lacks for links: looking at a pinned one, and putting another program into it. And bpf(2) itself.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Commands of bpf(2).
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_UPDATE: libc::c_long = 29;

/// `BPF_LINK_TYPE_CGROUP`
const CGROUP: u32 = 3;

#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` for what there is to know of an object.
#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `struct bpf_link_info` as far as its part for cgroups.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    pad: u32,
    cgroup: u64,
    attach_type: u32,
    tail: u32,
}

/// A link that an earlier agent pinned.
pub(super) struct OldLink {
    fd: OwnedFd,
}

impl OldLink {
    /// Opens a pin; None if there is none.
    pub(super) fn open(pin: &Path) -> io::Result<Option<Self>> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut get = ObjGet {
            path: path.as_ptr() as u64,
            fd: 0,
            flags: 0,
        };
        match bpf(OBJ_GET, &mut get) {
            Ok(fd) => {
                let fd = fd.try_into().map_err(io::Error::other)?;
                // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Ok(Some(Self { fd }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of the cgroup it is attached to, which is the inode of its directory; 0 if that is gone.
    pub(super) fn cgroup(&self) -> io::Result<u64> {
        let mut info = Info::default();
        inform(&self.fd, &mut info)?;
        if info.kind == CGROUP {
            Ok(info.cgroup)
        } else {
            Err(io::Error::other("the pinned link is not one of a cgroup"))
        }
    }

    /// Puts a program in the place of the one it has: no call meets neither.
    pub(super) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut update = Update {
            link: raw(self.fd.as_raw_fd())?,
            program: raw(program.as_raw_fd())?,
            flags: 0,
            old_program: 0,
        };
        bpf(LINK_UPDATE, &mut update).map(drop)
    }
}

/// A descriptor as the kernel takes it.
pub(super) fn raw(fd: i32) -> io::Result<u32> {
    fd.try_into().map_err(io::Error::other)
}

/// Has the kernel tell what there is to know of a program or a link: `info` is the head of `struct bpf_prog_info` or
/// `struct bpf_link_info`.
pub(super) fn inform<T>(fd: &OwnedFd, info: &mut T) -> io::Result<()> {
    let mut get = GetInfo {
        fd: raw(fd.as_raw_fd())?,
        length: size_of_val(info).try_into().map_err(io::Error::other)?,
        info: (&raw mut *info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut get).map(drop)
}

/// A call of bpf(2). `attributes` is the head of `union bpf_attr` for the command; the kernel may write into it, and into what it
/// points to.
pub(super) fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    let length = size_of_val(attributes);
    let attributes: *mut T = attributes;
    // SAFETY: `attributes` is the head of `union bpf_attr` for the command, and lives until the call returns, with
    // whatever it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, length) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
