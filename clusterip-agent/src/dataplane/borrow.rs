//! Sockets of other processes: found by their peer, and connected anew on their behalf.
//!
//! The kernel asks no program when a connected socket sends, so nothing but its owner, or somebody in its place, can
//! give it another peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use nix::sys::socket::{SockaddrStorage, connect};

use super::{netns::number, sockets::Stranded};

/// Where the kernel lists processes.
const PROCESSES: &str = "/proc";
/// A socket that is connected, in the kernel's list of UDP sockets.
const CONNECTED: &str = "01";

/// What was done for one socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is connected to another backend.
    Moved,
    /// It has to wait: the service has no backend at the moment.
    Waits,
    /// It is not there any more, or not connected: nothing to do.
    Free,
    /// It is connected, and its process cannot be seen or not be entered from here.
    OutOfReach,
}

/// Connects those sockets that are connected to a backend that no longer serves to the service again, which chooses
/// anew. With `everywhere`, also those of other network namespaces. The outcomes are in the order of `stranded`.
#[must_use]
pub fn reconnect(stranded: &[Stranded], everywhere: bool) -> Vec<Outcome> {
    let peers: BTreeSet<SocketAddr> = stranded.iter().map(Stranded::backend).collect();
    let mut connected = BTreeMap::new();
    for tables in network_namespaces(everywhere) {
        for table in ["udp", "udp6"] {
            // A namespace may have gone.
            let text = fs::read_to_string(tables.join(table)).unwrap_or_default();
            let wanted = sockets(&text).filter(|socket| peers.contains(&canonical(socket.peer)));
            connected.extend(wanted.map(|socket| (socket.inode, socket.peer)));
        }
    }
    let mut copies = BTreeMap::new();
    if !connected.is_empty() {
        for (process, fd, inode) in descriptors() {
            if let Some(peer) = connected.get(&inode)
                && let Ok(socket) = copy(process, fd)
                && let Ok(cookie) = number(socket.as_fd(), libc::SO_COOKIE)
            {
                copies.insert(cookie, (socket, *peer));
                connected.remove(&inode);
            }
        }
    }
    let outcome = |socket: &Stranded| match copies.get(&socket.cookie()) {
        Some((copy, peer)) if canonical(*peer) == socket.backend() => {
            match connect_to(copy.as_fd(), socket.service(), peer.is_ipv6()) {
                Ok(()) => Outcome::Moved,
                Err(error) => {
                    log::debug!(service:% = socket.service(), error:err; "a socket is not connected anew");
                    Outcome::Waits
                }
            }
        }
        // What is left in the list belongs to somebody else's processes.
        None if connected
            .values()
            .any(|peer| canonical(*peer) == socket.backend()) =>
        {
            Outcome::OutOfReach
        }
        _ => Outcome::Free,
    };
    stranded.iter().map(outcome).collect()
}

/// A socket of the kernel's list.
struct Listed {
    peer: SocketAddr,
    inode: u64,
}

/// The connected sockets in a text of `/proc/net/udp` or `udp6`.
fn sockets(text: &str) -> impl Iterator<Item = Listed> {
    text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let peer = fields.nth(2)?;
        if fields.next()? != CONNECTED {
            return None;
        }
        Some(Listed {
            peer: address(peer)?,
            inode: fields.nth(5)?.parse().ok()?,
        })
    })
}

/// `0B00F40A:14E9`, or four such words of IPv6: as the machine's words, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    #[expect(
        clippy::host_endian_bytes,
        reason = "the kernel prints the bytes in memory as words of its own order"
    )]
    let word = |at: usize| {
        let digits = text.get(at..at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    if address.len() == 8 {
        return Some((Ipv4Addr::from(word(0)?), port).into());
    }
    let mut octets = [0; 16];
    for (at, place) in (0..).step_by(8).zip(octets.chunks_exact_mut(4)) {
        place.copy_from_slice(&word(at)?);
    }
    Some((Ipv6Addr::from(octets), port).into())
}

/// IPv4 as such, also on a socket of IPv6.
const fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir(PROCESSES).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

/// The folders with the lists of sockets, one for each network namespace.
fn network_namespaces(everywhere: bool) -> Vec<PathBuf> {
    let own = Path::new(PROCESSES).join("self");
    let mut seen: BTreeSet<PathBuf> = fs::read_link(own.join("ns/net")).into_iter().collect();
    let mut found = vec![own.join("net")];
    if everywhere {
        for (_, process) in processes() {
            if let Ok(namespace) = fs::read_link(process.join("ns/net"))
                && seen.insert(namespace)
            {
                found.push(process.join("net"));
            }
        }
    }
    found
}

/// The sockets that processes hold: process, descriptor, inode.
fn descriptors() -> impl Iterator<Item = (u32, u32, u64)> {
    processes().flat_map(|(process, path)| {
        let entries = fs::read_dir(path.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        entries.filter_map(move |entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some((
                process,
                entry.file_name().to_str()?.parse().ok()?,
                inode.parse().ok()?,
            ))
        })
    })
}

/// A descriptor of another process's socket. Kernel 5.6; needs `CAP_SYS_PTRACE`.
fn copy(process: u32, fd: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) })?;
    // SAFETY: the call takes a descriptor, which is open, and two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = result.try_into().map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The socket keeps its own address and what it has received.
fn connect_to(socket: BorrowedFd<'_>, service: SocketAddr, is_v6: bool) -> io::Result<()> {
    let to = match service {
        SocketAddr::V4(v4) if is_v6 => {
            SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into()
        }
        other => other,
    };
    Ok(connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a machine of little-endian order prints it.
    const UDP: &str = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  327: 0100F40A:8D2F 0B00F40A:14E9 01 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0
  330: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0
  331: 0000000000000000FFFF00000100F40A:8D2F 0000000000000000FFFF00000B00F40A:14E9 01 0:0 0:0 0 0 0 4713 2 0 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn connected_sockets_are_read_from_the_kernels_list() {
        let found: Vec<_> = sockets(UDP)
            .map(|socket| {
                (
                    canonical(socket.peer).to_string(),
                    socket.peer.is_ipv6(),
                    socket.inode,
                )
            })
            .collect();
        let peer = "10.244.0.11:5353".to_owned();
        assert_eq!(found, [(peer.clone(), false, 4711), (peer, true, 4713)]);
    }

    #[test]
    fn a_socket_of_another_descriptor_is_the_same_socket() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let fd = socket.as_raw_fd().try_into().expect("a descriptor");
        let copy = copy(std::process::id(), fd).expect("a copy");
        let cookie = |socket| number(socket, libc::SO_COOKIE).expect("a cookie");
        assert_eq!(cookie(copy.as_fd()), cookie(socket.as_fd()));
    }
}
