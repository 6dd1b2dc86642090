//! The figures of one moment, read when they are asked for.

use std::{collections::BTreeSet, fmt};

use clusterip_common::abi::{Counters, Outcome, Traffic, maps};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};
use tokio::sync::watch;

use crate::{
    attachments::{Attachment, Attachments},
    dataplane::counters::CounterMaps,
    model::{
        object::ObjectName,
        service::{Action, Balancer as Balanced, ResolvedService},
    },
    plan::Placement,
    reconcile::Published,
};

/// Where the figures come from.
pub struct Figures {
    /// The model and its ids.
    pub published: watch::Receiver<Published>,
    /// The devices with hooks.
    pub attached: watch::Receiver<Option<Attachments>>,
    /// The kernel's counters.
    pub counters: CounterMaps,
    /// Capacities of the maps, by name.
    pub capacity: Vec<(&'static str, u32)>,
}

/// Under kube-proxy's name, by policy: services that a Local policy leaves without an endpoint here.
#[derive(Debug)]
pub(super) struct NoLocalEndpoints {
    pub(super) published: watch::Receiver<Published>,
}

impl Collector for NoLocalEndpoints {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.published.borrow().snapshot.clone();
        let dropping = |of: fn(&ResolvedService) -> &[Balanced]| {
            let services = snapshot.services.values();
            let drops = |it: &Balanced| it.action == Action::Drop;
            count(
                services
                    .filter(|service| of(service).iter().any(drops))
                    .count(),
            )
        };
        let (internal, external) = (
            dropping(|service| &service.balancers),
            dropping(|service| &service.external),
        );
        let help = "Services that a Local policy leaves without an endpoint on this node";
        let name = "sync_proxy_rules_no_local_endpoints_total";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (policy, services) in [("internal", internal), ("external", external)] {
            let labels = [("traffic_policy", policy)];
            metric
                .encode_family(&Labels(&labels))?
                .encode_gauge(&services)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Figures").finish_non_exhaustive()
    }
}

/// Labels in order; a slice of pairs, so that one type serves every metric.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// A balancer under the labels of its series.
struct Balancer<'a> {
    service: String,
    protocol: String,
    family: String,
    placement: &'a Placement,
}

impl<'a> Balancer<'a> {
    fn new(name: &ObjectName, placement: &'a Placement) -> Self {
        Self {
            service: name.to_string(),
            protocol: placement.protocol.to_string(),
            family: placement.family.to_string(),
            placement,
        }
    }

    fn labels(&self) -> [(&str, &str); 4] {
        [
            ("service", &self.service),
            ("port", &self.placement.port_name),
            ("protocol", &self.protocol),
            ("family", &self.family),
        ]
    }
}

/// A series of one family: its labels and its value.
type Series = (Vec<(String, String)>, u64);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A clone costs nothing; a borrow would hold up the reconciler while the kernel is read.
        let published = self.published.borrow().clone();
        let services = &published.index.services;
        let balancers: Vec<Balancer<'_>> = services
            .iter()
            .flat_map(|(name, places)| places.iter().map(|place| Balancer::new(name, place)))
            .collect();
        frontends(&mut encoder, &balancers)?;
        self.traffic(&mut encoder, &balancers)?;
        self.outcomes(&mut encoder)?;
        self.state(&mut encoder, &published)
    }
}

fn frontends(encoder: &mut DescriptorEncoder<'_>, balancers: &[Balancer<'_>]) -> fmt::Result {
    let help = "Addresses that services are called by; always 1";
    let mut metric = encoder.encode_descriptor("frontend_info", help, None, MetricType::Gauge)?;
    for balancer in balancers {
        for frontend in &balancer.placement.frontends {
            let (address, port) = (
                frontend.address.to_string(),
                frontend.port.get().to_string(),
            );
            let mut labels = balancer.labels().to_vec();
            labels.extend([("address", &*address), ("service_port", &*port)]);
            metric
                .encode_family(&Labels(&labels))?
                .encode_gauge(&1_u32)?;
        }
    }
    Ok(())
}

impl Figures {
    fn traffic(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        balancers: &[Balancer<'_>],
    ) -> fmt::Result {
        let (mut services, mut backends) = (Vec::new(), Vec::new());
        for balancer in balancers {
            let labels = balancer
                .labels()
                .map(|(key, value)| (key.to_owned(), value.to_owned()));
            match self.counters.service(balancer.placement.id) {
                Ok(counters) => services.push((labels.to_vec(), counters)),
                Err(error) => log::warn!(error:err; "counters of a service are left out"),
            }
            for (id, backend) in &balancer.placement.backends {
                let mut labels = labels.to_vec();
                labels.push(("backend".to_owned(), backend.to_string()));
                match self.counters.backend(*id) {
                    Ok(counters) => backends.push((labels, counters)),
                    Err(error) => log::warn!(error:err; "counters of a backend are left out"),
                }
            }
        }
        counters(encoder, "service", &services)?;
        counters(encoder, "backend", &backends)
    }

    fn outcomes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let (mut packets, mut bytes) = (Vec::new(), Vec::new());
        for outcome in Outcome::ALL {
            match self.counters.outcome(*outcome) {
                Ok(Traffic {
                    packets: count,
                    bytes: length,
                }) => {
                    let labels = vec![("outcome".to_owned(), outcome.name().to_owned())];
                    packets.push((labels.clone(), count));
                    bytes.push((labels, length));
                }
                Err(error) => log::warn!(error:err; "an outcome is left out"),
            }
        }
        family(
            encoder,
            "outcome_packets",
            "Packets by what became of them",
            &packets,
        )?;
        family(
            encoder,
            "outcome_bytes",
            "Bytes of packets by what became of them",
            &bytes,
        )
    }

