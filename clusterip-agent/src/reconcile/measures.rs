//! How long it takes until the dataplane follows, under kube-proxy's names, so that its dashboards work unchanged.

use std::{collections::BTreeSet, sync::atomic::AtomicU64, time::Duration};

use k8s_openapi::jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family as Labelled,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use super::Report;
use crate::{
    clock::Now,
    model::{
        event::Event,
        object::{Kind, Spec},
        service::Family,
    },
};

/// Changes whose time is remembered while they wait; beyond that they are written without being measured.
const MOST_TRIGGERS: usize = 4096;

type Seconds = Gauge<f64, AtomicU64>;
type Series<M> = Labelled<OfFamily, M, fn() -> M>;

/// Times and counts of the reconciler.
#[derive(Clone, Debug)]
pub struct Measures {
    all: Series<Histogram>,
    full: Series<Histogram>,
    partial: Series<Histogram>,
    latency: Series<Histogram>,
    last: Labelled<OfFamily, Seconds>,
    queued: Labelled<OfFamily, Seconds>,
    services: Changes,
    endpoints: Changes,
}

/// Objects that changed, and those of them that are not programmed yet.
#[derive(Clone, Debug, Default)]
struct Changes {
    total: Counter,
    pending: Gauge,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfFamily {
    ip_family: Name,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Name(Family);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.0.name(), encoder)
    }
}

const fn of(family: Family) -> OfFamily {
    OfFamily {
        ip_family: Name(family),
    }
}

fn sync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// 0.25, 0.5, 1 to 59 by one, 60 to 115 by five, 120 to 300 by thirty: kube-proxy's.
fn latency_buckets() -> Histogram {
    let seconds = (1..60)
        .chain((60..120).step_by(5))
        .chain((120..=300).step_by(30));
    Histogram::new([0.25, 0.5].into_iter().chain(seconds.map(f64::from)))
}

impl Default for Measures {
    fn default() -> Self {
        let syncs = || Labelled::new_with_constructor(sync_buckets as fn() -> Histogram);
        Self {
            all: syncs(),
            full: syncs(),
            partial: syncs(),
            latency: Labelled::new_with_constructor(latency_buckets as fn() -> Histogram),
            last: Labelled::default(),
            queued: Labelled::default(),
            services: Changes::default(),
            endpoints: Changes::default(),
        }
    }
}

impl Measures {
    /// Shows what of them is true of names too, which are answered as soon as the last write was made.
    pub fn register_names(&self, registry: &mut Registry) {
        registry.register(
            "kubernetes_dns_programming_duration_seconds",
            "Time from a change, as the slice or the file has it, until names lead to it",
            self.latency.clone(),
        );
    }

    /// Shows them; the registry gives the prefix.
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            all,
            full,
            partial,
            latency,
            last,
            queued,
            services,
            endpoints,
        } = self;
        for (name, help, series) in [
            (
                "sync_proxy_rules_duration_seconds",
                "Time that writes took, from the events to the last write",
                all,
            ),
            (
                "sync_full_proxy_rules_duration_seconds",
                "The same, when the whole of the dataplane was compared",
                full,
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                "The same, when changed services were written only",
                partial,
            ),
            (
                "network_programming_duration_seconds",
                "Time from a change, as the slice or the file has it, to the last write",
                latency,
            ),
        ] {
            registry.register(name, help, series.clone());
        }
        for (name, help, series) in [
            (
                "sync_proxy_rules_last_timestamp_seconds",
                "When everything was last written",
                last,
            ),
            (
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When an update came last",
                queued,
            ),
        ] {
            registry.register(name, help, series.clone());
        }
        for (what, Changes { total, pending }) in [("service", services), ("endpoint", endpoints)] {
            let name = format!("sync_proxy_rules_{what}_changes");
            let help = format!("Changes of {what} objects");
            registry.register(name.clone(), help.clone(), total.clone());
            let help = format!("{help} that are not written yet");
            registry.register(format!("{name}_pending"), help, pending.clone());
        }
    }

    pub(super) fn queued(&self, events: &[Event], now: Now) {
        for family in [Family::V4, Family::V6] {
            let gauge = self.queued.get_or_create(&of(family));
            gauge.set(seconds(now.wall));
        }
        for event in events {
            let kind = match event {
                Event::Put(object) => object.key.kind,
                Event::Remove(key) => key.kind,
                Event::Reset
                | Event::Synced
                | Event::Problems(_)
                | Event::Changed(_)
                | Event::Machine(_)
                | Event::Conflicts(_)
                | Event::Unprovided(_) => continue,
            };
            let changes = match kind {
                Kind::Service => &self.services,
                Kind::EndpointSlice | Kind::Pod => &self.endpoints,
                Kind::Namespace | Kind::Node => continue,
            };
            changes.total.inc();
            changes.pending.inc();
        }
    }

    /// A step that wrote or compared something has ended.
    pub(super) fn stepped(&self, report: &Report, took: Duration) {
        let both = BTreeSet::from([Family::V4, Family::V6]);
        let families = if report.is_full {
            &both
        } else {
            &report.families
        };
        let kind = if report.is_full {
            &self.full
        } else {
            &self.partial
        };
        for family in families {
            for series in [&self.all, kind] {
                let histogram = series.get_or_create(&of(*family));
                histogram.observe(took.as_secs_f64());
            }
        }
    }

    /// Everything is written; `triggers` waited for it.
    pub(super) fn written(&self, triggers: &mut Triggers, now: Now) {
        for family in [Family::V4, Family::V6] {
            self.last.get_or_create(&of(family)).set(seconds(now.wall));
        }
        self.services.pending.set(0);
        self.endpoints.pending.set(0);
        for (family, wait) in triggers.take(now.wall) {
            self.latency.get_or_create(&of(family)).observe(wait);
        }
    }
}

