//! Which network namespace this is, as the kernel numbers them for programs.

use std::{
    io,
    net::UdpSocket,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

/// The number of the calling thread's network namespace: what `bpf_get_netns_cookie` gives for its sockets. Kernel 5.14.
///
/// # Errors
/// No socket could be made, or the kernel does not tell.
pub fn cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    number(socket.as_fd(), libc::SO_NETNS_COOKIE)
}

/// An option of a socket that is a number of 64 bits.
pub(super) fn number(socket: BorrowedFd<'_>, option: libc::c_int) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length: libc::socklen_t = size_of_val(&value).try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel writes no more than `length` bytes, which is the size of `value`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(value)
    } else {
        Err(io::Error::last_os_error())
    }
}
