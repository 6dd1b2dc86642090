//! Flows: what is done to the packets of one 5-tuple.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::BackendId;
use crate::wire::{Addr, Be16, Proto, write_endpoint};

/// A 5-tuple as it is on the wire before translation. Key of the `flows` map.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct FlowKey {
    /// Who sends.
    pub source: Addr,
    /// To whom.
    pub destination: Addr,
    /// From which port.
    pub source_port: Be16,
    /// To which port.
    pub destination_port: Be16,
    /// TCP, UDP or SCTP.
    pub protocol: Proto,
    /// Zero: the kernel hashes every byte of a key.
    pub zero: u8,
    /// Zero.
    pub zero_tail: u16,
}

impl FlowKey {
    /// Becomes the tuple of the other way.
    #[inline(always)]
    pub const fn turn(&mut self) {
        core::mem::swap(&mut self.source, &mut self.destination);
        core::mem::swap(&mut self.source_port, &mut self.destination_port);
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.protocol)?;
        write_endpoint(f, self.source, self.source_port)?;
        f.write_str(" -> ")?;
        write_endpoint(f, self.destination, self.destination_port)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

number! {
    /// Which side of the flow an entry translates.
    Direction(u8)
}

impl Direction {
    /// Client to service: the destination becomes the backend.
    pub const REQUEST: Self = Self(0);
    /// Backend to client: the source becomes the VIP.
    pub const REPLY: Self = Self(1);
    /// Client to a backend by its own address: kept so that no flow of a service looks the same to it (C12).
    pub const DIRECT: Self = Self(2);
    /// Backend to such a client.
    pub const DIRECT_REPLY: Self = Self(3);
    /// Backend to the node that stands for a client from outside: the destination becomes the client (E2).
    pub const UNMASQUERADE: Self = Self(4);
    /// Such a client to its backend: the source becomes the node.
    pub const MASQUERADE: Self = Self(5);

    /// Client to a backend of this node, by way of another node that was called (direct server return): left as it is. The entry
    /// names what was called.
    pub const FORWARDED: Self = Self(8);
    /// Backend to such a client: the source becomes what was called.
    pub const RETURN: Self = Self(9);

    /// Whether it is the client's side; of a masquerade, the backend's, which calls the node there.
    #[inline(always)]
    #[must_use]
    pub const fn is_request(self) -> bool {
        self.0 & 1 == 0
    }

    /// Whether no service of this node chose the backend: the client called it itself, or another node did.
    #[inline(always)]
    #[must_use]
    pub const fn is_direct(self) -> bool {
        self.0 & 0b1010 != 0
    }

    /// Whether a client's address is hidden or shown again; its service is the affair of another pair of entries.
    #[inline(always)]
    #[must_use]
    pub const fn is_masquerade(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether another node chose the backend.
    #[inline(always)]
    #[must_use]
    pub const fn is_forwarded(self) -> bool {
        self.0 & 8 != 0
    }

    /// The other side.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

number! {
    /// How far a flow has come.
    FlowState(u8)
}

impl FlowState {
    /// Only a SYN was seen (TCP).
    pub const OPENING: Self = Self(0);
    /// Talking.
    pub const ESTABLISHED: Self = Self(1);
    /// This side has said FIN; the other one may go on (TCP).
    pub const ENDED: Self = Self(2);
    /// Both sides have said FIN, or one RST (TCP, C5).
    pub const CLOSING: Self = Self(3);
}

/// The translation to apply, and on whose behalf. Value of the `flows` map.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Flow {
    /// Nanoseconds of the monotonic clock at the last packet that counts (C5: late packets of a closing flow do not).
    pub last_seen: u64,
    /// What the translated side's address becomes.
    pub address: Addr,
    /// The backend, which also names the service; none of a direct flow.
    pub backend: BackendId,
    /// The backend's generation when the flow was made; another one now means that the flow is dead (C10).
    pub generation: u32,
    /// What the translated side's port becomes.
    pub port: Be16,
    /// The port that the client's side gets: another one than its own where two flows would look the same to the
    /// backend (C12).
    pub client_port: Be16,
    /// The translated side.
    pub direction: Direction,
    /// See [`FlowState`].
    pub state: FlowState,
    /// The port of the node in the place of the client's, towards the backend, where the node stands for a client from outside (E2);
    /// 0 where it does not; [`Flow::ITSELF`] where another node answers the client itself.
    pub node_port: Be16,
}

impl Flow {
    /// In the place of a port of the node: the client is forwarded under its own address, and answers do not come by this node.
    pub const ITSELF: Be16 = Be16::new(u16::MAX);

    /// Whether this node sees no more of the flow than the client's side.
    #[inline(always)]
    #[must_use]
    pub const fn is_one_sided(&self) -> bool {
        self.node_port.as_it_lies() == Self::ITSELF.as_it_lies()
    }
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.direction.is_request() {
            "dst "
        } else {
            "src "
        })?;
        write_endpoint(f, self.address, self.port)?;
        let Self {
            backend,
            generation,
            state,
            last_seen,
            ..
        } = self;
        write!(
            f,
            " backend={} generation={generation} state={} last_seen={last_seen}",
            backend.0, state.0
        )
    }
}

const _: () = assert!(size_of::<FlowKey>() == 40 && size_of::<Flow>() == 40);
