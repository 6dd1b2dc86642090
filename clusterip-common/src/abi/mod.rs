//! Map keys and values: the layout that is pinned, and that an agent and a program of different age share.
//!
//! Everything here is plain bytes without padding (the derives refuse padding). A change of any of it needs a new
//! [`VERSION`].

/// Declares a number with a meaning: an id, a place, a state. A map may hold any value, hence no enums.
macro_rules! number {
    ($(#[$doc:meta])+ $name:ident($inner:ty)) => {
        $(#[$doc])+
        #[derive(
            Clone,
            Copy,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            Debug,
            Default,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
        )]
        #[repr(transparent)]
        pub struct $name(pub $inner);
    };
}

pub mod affinity;
pub mod backend;
pub mod counters;
pub mod endpoint;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod inside;
pub mod maps;
pub mod node;
pub mod outcome;
pub mod service;
pub mod settings;
pub mod socket;

pub use affinity::{Affinity, AffinityKey};
pub use backend::{Backend, BackendId, BackendState};
pub use counters::{Counters, Traffic};
pub use event::{Event, EventHook, EventKind, Watch};
pub use flow::{Direction, Flow, FlowKey, FlowState};
pub use fragment::{Fragment, FragmentKey};
pub use inside::{Inside, InsideKey};
pub use node::{Announced, AnnouncedKey, NodePlace, Sources, SourcesKey};
pub use outcome::Outcome;
pub use service::{Algorithm, Scope, Service, ServiceFlags, ServiceId, ServiceKey, SlotIndex};
pub use settings::{Range, Settings};
pub use socket::{SocketFlow, SocketKey};

/// Version of the pinned layout; part of the pin path.
pub const VERSION: u32 = 3;

/// Versions whose maps can be taken over: those of the same name and shape mean the same there; the others begin
/// empty. Pins of any other version are left alone.
pub const READABLE: [u32; 2] = [1, 2];
