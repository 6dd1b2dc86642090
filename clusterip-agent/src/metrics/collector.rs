//! The figures of one moment, read when they are asked for.

use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clusterip_common::{
    abi::{Counters, Outcome, Traffic, maps},
    packet::Exit,
};
use tokio::sync::watch;

use super::{
    catalog,
    text::{Family, Metric, Page, labels, write_labels},
};
use crate::{
    attachments::{Attachment, Attachments},
    census::{Census, Count},
    dataplane::{
        counters::{CounterMaps, Swept},
        ways::Exits,
    },
    interfaces::Devices,
    model::{facts::TrafficPolicy, object::ObjectName},
    plan::Placement,
    reconcile::Published,
    view::{Extent, Selection, status::AgentFacts},
};

/// How old a count of the flow tables may be. To make one is to read all of them, and systems ask every 15 s or so.
const COUNTED: Duration = Duration::from_secs(10);

/// Where the figures come from.
pub struct Figures {
    /// The model and its ids.
    pub published: watch::Receiver<Published>,
    /// The devices that should have hooks.
    pub wanted: watch::Receiver<Option<Devices>>,
    /// The devices with hooks.
    pub attached: watch::Receiver<Option<Attachments>>,
    /// The kernel's counters.
    pub counters: CounterMaps,
    /// The tables that the program fills.
    pub census: Arc<Census>,
    /// Capacities of the maps, by name.
    pub capacity: Vec<(&'static str, u32)>,
    /// The ways on, where there is a choice.
    pub exits: Option<Exits>,
    /// How many addresses of the pool are announced.
    pub announced: Arc<AtomicUsize>,
    /// Whether each backend has series of its own.
    pub per_backend: bool,
    /// Versions.
    pub facts: AgentFacts,
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// A balancer, and the labels of its series.
struct Balancer<'a> {
    name: &'a ObjectName,
    placement: &'a Placement,
    labels: String,
}

impl<'a> Balancer<'a> {
    fn new(name: &'a ObjectName, placement: &'a Placement, all: &[Placement]) -> Self {
        let Placement {
            port_name,
            protocol,
            family,
            policy,
            ..
        } = placement;
        let known: [(&str, &dyn Display); 5] = [
            ("service", name),
            ("port", port_name),
            ("protocol", protocol),
            ("family", family),
            ("policy", &"Local"),
        ];
        // Else the two views of a port would be one series.
        let is_other = |it: &Placement| {
            it.policy != *policy
                && (&it.port_name, it.protocol, it.family) == (port_name, *protocol, *family)
        };
        let has_policy = *policy == TrafficPolicy::Local && all.iter().any(is_other);
        let count = if has_policy { 5 } else { 4 };
        let labels = labels(known.get(..count).unwrap_or(&known));
        Self {
            name,
            placement,
            labels,
        }
    }
}

/// What one service or backend counts.
struct Row<'a> {
    service: &'a str,
    backend: Option<&'a str>,
    counters: Counters,
    active: u64,
}

impl<'a> Row<'a> {
    fn labels(&self) -> impl Iterator<Item = &'a str> {
        iter::once(self.service).chain(self.backend)
    }
}

impl Figures {
    /// All series of this program's own. Reads the kernel's maps: not for the runtime's threads.
    pub(super) fn write(&self, page: &mut Page) {
        // A clone costs nothing; a borrow would hold up the reconciler while the kernel is read.
        let published = self.published.borrow().clone();
        let services = &published.index.services;
        let balancers: Vec<Balancer<'_>> = services
            .iter()
            .flat_map(|(name, places)| {
                let of = |place| Balancer::new(name, place, places);
                places.iter().map(of)
            })
            .collect();
        let count = match self.census.of_last(COUNTED) {
            Ok(count) => Some(count),
            Err(error) => {
                log::warn!(error:err; "flows are not counted");
                None
            }
        };
        self.build(page);
        frontends(page, &balancers);
        endpoints(page, &published, &balancers);
        self.traffic(page, &published, &balancers, count.as_deref());
        self.outcomes(page);
        self.exits(page);
        self.maps(page, &published, count.as_deref());
        self.devices(page);
        let announced = self.announced.load(Ordering::Relaxed);
        page.family(&catalog::ANNOUNCED).add([], announced);
        state(page, &published);
    }

    fn build(&self, page: &mut Page) {
        let AgentFacts {
            version,
            abi,
            kernel,
            ..
        } = &self.facts;
        let of = [
            ("version", version as &dyn Display),
            ("abi", abi),
            ("kernel", kernel),
        ];
        page.family(&catalog::BUILD).add([&*labels(&of)], 1_u64);
    }

