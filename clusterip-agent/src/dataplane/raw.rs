//! The ABI's types as aya wants them.

use clusterip_common::{
    abi::{
        Affinity, AffinityKey, Announced, AnnouncedKey, Backend, Counters, Flow, FlowKey, Fragment,
        FragmentKey, Inside, Service, ServiceKey, Settings, SocketFlow, SocketKey, Sources,
        Traffic, Watch,
    },
    wire::Addr,
};

/// An ABI value in a map. The wrapper is ours, so that aya's marker can be put on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Raw<T: Copy>(pub T);

macro_rules! pod {
    ($($abi:ty),+) => {$(
        // SAFETY: the ABI's derives (zerocopy's `FromBytes`, `IntoBytes`) refuse padding and invalid bit patterns.
        unsafe impl aya::Pod for Raw<$abi> {}
    )+};
}

pod!(
    Addr,
    Fragment,
    FragmentKey,
    Inside,
    Affinity,
    AffinityKey,
    Announced,
    AnnouncedKey,
    Backend,
    Counters,
    Flow,
    FlowKey,
    Service,
    ServiceKey,
    Settings,
    SocketFlow,
    SocketKey,
    Sources,
    Traffic,
    Watch
);
