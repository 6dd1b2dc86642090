//! Figures of the cache and of the upstreams.

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use hickory_proto::op::ResponseCode;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType};

use super::{
    CODE_NAMES, CODES, Histogram, Labels, NANOSECONDS, TIME_BOUNDS, TIMES, code_place, counter,
    histogram::Sums, server_label,
};
use crate::dns::forward::{Forwarder, Kind};

/// What became of questions to the cache.
#[derive(Default, Debug)]
pub struct CacheFigures {
    success: AtomicU64,
    denial: AtomicU64,
    misses: AtomicU64,
    stale: AtomicU64,
    prefetch: AtomicU64,
}

impl CacheFigures {
    /// A reply was there.
    pub fn hit(&self, kind: Kind) {
        let figure = match kind {
            Kind::Success => &self.success,
            Kind::Denial => &self.denial,
        };
        figure.fetch_add(1, Relaxed);
    }

    /// None was there.
    pub fn miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// An expired one was given.
    pub fn stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    /// How many were fetched again before they expired.
    #[must_use]
    pub fn prefetched(&self) -> u64 {
        self.prefetch.load(Relaxed)
    }

    /// One was fetched again before it expired.
    pub fn prefetch(&self) {
        self.prefetch.fetch_add(1, Relaxed);
    }
}

/// What an upstream was asked and how it answered.
#[derive(Default, Debug)]
pub struct UpstreamFigures {
    requests: AtomicU64,
    by_code: [Histogram<TIMES>; CODES],
    failed_checks: AtomicU64,
}

impl UpstreamFigures {
    /// It is being asked.
    pub fn ask(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// It answered.
    pub fn answer(&self, code: ResponseCode, time: Duration) {
        if let Some(histogram) = self.by_code.get(code_place(code)) {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            histogram.observe(time, &TIME_BOUNDS);
        }
    }

    /// It did not answer a check of its health.
    pub fn fail_check(&self) {
        self.failed_checks.fetch_add(1, Relaxed);
    }

    /// Questions it was asked.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

/// The figures of a forwarder, read when they are asked for.
#[derive(Clone, Debug)]
pub struct ForwardFigures {
    forwarder: Forwarder,
    server: String,
}

impl Collector for ForwardFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.cache(&mut encoder)?;
        self.upstreams(&mut encoder)
    }
}

impl ForwardFigures {
    /// The figures of a server that listens there.
    #[must_use]
    pub fn new(forwarder: Forwarder, listen: &[SocketAddr]) -> Self {
        Self {
            forwarder,
            server: server_label(listen),
        }
    }

    fn cache(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let server = ("server", &*self.server);
        let zones = ("zones", ".");
        let fill = self.forwarder.fill();
        let success = [server, ("type", "success"), zones];
        let denial = [server, ("type", "denial"), zones];
        let entries = [(&success, fill.success), (&denial, fill.denial)];
        let help = "Replies of upstreams that are kept";
        let mut metric =
            encoder.encode_descriptor("cache_entries", help, None, MetricType::Gauge)?;
        for (labels, number) in entries {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            metric
                .encode_family(&Labels(labels))?
                .encode_gauge(&number)?;
        }
        let help = "Bytes of the replies that are kept";
        let mut metric = encoder.encode_descriptor("cache_bytes", help, None, MetricType::Gauge)?;
        let bytes = i64::try_from(fill.bytes).unwrap_or(i64::MAX);
        metric
            .encode_family(&Labels(&[server]))?
            .encode_gauge(&bytes)?;

        let CacheFigures {
            success: hits,
            denial: denials,
            misses,
            stale,
            prefetch,
        } = self.forwarder.cache_figures();
        let plain: &[(&str, &str)] = &[server, zones];
        let load = |figure: &AtomicU64| figure.load(Relaxed);
        counter(
            encoder,
            "cache_hits",
            "Questions that a kept reply answered",
            &[(&success, load(hits)), (&denial, load(denials))],
        )?;
        for (name, help, value) in [
            (
                "cache_misses",
                "Questions that no kept reply answered",
                load(misses),
            ),
            (
                "cache_served_stale",
                "Questions that an expired reply answered",
                load(stale),
            ),
            (
                "cache_prefetch",
                "Replies that were fetched again before they expired",
                load(prefetch),
            ),
            (
                "cache_evictions",
                "Replies that were thrown out for want of room",
                fill.evicted,
            ),
        ] {
            counter(encoder, name, help, &[(plain, value)])?;
        }
        Ok(())
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let upstreams = self.forwarder.upstreams();
        let addresses: Vec<String> = upstreams
            .iter()
            .map(|upstream| upstream.address().to_string())
            .collect();
        let upstreams = || {
            addresses
                .iter()
                .zip(&upstreams)
                .map(|(address, upstream)| (&**address, upstream.figures()))
        };
        let by_address = |figure: fn(&UpstreamFigures) -> u64| {
            upstreams()
                .map(|(address, figures)| ([("to", address)], figure(figures)))
                .collect::<Vec<_>>()
        };
        for (name, help, figure) in [
            (
                "forward_requests",
                "Questions that upstreams were asked",
                UpstreamFigures::requests as fn(&UpstreamFigures) -> u64,
            ),
            (
                "forward_healthcheck_failures",
                "Checks that upstreams did not answer while they rested",
                |figures: &UpstreamFigures| figures.failed_checks.load(Relaxed),
            ),
        ] {
            let series = by_address(figure);
            let series: Vec<(&[(&str, &str)], u64)> = series
                .iter()
                .map(|(labels, value)| (&labels[..], *value))
                .collect();
            counter(encoder, name, help, &series)?;
        }
        let answered: Vec<(&str, &str, Sums<TIMES>)> = upstreams()
            .flat_map(|(address, figures)| {
                let by_code = CODE_NAMES.iter().zip(&figures.by_code);
                by_code.map(move |(code, times)| (address, *code, Sums::of(times)))
            })
            .filter(|(_, _, times)| times.count() > 0)
            .collect();
        let labels: Vec<[(&str, &str); 2]> = answered
            .iter()
            .map(|(address, code, _)| [("to", *address), ("rcode", *code)])
            .collect();
        let series: Vec<(&[(&str, &str)], u64)> = labels
            .iter()
            .zip(&answered)
            .map(|(labels, (_, _, times))| (&labels[..], times.count()))
            .collect();
        counter(
            encoder,
            "forward_responses",
            "Answers of upstreams",
            &series,
        )?;
        let help = "How long upstreams took to answer, in seconds";
        let name = "forward_request_duration_seconds";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, (_, _, times)) in labels.iter().zip(&answered) {
            times.encode(&mut metric, labels, &TIME_BOUNDS, NANOSECONDS)?;
        }
        Ok(())
    }
}
