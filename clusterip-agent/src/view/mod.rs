//! What the agent shows: documents made of the snapshot, the ids in the maps and what the kernel counts.
//!
//! Pure functions of values; `api` reads what they need and hands them out, the commands read them. Each document
//! has a `version`, and a schema in `docs/schemas/`. Adding a field is free, changing one needs a new version.

pub mod affinity;
pub mod allocations;
pub mod endpoints;
pub mod event;
pub mod flows;
pub mod interfaces;
pub mod listing;
pub mod lookup;
mod names;
pub mod near;
pub mod services;
pub mod status;

use clusterip_common::abi::{BackendId, Counters, ServiceId, Settings};
use serde::{Deserialize, Serialize};

pub use self::names::Names;
use crate::{model::object::ObjectName, plan::Placement, reconcile::Published};

/// Version of the documents.
pub const VERSION: u32 = 1;

/// Which services are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Of this namespace only.
    pub namespace: Option<String>,
    /// Of this name only.
    pub name: Option<String>,
}

impl Selection {
    /// Whether a service is wanted.
    #[must_use]
    pub fn has(&self, service: &ObjectName) -> bool {
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.namespace, &service.namespace) && is(&self.name, &service.name)
    }

    /// Where the wanted services are in the maps.
    fn places<'a>(
        &self,
        published: &'a Published,
    ) -> impl Iterator<Item = (&'a ObjectName, &'a Placement)> {
        let all = published.index.services.iter();
        let wanted = all.filter(|(name, _)| self.has(name));
        wanted.flat_map(|(name, places)| places.iter().map(move |place| (name, place)))
    }
}

/// How many balancers and backends there are, and the highest of their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// How many balancers.
    pub services: usize,
    /// The last one's id.
    pub last_service: Option<ServiceId>,
    /// How many backends.
    pub backends: usize,
    /// The last one's id.
    pub last_backend: Option<BackendId>,
}

impl Extent {
    /// Of the services of a selection.
    #[must_use]
    pub fn of(published: &Published, selection: &Selection) -> Self {
        let mut extent = Self::default();
        for (_, place) in selection.places(published) {
            extent.services += 1;
            extent.last_service = extent.last_service.max(Some(place.id));
            extent.backends += place.backends.len();
            let ids = place.backends.iter().map(|(id, _)| *id);
            extent.last_backend = extent.last_backend.max(ids.max());
        }
        extent
    }

    /// Where backends are not looked at.
    #[must_use]
    pub const fn without_backends(self) -> Self {
        Self {
            backends: 0,
            last_backend: None,
            ..self
        }
    }
}

/// When flows are looked at, and how long they live.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Nanoseconds of the clock that flows are stamped with.
    pub now: u64,
    /// As the program has them.
    pub settings: &'a Settings,
}

/// The kernel's counters; None where one cannot be read.
pub trait Readings {
    /// What went through a service.
    fn service(&self, id: ServiceId) -> Option<Counters>;

    /// What went through a backend.
    fn backend(&self, id: BackendId) -> Option<Counters>;
}

/// When things were seen first.
#[derive(Clone, Copy, Debug)]
pub struct Clock<'a> {
    /// Now, in seconds since 1970.
    pub now: i64,
    /// When the agent saw a service first, in seconds since 1970.
    pub first_seen: &'a dyn FirstSeen,
}

/// When the agent saw a service first.
pub trait FirstSeen: std::fmt::Debug {
    /// In seconds since 1970; None if it is not known.
    fn first_seen(&self, service: &ObjectName) -> Option<i64>;
}

impl Clock<'_> {
    /// For how many seconds a service has been there: since it was created if its object says so, else since it was seen.
    #[must_use]
    pub fn age(&self, service: &ObjectName, created: Option<i64>) -> u64 {
        let since = created.or_else(|| self.first_seen.first_seen(service));
        u64::try_from(self.now - since.unwrap_or(self.now)).unwrap_or_default()
    }
}

/// Packets, bytes and flows since the service or backend got its place in the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Flows that were opened.
    pub flows: u64,
    /// Packets from clients.
    pub request_packets: u64,
    /// Their bytes.
    pub request_bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
}

impl From<Counters> for Traffic {
    fn from(counters: Counters) -> Self {
        let Counters {
            requests,
            replies,
            flows,
        } = counters;
        Self {
            flows,
            request_packets: requests.packets,
            request_bytes: requests.bytes,
            reply_packets: replies.packets,
            reply_bytes: replies.bytes,
        }
    }
}

impl Traffic {
    /// Both directions.
    #[must_use]
    pub const fn packets(&self) -> u64 {
        self.request_packets.saturating_add(self.reply_packets)
    }

    /// Both directions.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.request_bytes.saturating_add(self.reply_bytes)
    }

    /// What came since an earlier reading; nothing if the counters began anew.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            flows: self.flows.saturating_sub(earlier.flows),
            request_packets: self.request_packets.saturating_sub(earlier.request_packets),
            request_bytes: self.request_bytes.saturating_sub(earlier.request_bytes),
            reply_packets: self.reply_packets.saturating_sub(earlier.reply_packets),
            reply_bytes: self.reply_bytes.saturating_sub(earlier.reply_bytes),
        }
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        let Self {
            flows,
            request_packets,
            request_bytes,
            reply_packets,
            reply_bytes,
        } = other;
        self.flows = self.flows.saturating_add(flows);
        self.request_packets = self.request_packets.saturating_add(request_packets);
        self.request_bytes = self.request_bytes.saturating_add(request_bytes);
        self.reply_packets = self.reply_packets.saturating_add(reply_packets);
        self.reply_bytes = self.reply_bytes.saturating_add(reply_bytes);
    }
}
