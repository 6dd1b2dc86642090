//! Backends.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ServiceId;
use crate::wire::{Addr, Be16, write_endpoint};

number! {
    /// One endpoint of one balancer: index of `backends` and `backend_counters`. An endpoint that serves two service
    /// ports has two ids, so that one read tells whether a flow's service *and* backend still stand (C10).
    BackendId(u32)
}

number! {
    /// What a backend is good for. A number rather than an enum: a map may hold any value.
    BackendState(u16)
}

impl BackendState {
    /// The id is not in use; flows that name it are dead (C10).
    pub const FREE: Self = Self(0);
    /// In the slots: new flows come here.
    pub const ACTIVE: Self = Self(1);
    /// Takes no new flow but still serves: TCP and UDP flows stay (C1, C8).
    pub const DRAINING: Self = Self(2);
    /// Left the serving set: established TCP flows stay (C1), UDP moves (C8), a SYN chooses anew (C3).
    pub const GONE: Self = Self(3);
}

impl fmt::Display for BackendState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::FREE => "free",
            Self::ACTIVE => "active",
            Self::DRAINING => "draining",
            Self::GONE => "gone",
            _ => "unknown",
        })
    }
}

/// Where a flow is sent. Value of the `backends` array.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Default,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
)]
#[repr(C)]
pub struct Backend {
    /// The endpoint's address.
    pub address: Addr,
    /// The balancer it belongs to.
    pub service: ServiceId,
    /// Goes up each time the id is given to another endpoint; kept while the id is free.
    pub generation: u32,
    /// The endpoint's port (`targetPort`).
    pub port: Be16,
    /// See [`BackendState`].
    pub state: BackendState,
    /// Zero.
    pub zero: u32,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_endpoint(f, self.address, self.port)
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{self} {} service={} generation={}",
            self.state, self.service.0, self.generation
        )
    }
}

const _: () = assert!(size_of::<Backend>() == 32);
