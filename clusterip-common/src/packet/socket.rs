//! The story of a socket: services for the processes of the node itself, whose packets come by no pod's device.
//!
//! `connect` and `sendmsg` change where a call goes; `recvmsg` and `getpeername` give the service address back
//! (docs/socket-lb.md). No packet is touched.

use super::{
    env::{Env, FlowError},
    select::{self, Choice},
};
use crate::{
    abi::{BackendState, Direction, FlowKey, Outcome, Scope, ServiceKey, SocketFlow, SocketKey},
    wire::{Addr, Be16, Proto},
};

/// A call on a socket: whose it is, and the peer's address in it.
pub trait Socket {
    /// The socket's protocol.
    fn protocol(&self) -> Proto;

    /// Number of the socket's network namespace.
    fn netns(&self) -> u64;

    /// Number of the socket, never given twice.
    fn cookie(&self) -> u64;

    /// Whether the socket has a peer already.
    fn is_connected(&self) -> bool;

    /// The peer's address; of IPv4 on an IPv6 socket as on an IPv4 one.
    fn peer(&self) -> (Addr, Be16);

    /// Puts another address of the same family there.
    fn set_peer(&mut self, address: Addr, port: Be16);
}

/// Where a socket function remembers what it did: an LRU map in the kernel.
pub trait SocketTable: Env {
    /// An entry.
    fn socket_flow(&self, key: &SocketKey) -> Option<SocketFlow>;

    /// Makes or overwrites an entry.
    ///
    /// # Errors
    /// There is no room.
    fn put_socket_flow(&self, key: &SocketKey, flow: &SocketFlow) -> Result<(), FlowError>;

    /// Removes an entry; it need not be there.
    fn remove_socket_flow(&self, key: &SocketKey);
}

/// What becomes of a call, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum SocketVerdict {
    /// Goes on as it is.
    Pass(Outcome),
    /// Goes on with another address.
    Translated(Outcome),
    /// Fails as if nobody listened there.
    Refuse(Outcome),
    /// Fails as not permitted.
    Deny(Outcome),
}

impl SocketVerdict {
    /// Why.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Pass(outcome)
            | Self::Translated(outcome)
            | Self::Refuse(outcome)
            | Self::Deny(outcome) => outcome,
        }
    }
}