    fn state(&self, encoder: &mut DescriptorEncoder<'_>, published: &Published) -> fmt::Result {
        let Published {
            snapshot,
            index,
            programmed,
            waiting,
            synced: _,
            resting: _,
            held: _,
            unanswered: _,
        } = published;
        let placed = index.services.values().flat_map(|places| places.iter());
        let (mut frontends, mut backends, mut addresses) = (0, 0, BTreeSet::new());
        for place in placed {
            frontends += place.frontends.len();
            backends += place.backends.len();
            addresses.extend(place.frontends.iter().map(|frontend| frontend.address));
        }
        let help = "Entries that a map has room for";
        let mut metric =
            encoder.encode_descriptor("map_capacity", help, None, MetricType::Gauge)?;
        for (map, entries) in &self.capacity {
            let labels = [("map", *map)];
            metric
                .encode_family(&Labels(&labels))?
                .encode_gauge(&i64::from(*entries))?;
        }
        let help = "Entries in use of the maps that the agent fills";
        let mut metric = encoder.encode_descriptor("map_entries", help, None, MetricType::Gauge)?;
        for (map, entries) in [
            (maps::SERVICES.name, frontends + addresses.len()),
            (maps::BACKENDS.name, backends),
        ] {
            let labels = [("map", map)];
            metric
                .encode_family(&Labels(&labels))?
                .encode_gauge(&count(entries))?;
        }
        let attached = self.attached.borrow().clone().unwrap_or_default();
        interfaces(encoder, &attached)?;
        let attached = attached.len();
        for (name, help, value) in [
            (
                "services",
                "Services of the source",
                count(snapshot.services.size()),
            ),
            (
                "services_waiting",
                "Services that do not fit into the maps",
                count(*waiting),
            ),
            (
                "problems",
                "Things that are wrong with the source's objects",
                count(snapshot.problems().len()),
            ),
            ("interfaces", "Devices with hooks", count(attached)),
            (
                "programmed",
                "Whether the maps hold what the source says",
                i64::from(*programmed),
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&value)?;
        }
        Ok(())
    }
}

fn interfaces(encoder: &mut DescriptorEncoder<'_>, attached: &Attachments) -> fmt::Result {
    let help = "How devices have their hooks; always 1";
    let mut metric = encoder.encode_descriptor("interface_info", help, None, MetricType::Gauge)?;
    for attachment in attached.values() {
        let Attachment {
            device,
            mode,
            at_driver,
        } = attachment;
        let (role, mode) = (device.role.to_string(), mode.to_string());
        let driver = if *at_driver { "xdp" } else { "" };
        let labels = [
            ("interface", &*device.name),
            ("role", &*role),
            ("mode", &*mode),
            ("driver", driver),
        ];
        metric
            .encode_family(&Labels(&labels))?
            .encode_gauge(&1_u32)?;
    }
    Ok(())
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    of: &str,
    all: &[(Vec<(String, String)>, Counters)],
) -> fmt::Result {
    let flows: Vec<Series> = all
        .iter()
        .map(|(labels, counters)| (labels.clone(), counters.flows))
        .collect();
    family(
        encoder,
        &format!("{of}_flows"),
        "Flows that were opened",
        &flows,
    )?;
    let directed = |figure: fn(&Traffic) -> u64| -> Vec<Series> {
        all.iter()
            .flat_map(
                |(
                    labels,
                    Counters {
                        requests,
                        replies,
                        flows: _,
                    },
                )| {
                    [("request", requests), ("reply", replies)].map(|(direction, traffic)| {
                        let mut labels = labels.clone();
                        labels.push(("direction".to_owned(), direction.to_owned()));
                        (labels, figure(traffic))
                    })
                },
            )
            .collect()
    };
    let packets = directed(|traffic| traffic.packets);
    family(
        encoder,
        &format!("{of}_packets"),
        "Packets that were translated",
        &packets,
    )?;
    let bytes = directed(|traffic| traffic.bytes);
    family(
        encoder,
        &format!("{of}_bytes"),
        "Bytes of packets that were translated",
        &bytes,
    )
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[Series],
) -> fmt::Result {
    let mut metric: MetricEncoder<'_> =
        encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|(key, value)| (&**key, &**value))
            .collect();
        let labels = Labels(&labels);
        let mut metric = metric.encode_family(&labels)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
    }
    Ok(())
}
