//! Flows of sockets: what was done to the calls of one socket.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BackendId, Direction};
use crate::wire::{Addr, Be16, write_endpoint};

/// An address that a socket speaks with, from the socket's side or from the wire's. Key of the `sockets` map.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct SocketKey {
    /// The kernel's number of the socket, never given twice.
    pub cookie: u64,
    /// A service address (request) or a backend's (reply).
    pub address: Addr,
    /// Its port.
    pub port: Be16,
    /// Which of the two.
    pub direction: Direction,
    /// Zero: the kernel hashes every byte of a key.
    pub zero: u8,
    /// Zero.
    pub zero_tail: u32,
}

impl SocketKey {
    /// A key.
    #[inline(always)]
    #[must_use]
    pub const fn new(cookie: u64, direction: Direction, address: Addr, port: Be16) -> Self {
        Self {
            cookie,
            address,
            port,
            direction,
            zero: 0,
            zero_tail: 0,
        }
    }
}

impl fmt::Debug for SocketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.direction == Direction::REQUEST {
            "to"
        } else {
            "from"
        };
        write!(f, "socket {:#x} {side} ", self.cookie)?;
        write_endpoint(f, self.address, self.port)
    }
}

/// What that address is translated to, and on whose behalf. Value of the `sockets` map.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SocketFlow {
    /// The backend's address (request) or the service's (reply).
    pub address: Addr,
    /// Its port.
    pub port: Be16,
    /// Zero.
    pub zero: u16,
    /// The backend, which also names the service.
    pub backend: BackendId,
    /// The backend's generation when it was chosen; another one now means that the entry is dead (C10).
    pub generation: u32,
    /// Zero.
    pub zero_tail: u32,
}

impl fmt::Debug for SocketFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endpoint(f, self.address, self.port)?;
        write!(
            f,
            " backend={} generation={}",
            self.backend.0, self.generation
        )
    }
}

const _: () = assert!(size_of::<SocketKey>() == 32 && size_of::<SocketFlow>() == 32);