/// Node ports of the loopback device have these addresses.
pub const LOOPBACK_V4: Addr = Addr::v4([127, 0, 0, 1]);
/// As above, IPv6.
pub const LOOPBACK_V6: Addr = Addr::v6([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

const NOT_OURS: SocketVerdict = SocketVerdict::Pass(Outcome::NotOurs);

/// `connect`, TCP or UDP: each one is a new flow (B1).
#[inline(always)]
pub fn connect<S: Socket, E: SocketTable>(socket: &mut S, env: &E) -> SocketVerdict {
    if !is_ours(socket, env) {
        return NOT_OURS;
    }
    let (address, port) = socket.peer();
    match frontend(socket, env, address, port) {
        Some(vip) => open(socket, env, &vip, (address, port)),
        None => forget(socket, env, address, port),
    }
}

/// A datagram with an address: the first one to a service chooses a backend, the next ones follow it.
#[inline(always)]
pub fn sendmsg<S: Socket, E: SocketTable>(socket: &mut S, env: &E) -> SocketVerdict {
    if !is_ours(socket, env) {
        return NOT_OURS;
    }
    let (address, port) = socket.peer();
    let Some(vip) = frontend(socket, env, address, port) else {
        // A connected socket of IPv6 whose peer is of IPv4 comes by with that peer for each datagram, named or not.
        if socket.is_connected() {
            return NOT_OURS;
        }
        return forget(socket, env, address, port);
    };
    let request = SocketKey::new(socket.cookie(), Direction::REQUEST, address, port);
    if let Some(flow) = env.socket_flow(&request)
        && still_serves(env, &flow)
        && env.socket_flow(&reply_key(&request, &flow)).is_some()
    {
        socket.set_peer(flow.address, flow.port);
        return SocketVerdict::Translated(Outcome::SocketRequest);
    }
    open(socket, env, &vip, (address, port))
}

/// The sender of a datagram, or the peer of a connected socket, as the process is to see it (C11).
#[inline(always)]
pub fn reveal<S: Socket, E: SocketTable>(socket: &mut S, env: &E) -> SocketVerdict {
    if !is_ours(socket, env) {
        return NOT_OURS;
    }
    let (address, port) = socket.peer();
    let reply = SocketKey::new(socket.cookie(), Direction::REPLY, address, port);
    let Some(flow) = env.socket_flow(&reply) else {
        return NOT_OURS;
    };
    socket.set_peer(flow.address, flow.port);
    SocketVerdict::Translated(Outcome::SocketReply)
}

/// `--socket-lb host`: a pod's own packets are translated where they leave the pod.
#[inline(always)]
fn is_ours<S: Socket, E: Env>(socket: &S, env: &E) -> bool {
    let netns = env.settings().socket_netns;
    netns == 0 || netns == socket.netns()
}

/// The service that a call is for: by an address of the service range, by one towards the outside (E3), or by the loopback
/// device, where node ports are the node's own processes' alone (E6).
#[inline(always)]
fn frontend<S: Socket, E: Env>(
    socket: &S,
    env: &E,
    address: Addr,
    port: Be16,
) -> Option<ServiceKey> {
    let settings = env.settings();
    let key = ServiceKey::new(address, port, socket.protocol());
    if settings.service_v4.contains(address) || settings.service_v6.contains(address) {
        return Some(key);
    }
    let key = match loopback(address) {
        Some(_) if settings.node_netns == 0 || settings.node_netns != socket.netns() => {
            return None;
        }
        Some(address) => ServiceKey { address, ..key }.seen(Scope::LOOPBACK),
        None if env.is_frontend(address, port) => key.seen(Scope::INSIDE),
        None => return None,
    };
    env.service(&key).map(|_| key)
}

/// The address that stands for all of a family's loopback device.
#[inline(always)]
const fn loopback(address: Addr) -> Option<Addr> {
    let [first, ..] = address.low();
    if address.is_mapped() && first == 127 {
        Some(LOOPBACK_V4)
    } else if address.is(LOOPBACK_V6) {
        Some(LOOPBACK_V6)
    } else {
        None
    }
}

/// C8: a backend that takes no new flows keeps the ones it has; one that left the serving set loses them. C10: the id
/// still means the same endpoint.
#[inline(always)]
fn still_serves<E: Env>(env: &E, flow: &SocketFlow) -> bool {
    env.backend(flow.backend).is_some_and(|backend| {
        backend.generation == flow.generation
            && (backend.state == BackendState::ACTIVE || backend.state == BackendState::DRAINING)
    })
}

/// The entry that a backend's answers find.
#[inline(always)]
const fn reply_key(request: &SocketKey, flow: &SocketFlow) -> SocketKey {
    SocketKey::new(request.cookie, Direction::REPLY, flow.address, flow.port)
}

/// A call by an address that is no service's. If that is the address of a backend this socket was sent to before, its
/// answers are its own from now on.
#[inline(always)]
fn forget<S: Socket, E: SocketTable>(
    socket: &S,
    env: &E,
    address: Addr,
    port: Be16,
) -> SocketVerdict {
    let reply = SocketKey::new(socket.cookie(), Direction::REPLY, address, port);
    if env.socket_flow(&reply).is_some() {
        env.remove_socket_flow(&reply);
    }
    NOT_OURS
}

/// The flow as those that choose see it. The socket has no address of its own yet: its network namespace stands for the
/// client (B3), in a range that is on no wire (RFC 6666), and its number for the client's port.
#[inline(always)]
#[expect(
    clippy::host_endian_bytes,
    reason = "an identity, compared on this machine only"
)]
fn flow_key<S: Socket>(socket: &S, address: Addr, port: Be16) -> FlowKey {
    let [n0, n1, n2, n3, n4, n5, n6, n7] = socket.netns().to_ne_bytes();
    let [low, high, ..] = socket.cookie().to_ne_bytes();
    FlowKey {
        source: Addr::v6([1, 0, 0, 0, 0, 0, 0, 0, n0, n1, n2, n3, n4, n5, n6, n7]),
        destination: address,
        source_port: Be16([low, high]),
        destination_port: port,
        protocol: socket.protocol(),
        zero: 0,
        zero_tail: 0,
    }
}

/// Chooses a backend and remembers it.
#[inline(always)]
fn open<S: Socket, E: SocketTable>(
    socket: &mut S,
    env: &E,
    vip: &ServiceKey,
    (address, port): (Addr, Be16),
) -> SocketVerdict {
    let protocol = socket.protocol();
    let key = flow_key(socket, address, port);
    // The node is who calls, whatever address the call will have.
    let node = env.node_address(!address.is_mapped());
    let Choice { id, backend } = match select::choose(env, vip, &key, node) {
        Ok(choice) => choice,
        // Nobody's: what a packet to it does is the route's affair.
        Err(Outcome::Unallocated) => return NOT_OURS,
        Err(Outcome::NoEndpoint) => return SocketVerdict::Refuse(Outcome::SocketNoEndpoint),
        // B9
        Err(Outcome::NoService) => return SocketVerdict::Refuse(Outcome::NoService),
        Err(outcome) => return SocketVerdict::Deny(outcome),
    };
    if backend.address.is_mapped() != address.is_mapped() {
        // A socket of one family cannot hold it; the agent never pairs them.
        return SocketVerdict::Deny(Outcome::NoBackend);
    }
    let mut flow = SocketFlow {
        address: backend.address,
        port: backend.port,
        zero: 0,
        backend: id,
        generation: backend.generation,
        zero_tail: 0,
    };
    let request = SocketKey::new(socket.cookie(), Direction::REQUEST, address, port);
    // Only a datagram may come back to the same service on the same socket.
    if protocol == Proto::UDP && env.put_socket_flow(&request, &flow).is_err() {
        return SocketVerdict::Deny(Outcome::FlowTableFull); // C6
    }
    let reply = reply_key(&request, &flow);
    flow.address = address;
    flow.port = port;
    if env.put_socket_flow(&reply, &flow).is_err() {
        env.remove_socket_flow(&request);
        return SocketVerdict::Deny(Outcome::FlowTableFull);
    }
    env.count_flow(backend.service, id);
    socket.set_peer(backend.address, backend.port);
    SocketVerdict::Translated(Outcome::SocketNewFlow)
}
