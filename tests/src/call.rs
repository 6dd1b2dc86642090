//! A process's call on a socket, on the host.

use std::net::{IpAddr, SocketAddr};

use clusterip_common::{
    packet::socket::Socket,
    wire::{Addr, Be16, Proto},
};

/// A socket, and the peer's address of the call it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostSocket {
    /// TCP or UDP.
    pub protocol: Proto,
    /// Number of the network namespace.
    pub netns: u64,
    /// Number of the socket.
    pub cookie: u64,
    /// Whether it has a peer already.
    pub connected: bool,
    peer: (Addr, Be16),
}

impl HostSocket {
    /// A socket of the network namespace 1.
    #[must_use]
    pub const fn new(protocol: Proto, cookie: u64) -> Self {
        Self {
            protocol,
            netns: 1,
            cookie,
            connected: false,
            peer: (Addr::UNSPECIFIED, Be16::new(0)),
        }
    }

    /// The socket in a call with this address, `ADDRESS:PORT`.
    ///
    /// # Panics
    /// The text is no address.
    #[must_use]
    pub fn at(mut self, peer: &str) -> Self {
        let peer: SocketAddr = peer.parse().expect("ADDRESS:PORT");
        self.peer = (peer.ip().into(), Be16::new(peer.port()));
        self
    }

    /// The address in the call, as text.
    #[must_use]
    pub fn shown(&self) -> String {
        let (address, port) = self.peer;
        SocketAddr::new(IpAddr::from(address), port.get()).to_string()
    }
}

impl Socket for HostSocket {
    fn protocol(&self) -> Proto {
        self.protocol
    }

    fn netns(&self) -> u64 {
        self.netns
    }

    fn cookie(&self) -> u64 {
        self.cookie
    }

    fn is_connected(&self) -> bool {
        self.connected
    }

    fn peer(&self) -> (Addr, Be16) {
        self.peer
    }

    fn set_peer(&mut self, address: Addr, port: Be16) {
        self.peer = (address, port);
    }
}
