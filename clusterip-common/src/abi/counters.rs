//! Counters. The kernel holds one of each per CPU; a reader adds them up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Packets and bytes of one direction or one outcome. Bytes are those of the frame as the hook sees it.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Traffic {
    /// Frames (a GSO frame is one).
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What went through a service or a backend. Value of `service_counters` and `backend_counters`.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct Counters {
    /// From clients.
    pub requests: Traffic,
    /// To clients.
    pub replies: Traffic,
    /// Flows that chose this service or backend.
    pub flows: u64,
}

impl core::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        let Self { packets, bytes } = other;
        self.packets = self.packets.wrapping_add(packets);
        self.bytes = self.bytes.wrapping_add(bytes);
    }
}

impl core::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            requests,
            replies,
            flows,
        } = other;
        self.requests += requests;
        self.replies += replies;
        self.flows = self.flows.wrapping_add(flows);
    }
}

const _: () = assert!(size_of::<Counters>() == 40);
