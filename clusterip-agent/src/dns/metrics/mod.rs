//! What the resolver tells monitoring systems, under `CoreDNS`'s names, so that its dashboards work.

mod forwarding;
mod histogram;
mod served;

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeLabelSet, LabelSetEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Registry,
};

pub use forwarding::{CacheFigures, ForwardFigures, UpstreamFigures};
pub use histogram::Histogram;
use served::server_label;
pub use served::{Exchanged, Served};

/// All that the resolver tells.
#[derive(Debug)]
pub struct Names {
    /// The questions of clients.
    pub served: Served,
    /// Cache and upstreams.
    pub forwarded: ForwardFigures,
}

impl Names {
    /// Adds them to a registry, whose prefix is to be `coredns`.
    pub fn register(self, registry: &mut Registry) {
        let Self { served, forwarded } = self;
        registry.register_collector(Box::new(served));
        registry.register_collector(Box::new(forwarded));
    }
}

/// Labels in order.
struct Labels<'a>(&'a [(&'a str, &'a str)]);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// Buckets of a time.
pub(super) const TIMES: usize = 16;

/// Upper bounds of the buckets of a time, in nanoseconds: from a quarter of a millisecond to 8 s, each twice the one
/// before (`CoreDNS`'s `TimeBuckets`).
pub(super) const TIME_BOUNDS: [u64; TIMES] = {
    let mut bounds = [0; TIMES];
    let (mut rest, mut bound): (&mut [u64], u64) = (&mut bounds, 250_000);
    while let [first, others @ ..] = rest {
        *first = bound;
        bound *= 2;
        rest = others;
    }
    bounds
};

/// Nanoseconds in a second.
pub(super) const NANOSECONDS: f64 = 1e9;

/// Response codes that are told apart.
pub(super) const CODES: usize = 7;

/// `CoreDNS`'s words for the response codes that are told apart; the last stands for all others.
pub(super) const CODE_NAMES: [&str; CODES] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "OTHER",
];

/// The place of a response code in [`CODE_NAMES`].
pub(super) fn code_place(code: hickory_proto::op::ResponseCode) -> usize {
    usize::from(u16::from(code)).min(CODES - 1)
}

/// Writes a counter with its series.
fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &[(&[(&str, &str)], u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        let labels = Labels(labels);
        let mut metric = metric.encode_family(&labels)?;
        metric.encode_counter::<NoLabelSet, u64, u64>(value, None)?;
    }
    Ok(())
}