    fn traffic(
        &self,
        page: &mut Page,
        published: &Published,
        balancers: &[Balancer<'_>],
        count: Option<&Count>,
    ) {
        let extent = Extent::of(published, &Selection::default());
        let last_backend = extent.last_backend.filter(|_| self.per_backend);
        let swept = self.counters.sweep(extent.last_service, last_backend);
        let rows = of_services(balancers, &swept, count);
        let [flows, active, packets, bytes] = [
            &catalog::SERVICE_FLOWS,
            &catalog::SERVICE_ACTIVE,
            &catalog::SERVICE_PACKETS,
            &catalog::SERVICE_BYTES,
        ];
        tell(page, [flows, active, packets, bytes], &rows);
        if !self.per_backend {
            return;
        }
        let names = Names::of(balancers);
        let rows = of_backends(balancers, &names, &swept, count);
        let [flows, active, packets, bytes] = [
            &catalog::BACKEND_FLOWS,
            &catalog::BACKEND_ACTIVE,
            &catalog::BACKEND_PACKETS,
            &catalog::BACKEND_BYTES,
        ];
        tell(page, [flows, active, packets, bytes], &rows);
    }

    fn outcomes(&self, page: &mut Page) {
        let mut all: Vec<(String, Traffic)> = Vec::new();
        for outcome in Outcome::ALL {
            match self.counters.outcome(*outcome) {
                Ok(traffic) => all.push((labels(&[("outcome", &outcome.name())]), traffic)),
                Err(error) => log::warn!(error:err; "an outcome is left out"),
            }
        }
        let mut family = page.family(&catalog::OUTCOME_PACKETS);
        for (labels, traffic) in &all {
            family.add([labels.as_str()], traffic.packets);
        }
        let mut family = page.family(&catalog::OUTCOME_BYTES);
        for (labels, traffic) in &all {
            family.add([labels.as_str()], traffic.bytes);
        }
    }

    fn exits(&self, page: &mut Page) {
        let mut all: Vec<(String, Traffic)> = Vec::new();
        if let Some(exits) = &self.exits {
            for exit in Exit::ALL {
                match exits.of(*exit) {
                    Ok(traffic) => all.push((labels(&[("way", &exit.name())]), traffic)),
                    Err(error) => log::warn!(error:err; "a way is left out"),
                }
            }
        }
        let mut family = page.family(&catalog::FORWARDED_PACKETS);
        for (labels, traffic) in &all {
            family.add([labels.as_str()], traffic.packets);
        }
        let mut family = page.family(&catalog::FORWARDED_BYTES);
        for (labels, traffic) in &all {
            family.add([labels.as_str()], traffic.bytes);
        }
    }

    fn maps(&self, page: &mut Page, published: &Published, count: Option<&Count>) {
        let of = |map: &str| labels(&[("map", &map)]);
        let mut family = page.family(&catalog::MAP_CAPACITY);
        for (map, entries) in &self.capacity {
            family.add([&*of(map)], *entries);
        }
        let mut used = held(published).to_vec();
        used.extend(count.iter().flat_map(|count| count.entries.iter().copied()));
        let mut family = page.family(&catalog::MAP_ENTRIES);
        for (map, entries) in &used {
            family.add([&*of(map)], *entries);
        }
        let mut family = page.family(&catalog::MAP_PRESSURE);
        for (map, entries) in &used {
            let found = self.capacity.iter().find(|(name, _)| name == map);
            if let Some((_, capacity)) = found {
                family.add([&*of(map)], ratio(*entries, *capacity));
            }
        }
    }

    fn devices(&self, page: &mut Page) {
        let attached = self.attached.borrow().clone().unwrap_or_default();
        let mut family = page.family(&catalog::INTERFACE);
        for attachment in attached.values() {
            let Attachment {
                device,
                mode,
                at_driver,
            } = attachment;
            let of = [
                ("interface", &device.name as &dyn Display),
                ("role", &device.role),
                ("mode", mode),
                ("driver", if at_driver.is_there() { &"xdp" } else { &"" }),
            ];
            family.add([&*labels(&of)], 1_u64);
        }
        page.family(&catalog::INTERFACES).add([], attached.len());
        let wanted = self.wanted.borrow().clone().unwrap_or_default();
        let missing = wanted.keys().filter(|index| !attached.contains_key(index));
        page.family(&catalog::UNATTACHED).add([], missing.count());
    }
}

fn of_services<'a>(
    balancers: &'a [Balancer<'_>],
    swept: &Swept<'_>,
    count: Option<&Count>,
) -> Vec<Row<'a>> {
    let row = |balancer: &'a Balancer<'_>| {
        let backends = balancer.placement.backends.iter();
        let active = count.map_or(0, |count| {
            backends.map(|(id, _)| count.flows.of(*id).active).sum()
        });
        match swept.service(balancer.placement.id) {
            Ok(counters) => Some(Row {
                service: &balancer.labels,
                backend: None,
                counters,
                active,
            }),
            Err(error) => {
                log::warn!(error:err; "counters of a service are left out");
                None
            }
        }
    };
    balancers.iter().filter_map(row).collect()
}

