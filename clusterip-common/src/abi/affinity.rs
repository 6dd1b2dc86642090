//! Which backend a client had last (B3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{BackendId, ServiceId};
use crate::wire::Addr;

/// A client of a balancer, whatever its port. Key of the `affinity` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct AffinityKey {
    /// The client.
    pub client: Addr,
    /// The balancer.
    pub service: ServiceId,
    /// Zero: the kernel hashes every byte of a key.
    pub zero: u32,
}

/// What it had. Value of the `affinity` map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Affinity {
    /// Nanoseconds of the monotonic clock at its last new flow.
    pub last_used: u64,
    /// The backend.
    pub backend: BackendId,
    /// The backend's generation then.
    pub generation: u32,
}

const _: () = assert!(size_of::<AffinityKey>() == 24 && size_of::<Affinity>() == 16);
