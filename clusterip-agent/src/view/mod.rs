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
pub mod lookup;
mod names;
pub mod near;
pub mod services;
pub mod status;

use clusterip_common::abi::{BackendId, Counters, ServiceId};
use serde::{Deserialize, Serialize};

pub use self::names::Names;
use crate::model::object::ObjectName;

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
