//! Counts of figures by size, without a lock.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use prometheus_client::encoding::{MetricEncoder, NoLabelSet};

use super::Labels;

/// Counts by size, with `N` buckets whose upper bounds are a constant of the caller's.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// By bucket; not added up.
    buckets: [AtomicU64; N],
    /// Beyond the last bucket.
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a figure: in a bucket if it is at most its bound. Bounds ascend.
    pub fn observe(&self, figure: u64, bounds: &[u64; N]) {
        let place = bounds.partition_point(|bound| *bound < figure);
        let bucket = self.buckets.get(place).unwrap_or(&self.beyond);
        bucket.fetch_add(1, Relaxed);
        self.sum.fetch_add(figure, Relaxed);
    }

    /// Adds what it has to `sums`.
    pub(super) fn add_to(&self, sums: &mut Sums<N>) {
        for (sum, bucket) in sums.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
        sums.beyond += self.beyond.load(Relaxed);
        sums.sum += self.sum.load(Relaxed);
    }
}

/// What histograms have, together.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sums<const N: usize> {
    buckets: [u64; N],
    beyond: u64,
    sum: u64,
}

impl<const N: usize> Sums<N> {
    pub(super) const EMPTY: Self = Self {
        buckets: [0; N],
        beyond: 0,
        sum: 0,
    };

    pub(super) fn of(histogram: &Histogram<N>) -> Self {
        let mut sums = Self::EMPTY;
        histogram.add_to(&mut sums);
        sums
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.beyond
    }

    /// Writes a series. `scale` figures are one unit.
    pub(super) fn encode(
        &self,
        metric: &mut MetricEncoder<'_>,
        labels: &[(&str, &str)],
        bounds: &[u64; N],
        scale: f64,
    ) -> fmt::Result {
        let in_units = |figure: u64| to_float(figure) / scale;
        let mut buckets: Vec<(f64, u64)> = bounds
            .iter()
            .map(|bound| in_units(*bound))
            .zip(self.buckets)
            .collect();
        buckets.push((f64::INFINITY, self.beyond));
        metric
            .encode_family(&Labels(labels))?
            .encode_histogram::<NoLabelSet>(in_units(self.sum), self.count(), &buckets, None)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure of a metric has 52 bits of precision, as all of Prometheus' have"
)]
pub(super) const fn to_float(figure: u64) -> f64 {
    figure as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_in_the_first_bucket_that_holds_it() {
        let bounds = [10, 20];
        let histogram = Histogram::default();
        for figure in [0, 10, 11, 20, 21, 1000] {
            histogram.observe(figure, &bounds);
        }
        let sums = Sums::of(&histogram);
        assert_eq!((sums.buckets, sums.beyond, sums.sum), ([2, 2], 2, 1062));
        assert_eq!(sums.count(), 6);
    }
}
