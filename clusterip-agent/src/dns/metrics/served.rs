//! Figures of the questions that clients ask: counted without a lock, and apart for the threads that count.

use std::{
    cell::Cell,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::{
    CODE_NAMES, CODES, Histogram, NANOSECONDS, TIME_BOUNDS, TIMES, code_place, counter,
    histogram::Sums,
};

/// Types that are told apart.
const TYPES: [RecordType; 13] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::ANY,
    RecordType::CNAME,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NS,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::SVCB,
    RecordType::TXT,
    RecordType::DS,
];
/// All other types.
const OTHER: &str = "other";
const KINDS: usize = TYPES.len() + 1;

const SIZES: usize = 14;
/// Upper bounds of the buckets of a message's size, in bytes (`CoreDNS`'s).
const SIZE_BOUNDS: [u64; SIZES] = [
    0, 100, 200, 300, 400, 511, 1_023, 2_047, 4_095, 8_291, 16_000, 32_000, 48_000, 64_000,
];

/// `CoreDNS`'s words for protocols.
const PROTOCOLS: [&str; 2] = ["udp", "tcp"];
/// `CoreDNS`'s words for IPv4 and IPv6.
const FAMILIES: [&str; 2] = ["1", "2"];
/// Our zone, and all others.
const ZONES: usize = 2;
/// Threads that count apart.
const STRIPES: usize = 8;

/// A question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    /// The name is one of our zone's.
    pub is_own: bool,
    /// It came over TCP.
    pub is_tcp: bool,
    /// Who asked.
    pub client: IpAddr,
    /// The type that was asked for.
    pub kind: RecordType,
    /// The answer's code.
    pub code: ResponseCode,
    /// Bytes of the question.
    pub asked: usize,
    /// Bytes of the answer.
    pub answered: usize,
    /// From the one to the other.
    pub time: Duration,
}

/// What one group of threads counted. Aligned so that two never share a line of the processor's cache.
#[derive(Default, Debug)]
#[repr(align(128))]
struct Stripe {
    zones: [OfZone; ZONES],
}

#[derive(Default, Debug)]
struct OfZone {
    /// By protocol, family and type.
    requests: [[[AtomicU64; KINDS]; FAMILIES.len()]; PROTOCOLS.len()],
    responses: [AtomicU64; CODES],
    times: Histogram<TIMES>,
    /// By protocol.
    asked: [Histogram<SIZES>; PROTOCOLS.len()],
    answered: [Histogram<SIZES>; PROTOCOLS.len()],
}

/// The questions of clients. Cloning gives another handle of the same counts.
#[derive(Clone, Debug)]
pub struct Served {
    stripes: Arc<[Stripe; STRIPES]>,
    server: Arc<str>,
    domain: Arc<str>,
}

