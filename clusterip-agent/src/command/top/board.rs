//! What was read, and how the user wants to see it. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::view::{
    Selection, Traffic,
    endpoints::{EndpointView, Endpoints},
    services::{Service, Services},
    status::Status,
};

/// Rates that are kept for a sparkline.
const HISTORY: usize = 16;

/// What is read at once.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) services: Services,
    /// Whose endpoints were read.
    pub(super) open: Option<Selection>,
    pub(super) endpoints: Endpoints,
}

/// By what services are sorted, the most first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Order {
    #[default]
    Packets,
    Bytes,
    Flows,
    Name,
}

impl Order {
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Packets => Self::Bytes,
            Self::Bytes => Self::Flows,
            Self::Flows => Self::Name,
            Self::Name => Self::Packets,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Packets => "packets",
            Self::Bytes => "bytes",
            Self::Flows => "flows",
            Self::Name => "name",
        }
    }
}

/// A service and its rates.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    pub(super) name: String,
    pub(super) service: &'a Service,
    /// In a second.
    pub(super) rate: Traffic,
    /// Packets in a second, the newest last.
    pub(super) history: Vec<u64>,
}

/// Everything that the screen is made of.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) now: Reading,
    rates: BTreeMap<String, Traffic>,
    histories: BTreeMap<String, VecDeque<u64>>,
    /// Packets in a second, by outcome.
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) order: Order,
    pub(super) filter: String,
    pub(super) is_typing: bool,
    pub(super) is_open: bool,
    pub(super) selected: usize,
    /// Why the last reading failed.
    pub(super) trouble: Option<String>,
}

fn name_of(service: &Service) -> String {
    format!("{}/{}", service.namespace, service.name)
}

fn per_second(count: u64, millis: u64) -> u64 {
    count.saturating_mul(1000) / millis.max(1)
}

impl Board {
    pub(super) const fn new(first: Reading) -> Self {
        Self {
            now: first,
            rates: BTreeMap::new(),
            histories: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            order: Order::Packets,
            filter: String::new(),
            is_typing: false,
            is_open: false,
            selected: 0,
            trouble: None,
        }
    }

    /// Takes the next reading in.
    pub(super) fn take(&mut self, next: Reading) {
        let elapsed = next.at.saturating_duration_since(self.now.at).as_millis();
        let millis = u64::try_from(elapsed).unwrap_or(u64::MAX);
        let before: BTreeMap<String, Traffic> = self
            .now
            .services
            .services
            .iter()
            .map(|service| (name_of(service), service.traffic))
            .collect();
        self.rates.clear();
        for service in &next.services.services {
            let name = name_of(service);
            let earlier = before.get(&name).copied().unwrap_or_default();
            let came = service.traffic.since(&earlier);
            let rate = Traffic {
                flows: per_second(came.flows, millis),
                request_packets: per_second(came.request_packets, millis),
                request_bytes: per_second(came.request_bytes, millis),
                reply_packets: per_second(came.reply_packets, millis),
                reply_bytes: per_second(came.reply_bytes, millis),
            };
            let history = self.histories.entry(name.clone()).or_default();
            history.push_back(rate.packets());
            while history.len() > HISTORY {
                history.pop_front();
            }
            self.rates.insert(name, rate);
        }
        let rates = &self.rates;
        self.histories.retain(|name, _| rates.contains_key(name));
        let count = |status: &Status, outcome: &str| {
            let mut all = status.outcomes.iter();
            all.find(|it| it.outcome == outcome)
                .map_or(0, |it| it.packets)
        };
        self.outcomes = next
            .status
            .outcomes
            .iter()
            .map(|it| {
                let before = count(&self.now.status, &it.outcome);
                let came = it.packets.saturating_sub(before);
                (it.outcome.clone(), per_second(came, millis))
            })
            .collect();
        self.now = next;
        self.trouble = None;
        self.select(0);
    }

    /// The services that are wanted, in their order.
    pub(super) fn rows(&self) -> Vec<Row<'_>> {
        let all = self.now.services.services.iter();
        let mut rows: Vec<Row<'_>> = all
            .map(|service| {
                let name = name_of(service);
                let history = self.histories.get(&name);
                Row {
                    service,
                    rate: self.rates.get(&name).copied().unwrap_or_default(),
                    history: history.into_iter().flatten().copied().collect(),
                    name,
                }
            })
            .filter(|row| row.name.contains(&self.filter))
            .collect();
        rows.sort_by_key(|row| {
            let figure = match self.order {
                Order::Packets => row.rate.packets(),
                Order::Bytes => row.rate.bytes(),
                Order::Flows => row.rate.flows,
                Order::Name => 0,
            };
            (std::cmp::Reverse(figure), row.name.clone())
        });
        rows
    }

    /// All services together.
    pub(super) fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        for rate in self.rates.values() {
            total += *rate;
        }
        total
    }

    /// The endpoints of a service.
    pub(super) fn endpoints(&self, service: &Service) -> Vec<&EndpointView> {
        let all = self.now.endpoints.endpoints.iter();
        all.filter(|it| it.namespace == service.namespace && it.service == service.name)
            .collect()
    }

    /// The service that is open.
    pub(super) fn opened(&self) -> Option<Selection> {
        let rows = self.rows();
        let row = rows.get(self.selected).filter(|_| self.is_open)?;
        Some(Selection {
            namespace: Some(row.service.namespace.clone()),
            name: Some(row.service.name.clone()),
        })
    }

    /// Whether a service is open whose endpoints were not read: to be done at once.
    pub(super) fn has_opened(&self) -> bool {
        self.opened()
            .is_some_and(|open| self.now.open != Some(open))
    }

    /// Moves the selection.
    pub(super) fn select(&mut self, by: isize) {
        let last = self.rows().len().saturating_sub(1);
        self.selected = self.selected.saturating_add_signed(by).min(last);
    }
}