#[cfg(test)]
impl Measures {
    /// With a figure in each series.
    pub(crate) fn sampled() -> Self {
        let measures = Self::default();
        let Self {
            all,
            full,
            partial,
            latency,
            last,
            queued,
            services: _,
            endpoints: _,
        } = &measures;
        for series in [all, full, partial, latency] {
            series.get_or_create(&of(Family::V4)).observe(1.0);
        }
        for series in [last, queued] {
            series.get_or_create(&of(Family::V4)).set(1.0);
        }
        measures
    }
}

/// Seconds since 1970.
fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

/// Times of changes that are not written yet.
#[derive(Debug)]
pub(super) struct Triggers {
    /// What is older was there before the agent, and says nothing of it.
    since: Timestamp,
    times: Vec<Timestamp>,
    families: BTreeSet<Family>,
}

impl Triggers {
    pub(super) const fn new(since: Timestamp) -> Self {
        Self {
            since,
            times: Vec::new(),
            families: BTreeSet::new(),
        }
    }

    pub(super) fn take_in(&mut self, events: &[Event]) {
        let times = events.iter().filter_map(trigger);
        let is_measured = |time: &Timestamp| *time >= self.since;
        let room = MOST_TRIGGERS.saturating_sub(self.times.len());
        self.times.extend(times.filter(is_measured).take(room));
    }

    /// The families that what waits is of, as far as is known by now.
    pub(super) fn touch(&mut self, families: &BTreeSet<Family>) {
        self.families.extend(families);
    }

    /// All of them, in seconds until now; none for a family of which nothing was written.
    fn take(&mut self, now: Timestamp) -> Vec<(Family, f64)> {
        let (times, families) = (
            std::mem::take(&mut self.times),
            std::mem::take(&mut self.families),
        );
        let waits = times
            .into_iter()
            // A clock that was set back does not make it negative.
            .map(|time| now.duration_since(time).as_secs_f64().max(0.0));
        waits
            .flat_map(|wait| families.iter().map(move |family| (*family, wait)))
            .collect()
    }
}

/// When the change behind an event happened.
fn trigger(event: &Event) -> Option<Timestamp> {
    match event {
        Event::Changed(time) => Some(*time),
        Event::Put(object) => match &object.spec {
            Spec::EndpointSlice(slice) => slice.changed,
            Spec::Namespace(_) | Spec::Node(_) | Spec::Service(_) | Spec::Pod(_) => None,
        },
        Event::Reset
        | Event::Remove(_)
        | Event::Synced
        | Event::Problems(_)
        | Event::Machine(_)
        | Event::Conflicts(_)
        | Event::Unprovided(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        object::Object,
        objects_for_tests::{put, slice},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// A slice that was last changed then.
    fn changed(text: &str) -> Event {
        let mut object: Object = slice("web", "web", &["10.1.0.1"]);
        if let Spec::EndpointSlice(slice) = &mut object.spec {
            let slice = Arc::make_mut(slice);
            (slice.says_when, slice.changed) = (true, text.parse().ok());
        }
        put(object)
    }

    /// F8
    #[test]
    fn latency_counts_from_the_change_to_the_last_write() {
        let mut triggers = Triggers::new(at(0));
        triggers.take_in(&[
            changed(&at(3).to_string()),
            Event::Changed(at(5)),
            // Before the agent was there, and not a time.
            changed(&at(-1).to_string()),
            changed("yesterday"),
            put(slice("other", "web", &["10.1.0.2"])),
        ]);
        triggers.touch(&BTreeSet::from([Family::V4]));
        let waits = triggers.take(at(10));
        assert_eq!(waits, [(Family::V4, 7.0), (Family::V4, 5.0)]);
        assert_eq!(triggers.take(at(20)), [], "each is measured once");
        triggers.take_in(&[Event::Changed(at(30))]);
        triggers.touch(&BTreeSet::from([Family::V6]));
        assert_eq!(triggers.take(at(29)), [(Family::V6, 0.0)]);
        triggers.take_in(&[Event::Changed(at(30))]);
        assert_eq!(triggers.take(at(31)), [], "nothing was written for it");
    }

    #[test]
    fn the_names_are_those_of_kube_proxy() {
        let measures = Measures::default();
        let now = Now {
            elapsed: Duration::ZERO,
            wall: at(7),
        };
        measures.queued(&[changed("")], now);
        let report = Report {
            families: BTreeSet::from([Family::V6]),
            ..Report::default()
        };
        measures.stepped(&report, Duration::from_millis(3));
        let mut triggers = Triggers::new(at(0));
        triggers.take_in(&[Event::Changed(at(5))]);
        triggers.touch(&report.families);
        measures.written(&mut triggers, now);
        let mut registry = Registry::with_prefix("kubeproxy");
        measures.register(&mut registry);
        measures.register_names(registry.sub_registry_with_prefix("names"));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"kubeproxy_sync_proxy_rules_duration_seconds_bucket{le="0.004",ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv6"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="2.0",ip_family="IPv6"} 1"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="1.0",ip_family="IPv6"} 0"#,
            r#"kubeproxy_network_programming_duration_seconds_bucket{le="300.0",ip_family="IPv6"} 1"#,
            r#"kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1800000007.0"#,
            r#"kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"} 1800000007.0"#,
            r#"kubeproxy_names_kubernetes_dns_programming_duration_seconds_bucket{le="2.0",ip_family="IPv6"} 1"#,
            "kubeproxy_sync_proxy_rules_endpoint_changes_total 1",
            "kubeproxy_sync_proxy_rules_endpoint_changes_pending 0",
            "kubeproxy_sync_proxy_rules_service_changes_total 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