/// Labels of backends, in the order of their balancers: one text, because some ten thousand are made for each scrape.
struct Names {
    text: String,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Names {
    fn of(balancers: &[Balancer<'_>]) -> Self {
        let mut names = Self {
            text: String::new(),
            ends: Vec::new(),
        };
        for (_, backend) in balancers.iter().flat_map(|it| &it.placement.backends) {
            write_labels(&mut names.text, &[("backend", backend)]);
            names.ends.push(names.text.len());
        }
        names
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = iter::once(0).chain(self.ends.iter().copied());
        let each = starts.zip(&self.ends);
        each.filter_map(|(start, end)| self.text.get(start..*end))
    }
}

/// `names` are labels of the backends, in the order of their balancers.
fn of_backends<'a>(
    balancers: &'a [Balancer<'_>],
    names: &'a Names,
    swept: &Swept<'_>,
    count: Option<&Count>,
) -> Vec<Row<'a>> {
    let all = balancers.iter().flat_map(|balancer| {
        let ids = balancer.placement.backends.iter().map(|(id, _)| *id);
        ids.map(move |id| (&balancer.labels, id))
    });
    let row = |((labels, id), name): ((&'a String, _), &'a str)| match swept.backend(id) {
        Ok(counters) => Some(Row {
            service: labels,
            backend: Some(name),
            counters,
            active: count.map_or(0, |count| count.flows.of(id).active),
        }),
        Err(error) => {
            log::warn!(error:err; "counters of a backend are left out");
            None
        }
    };
    all.zip(names.iter()).filter_map(row).collect()
}

/// Flows, active flows, packets and bytes.
fn tell(page: &mut Page, [flows, active, packets, bytes]: [&Metric; 4], rows: &[Row<'_>]) {
    let mut family = page.family(flows);
    for row in rows {
        family.add(row.labels(), row.counters.flows);
    }
    let mut family = page.family(active);
    for row in rows {
        family.add(row.labels(), row.active);
    }
    ways(page.family(packets), rows, |traffic| traffic.packets);
    ways(page.family(bytes), rows, |traffic| traffic.bytes);
}

fn ways(mut family: Family<'_>, rows: &[Row<'_>], figure: impl Fn(&Traffic) -> u64) {
    const REQUEST: &str = "direction=\"request\"";
    const REPLY: &str = "direction=\"reply\"";
    for row in rows {
        let Counters {
            requests,
            replies,
            flows: _,
        } = &row.counters;
        for (way, traffic) in [(REQUEST, requests), (REPLY, replies)] {
            family.add(row.labels().chain([way]), figure(traffic));
        }
    }
}

fn frontends(page: &mut Page, balancers: &[Balancer<'_>]) {
    let mut family = page.family(&catalog::FRONTENDS);
    for balancer in balancers {
        for (address, port) in balancer.placement.called() {
            let of = [
                ("address", &address as &dyn Display),
                ("service_port", &port.get()),
            ];
            family.add([&*balancer.labels, &labels(&of)], 1_u64);
        }
    }
}

fn endpoints(page: &mut Page, published: &Published, balancers: &[Balancer<'_>]) {
    let mut family = page.family(&catalog::ENDPOINTS);
    // Both are by name.
    let mut services = published.snapshot.services.iter().peekable();
    for balancer in balancers {
        while services
            .next_if(|(name, _)| *name < balancer.name)
            .is_some()
        {}
        let service = services.peek().filter(|(name, _)| *name == balancer.name);
        let mut ports = service
            .into_iter()
            .flat_map(|(_, service)| service.balancers.iter().chain(&service.external));
        let Placement {
            port_name,
            protocol,
            family: of_family,
            policy,
            ..
        } = balancer.placement;
        let found = ports.find(|it| {
            (&it.port_name, it.protocol, it.family, it.policy)
                == (port_name, *protocol, *of_family, *policy)
        });
        if let Some(port) = found {
            let (chosen, listed) = (port.chosen().count(), port.endpoints.len());
            family.add([&*balancer.labels, "state=\"chosen\""], chosen);
            family.add([&*balancer.labels, "state=\"listed\""], listed);
        }
    }
}

/// What the maps that the agent fills hold.
fn held(published: &Published) -> [(&'static str, u64); 2] {
    let (mut frontends, mut backends, mut addresses) = (0, 0, BTreeSet::new());
    for place in published.index.services.values().flat_map(|all| all.iter()) {
        frontends += place.frontends.len();
        backends += place.backends.len();
        addresses.extend(place.cluster_addresses());
    }
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    [
        (maps::SERVICES.name, number(frontends + addresses.len())),
        (maps::BACKENDS.name, number(backends)),
    ]
}

/// In thousandths.
fn ratio(entries: u64, capacity: u32) -> f64 {
    let thousandths = entries.saturating_mul(1000) / u64::from(capacity.max(1));
    f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1000.0
}

fn state(page: &mut Page, published: &Published) {
    let Published {
        snapshot,
        index: _,
        programmed,
        waiting,
        synced,
        resting: _,
        unkept,
        held: _,
        unanswered: _,
    } = published;
    for (metric, value) in [
        (&catalog::SERVICES, snapshot.services.size()),
        (&catalog::WAITING, *waiting),
        (&catalog::PROBLEMS, snapshot.problems().len()),
        (&catalog::SYNCED, usize::from(*synced)),
        (&catalog::PROGRAMMED, usize::from(*programmed)),
        (&catalog::UNKEPT, usize::from(*unkept)),
    ] {
        page.family(metric).add([], value);
    }
}
