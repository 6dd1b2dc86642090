//! The calls that need `unsafe`, all of them.

use std::{
    io,
    os::{
        fd::{AsRawFd, FromRawFd as _, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    time::Duration,
};

use nix::{
    sched::setns,
    sys::{
        prctl::set_pdeathsig,
        signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
    },
    unistd::{Pid, getppid},
};

use crate::{interrupt, namespace::Entry};

/// Makes a child enter namespaces before it becomes its program, and die with this process. The child's working
/// directory is the root if a mount namespace is among them.
pub(crate) fn confine(command: &mut Command, entry: Entry) {
    let parent = Pid::this();
    let enter = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died before the line above took effect.
        if getppid() != parent {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (namespace, kind) in entry.parts() {
            setns(namespace, kind)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec `enter` makes system calls only: it allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) };
}

/// Notes SIGINT, SIGTERM and SIGHUP in [`interrupt`] instead of dying of them.
pub(crate) fn note_signals() -> nix::Result<()> {
    extern "C" fn note(_signal: libc::c_int) {
        interrupt::note();
    }
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler stores one atomic and calls nothing else.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// The device features that [`set_feature`] can switch.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Feature {
    /// `ETHTOOL_STXCSUM`: the device computes checksums, so that packets travel with a partial one.
    TxChecksum = 0x17,
    /// `ETHTOOL_STSO`: the device cuts TCP.
    Tso = 0x1f,
    /// `ETHTOOL_SGSO`: the stack cuts as late as it can.
    Gso = 0x24,
    /// `ETHTOOL_SGRO`: the device puts packets together, for which a veth takes them as a card does, frames of programs among them.
    Gro = 0x2c,
}

/// Switches a feature of a device of the calling thread's network namespace, as `ethtool -K` does.
pub(crate) fn set_feature(device: &str, feature: Feature, on: bool) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: feature as u32,
        data: u32::from(on),
    };
    let mut name = [0; libc::IFNAMSIZ];
    // The last byte stays 0.
    for (to, from) in name.iter_mut().zip(device.bytes()).take(libc::IFNAMSIZ - 1) {
        *to = from.cast_signed();
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: `request` names a device and points to a `struct ethtool_value`; both live until the call returns.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The calling thread gets a table of descriptors of its own, in which there are the standard streams alone: the limit of a process
/// is one of a table. What the thread holds of others' before is not to be used any more.
pub(crate) fn own_descriptors() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    let flags = libc::CLOSE_RANGE_UNSHARE.cast_signed();
    // SAFETY: the table that is closed is a copy, which nobody but this thread has.
    let result = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the calling thread has had of the processor.
pub(crate) fn thread_time() -> io::Result<Duration> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one `struct timespec`.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    Ok(Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds))
}

/// A call of bpf(2) that makes a descriptor. `attributes` is the head of `union bpf_attr` for the command.
pub(crate) fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    let length = size_of_val(attributes);
    let attributes: *mut T = attributes;
    // SAFETY: `attributes` is what the command wants, and lives until the call returns with whatever it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, length) };
    let fd = i32::try_from(result).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What children that have ended had of the processors.
pub(crate) fn children_time() -> io::Result<Duration> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call writes one `struct rusage`.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was written, and was zero before.
    let usage = unsafe { usage.assume_init() };
    let time = |it: libc::timeval| {
        let seconds = u64::try_from(it.tv_sec).unwrap_or_default();
        let microseconds = u64::try_from(it.tv_usec).unwrap_or_default();
        Duration::from_secs(seconds) + Duration::from_micros(microseconds)
    };
    Ok(time(usage.ru_utime) + time(usage.ru_stime))
}
