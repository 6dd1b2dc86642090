//! Programs of somebody else: two instructions that let everything pass, where this program's own are.

use std::{fs::File, io, os::fd::OwnedFd, path::Path};

use nix::net::if_::if_nametoindex;

use crate::{Namespace, sys};

/// Commands of bpf(2).
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// Where it is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// TC ingress of a device, by a link.
    Tcx,
    /// The driver of a device.
    Xdp,
    /// The call `connect` of a cgroup's processes.
    Connect4,
}

impl Hook {
    /// The kernel's numbers for kind of program and place, and what lets everything pass there.
    const fn numbers(self) -> (u32, u32, i32) {
        match self {
            Self::Tcx => (3, 46, -1),
            Self::Xdp => (6, 37, 2),
            Self::Connect4 => (18, 10, 1),
        }
    }
}

/// An attached program; gone when this is dropped.
#[derive(Debug)]
pub struct Foreign {
    _link: OwnedFd,
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    expected: u32,
}

#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

/// `struct bpf_insn`
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

impl Foreign {
    /// At a device of a namespace.
    ///
    /// # Errors
    /// There is no such device, or the kernel refuses.
    pub fn at_device(node: &Namespace, device: &str, hook: Hook, name: &str) -> io::Result<Self> {
        node.run(|| attach(hook, name, if_nametoindex(device)?))
    }

    /// At a cgroup.
    ///
    /// # Errors
    /// There is no such cgroup, or the kernel refuses.
    pub fn at_cgroup(cgroup: &Path, hook: Hook, name: &str) -> io::Result<Self> {
        let directory = File::open(cgroup)?;
        attach(hook, name, number(&directory)?)
    }
}

fn number(file: &impl std::os::fd::AsRawFd) -> io::Result<u32> {
    u32::try_from(file.as_raw_fd()).map_err(io::Error::other)
}

fn attach(hook: Hook, name: &str, target: u32) -> io::Result<Foreign> {
    let (kind, attach_type, verdict) = hook.numbers();
    // r0 = verdict; exit
    let program = [(0xb7, verdict), (0x95, 0)].map(|(code, value)| Instruction {
        code,
        registers: 0,
        offset: 0,
        value,
    });
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(name.bytes()).take(15) {
        *to = from;
    }
    let license = c"GPL";
    let mut load = Load {
        kind,
        count: 2,
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
        name: short,
        device: 0,
        expected: if hook == Hook::Connect4 {
            attach_type
        } else {
            0
        },
    };
    let program = sys::bpf(PROG_LOAD, &mut load)?;
    let mut link = Link {
        program: number(&program)?,
        target,
        attach_type,
        flags: 0,
        rest: [0; 4],
    };
    let link = sys::bpf(LINK_CREATE, &mut link)?;
    Ok(Foreign { _link: link })
}