thread_local! {
    /// Where this thread counts, once it has done so.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Threads that have counted so far.
static THREADS: AtomicUsize = AtomicUsize::new(0);

fn place() -> usize {
    PLACE.with(|place| {
        place.get().unwrap_or_else(|| {
            let own = THREADS.fetch_add(1, Relaxed) % STRIPES;
            place.set(Some(own));
            own
        })
    })
}

impl Served {
    /// Nothing counted yet. `domain` is the zone's name, with its final dot.
    #[must_use]
    pub fn new(listen: &[SocketAddr], domain: &str) -> Self {
        Self {
            stripes: Arc::default(),
            server: server_label(listen).into(),
            domain: domain.into(),
        }
    }

    /// Counts one.
    pub fn count(&self, exchanged: &Exchanged) {
        let Exchanged {
            is_own,
            is_tcp,
            client,
            kind,
            code,
            asked,
            answered,
            time,
        } = *exchanged;
        let Some(OfZone {
            requests,
            responses,
            times,
            asked: asked_sizes,
            answered: answered_sizes,
        }) = self
            .stripes
            .get(place())
            .and_then(|stripe| stripe.zones.get(usize::from(!is_own)))
        else {
            return;
        };
        let protocol = usize::from(is_tcp);
        let family = usize::from(client.to_canonical().is_ipv6());
        let kind = TYPES.iter().position(|known| *known == kind);
        let request = requests
            .get(protocol)
            .and_then(|families| families.get(family))
            .and_then(|kinds| kinds.get(kind.unwrap_or(TYPES.len())));
        for figure in [request, responses.get(code_place(code))]
            .into_iter()
            .flatten()
        {
            figure.fetch_add(1, Relaxed);
        }
        times.observe(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            &TIME_BOUNDS,
        );
        for (sizes, size) in [(asked_sizes, asked), (answered_sizes, answered)] {
            if let Some(histogram) = sizes.get(protocol) {
                histogram.observe(size as u64, &SIZE_BOUNDS);
            }
        }
    }

    /// The zones with their names.
    fn zones(&self) -> [(&str, usize); ZONES] {
        [(&self.domain, 0), (".", 1)]
    }

    /// What all threads counted in a zone.
    fn of(&self, zone: usize) -> impl Iterator<Item = &OfZone> {
        self.stripes
            .iter()
            .filter_map(move |stripe| stripe.zones.get(zone))
    }
}

/// `CoreDNS`'s name of a server: where it listens.
pub(super) fn server_label(listen: &[SocketAddr]) -> String {
    match listen.first() {
        Some(address) => format!("dns://{address}"),
        None => "dns://".to_owned(),
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

impl Collector for Served {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.responses(&mut encoder)?;
        self.times(&mut encoder)?;
        let help = "Sizes of questions, in bytes";
        self.sizes(&mut encoder, "dns_request_size_bytes", help, |zone| {
            &zone.asked
        })?;
        let help = "Sizes of answers, in bytes";
        self.sizes(&mut encoder, "dns_response_size_bytes", help, |zone| {
            &zone.answered
        })
    }
}

impl Served {
    fn labels<'a>(&'a self, zone: &'a str) -> Labels<'a> {
        vec![("server", &*self.server), ("zone", zone), ("view", "")]
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kinds: Vec<String> = TYPES
            .iter()
            .map(ToString::to_string)
            .chain([OTHER.to_owned()])
            .collect();
        let mut series: Vec<(Labels<'_>, u64)> = Vec::new();
        for (name, zone) in self.zones() {
            for (protocol, protocol_name) in PROTOCOLS.iter().enumerate() {
                for (family, family_name) in FAMILIES.iter().enumerate() {
                    for (kind, kind_name) in kinds.iter().enumerate() {
                        let figure = |zone: &OfZone| {
                            let families = zone.requests.get(protocol)?;
                            let figure = families.get(family)?.get(kind)?;
                            Some(figure.load(Relaxed))
                        };
                        let count: u64 = self.of(zone).filter_map(figure).sum();
                        if count > 0 {
                            let mut labels = self.labels(name);
                            labels.extend([
                                ("proto", *protocol_name),
                                ("family", *family_name),
                                ("type", &**kind_name),
                            ]);
                            series.push((labels, count));
                        }
                    }
                }
            }
        }
        write(encoder, "dns_requests", "Questions of clients", &series)
    }

    fn responses(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut series: Vec<(Labels<'_>, u64)> = Vec::new();
        for (name, zone) in self.zones() {
            for (place, code) in CODE_NAMES.iter().enumerate() {
                let figures = self.of(zone).filter_map(|zone| zone.responses.get(place));
                let count: u64 = figures.map(|figure| figure.load(Relaxed)).sum();
                if count > 0 {
                    let mut labels = self.labels(name);
                    labels.push(("rcode", code));
                    series.push((labels, count));
                }
            }
        }
        write(encoder, "dns_responses", "Answers to clients", &series)
    }

    fn times(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "From a client's question to its answer, in seconds";
        let name = "dns_request_duration_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (name, zone) in self.zones() {
            let mut sums = Sums::EMPTY;
            for zone in self.of(zone) {
                zone.times.add_to(&mut sums);
            }
            if sums.count() > 0 {
                sums.encode(&mut metric, &self.labels(name), &TIME_BOUNDS, NANOSECONDS)?;
            }
        }
        Ok(())
    }

    fn sizes(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        metric: &str,
        help: &str,
        sizes: fn(&OfZone) -> &[Histogram<SIZES>; PROTOCOLS.len()],
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(metric, help, None, MetricType::Histogram)?;
        for (name, zone) in self.zones() {
            for (place, protocol) in PROTOCOLS.iter().enumerate() {
                let mut sums = Sums::EMPTY;
                for histogram in self.of(zone).filter_map(|zone| sizes(zone).get(place)) {
                    histogram.add_to(&mut sums);
                }
                if sums.count() > 0 {
                    let mut labels = self.labels(name);
                    labels.push(("proto", protocol));
                    sums.encode(&mut metric, &labels, &SIZE_BOUNDS, 1.0)?;
                }
            }
        }
        Ok(())
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(Labels<'_>, u64)],
) -> fmt::Result {
    let series: Vec<(&[(&str, &str)], u64)> = series
        .iter()
        .map(|(labels, count)| (&labels[..], *count))
        .collect();
    counter(encoder, name, help, &series)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use prometheus_client::{encoding::text::encode, registry::Registry};

    use super::*;

    fn exchanged(client: &str) -> Exchanged {
        Exchanged {
            is_own: true,
            is_tcp: false,
            client: client.parse().unwrap(),
            kind: RecordType::A,
            code: ResponseCode::NoError,
            asked: 60,
            answered: 120,
            time: Duration::from_micros(300),
        }
    }

    #[test]
    fn what_all_threads_count_is_one_series_with_the_names_of_coredns() {
        let listen = ["169.254.20.10:53".parse().unwrap()];
        let served = Served::new(&listen, "cluster.local.");
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for client in ["10.244.0.2", "::ffff:10.244.0.2", "fd00::2"] {
                        served.count(&exchanged(client));
                    }
                });
            }
        });
        served.count(&Exchanged {
            is_own: false,
            is_tcp: true,
            kind: RecordType::CAA,
            code: ResponseCode::BADVERS,
            ..exchanged("10.244.0.2")
        });
        let mut registry = Registry::with_prefix("coredns");
        registry.register_collector(Box::new(served));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let own = "server=\"dns://169.254.20.10:53\",zone=\"cluster.local.\",view=\"\"";
        let outside = "server=\"dns://169.254.20.10:53\",zone=\".\",view=\"\"";
        for line in [
            format!("coredns_dns_requests_total{{{own},proto=\"udp\",family=\"1\",type=\"A\"}} 20"),
            format!("coredns_dns_requests_total{{{own},proto=\"udp\",family=\"2\",type=\"A\"}} 10"),
            format!(
                "coredns_dns_requests_total{{{outside},proto=\"tcp\",family=\"1\",type=\"other\"}} 1"
            ),
            format!("coredns_dns_responses_total{{{own},rcode=\"NOERROR\"}} 30"),
            format!("coredns_dns_responses_total{{{outside},rcode=\"OTHER\"}} 1"),
            format!("coredns_dns_request_duration_seconds_count{{{own}}} 30"),
            format!("coredns_dns_request_duration_seconds_bucket{{le=\"0.00025\",{own}}} 0"),
            format!("coredns_dns_request_duration_seconds_bucket{{le=\"0.0005\",{own}}} 30"),
            format!("coredns_dns_request_size_bytes_bucket{{le=\"100.0\",{own},proto=\"udp\"}} 30"),
            format!("coredns_dns_response_size_bytes_sum{{{outside},proto=\"tcp\"}} 120.0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
