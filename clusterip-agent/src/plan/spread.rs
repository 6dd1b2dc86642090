//! Which backends stand in the slots of a run, how often, and in what order.

use clusterip_common::wire::{Addr, Be16};

use super::maglev;
use crate::model::service::Algorithm;

/// As long as a run gets by weights. Where one slot for each backend is longer than that, weights do not count.
pub const LONGEST_BY_WEIGHT: usize = 4096;

/// What a backend shall have of the flows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Where it is, which is also who it is.
    pub target: (Addr, Be16),
    /// Its part, 1 or more, in relation to the others'.
    pub weight: u32,
}

/// The runs that will do, each as indices of the shares, the best one first. The others are shorter and less exact, for
/// want of room; the last has one slot for each share, or is the shortest table.
#[must_use]
pub fn runs(algorithm: Algorithm, shares: &[Share]) -> Box<dyn Iterator<Item = Vec<usize>> + '_> {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::Random => {
            let weights = reduced(shares);
            let least = shares.len();
            let total = weights.iter().map(|weight| *weight as usize).sum::<usize>();
            let first = total.min(LONGEST_BY_WEIGHT.max(least));
            let bounds = std::iter::successors(Some(first), move |bound| {
                (*bound > least).then(|| (bound / 2).max(least))
            });
            Box::new(bounds.map(move |bound| smooth(&bounded(&weights, bound))))
        }
        Algorithm::Maglev if maglev::sizes(shares.len()).next().is_some() && !shares.is_empty() => {
            Box::new(maglev::sizes(shares.len()).map(|size| maglev::table(shares, size)))
        }
        Algorithm::Maglev | Algorithm::LeastConnections => {
            Box::new(std::iter::once((0..shares.len()).collect()))
        }
    }
}

/// A run of that very length, for want of room for a better one: indices of the shares. Where it is too short for all,
/// the first ones have it.
#[must_use]
pub fn within(algorithm: Algorithm, shares: &[Share], length: u32) -> Vec<usize> {
    if algorithm == Algorithm::Maglev && maglev::SIZES.contains(&length) {
        let table = maglev::table(shares, length);
        if !table.is_empty() {
            return table;
        }
    }
    (0..shares.len()).cycle().take(length as usize).collect()
}

/// Weights without their common divisor.
fn reduced(shares: &[Share]) -> Vec<u32> {
    let divisor = shares
        .iter()
        .fold(0, |divisor, share| common_divisor(divisor, share.weight))
        .max(1);
    shares
        .iter()
        .map(|share| (share.weight / divisor).max(1))
        .collect()
}

const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Weights whose sum is at most `bound`, which is at least their number: each keeps one, and what there is beyond that
/// is cut in proportion.
fn bounded(weights: &[u32], bound: usize) -> Vec<u32> {
    let count = weights.len() as u64;
    let beyond = |total: u64| total.saturating_sub(count);
    let has = beyond(weights.iter().copied().map(u64::from).sum());
    let may = beyond(bound as u64);
    if has <= may {
        return weights.to_vec();
    }
    weights
        .iter()
        .map(|weight| {
            let extra = u64::from(weight.saturating_sub(1)) * may / has;
            u32::try_from(extra).unwrap_or(u32::MAX).saturating_add(1)
        })
        .collect()
}

/// Each index as often as its weight says, as evenly interleaved as nginx does it: all gain their weight, the richest has
/// the turn and pays the total; of equals the first.
fn smooth(weights: &[u32]) -> Vec<usize> {
    if weights.iter().all(|weight| *weight == 1) {
        return (0..weights.len()).collect();
    }
    let total: i64 = weights.iter().copied().map(i64::from).sum();
    let mut credits = vec![0_i64; weights.len()];
    let mut run = Vec::new();
    for _ in 0..total {
        let mut richest: Option<(usize, i64)> = None;
        for (index, (credit, weight)) in credits.iter_mut().zip(weights).enumerate() {
            *credit += i64::from(*weight);
            if richest.is_none_or(|(_, most)| *credit > most) {
                richest = Some((index, *credit));
            }
        }
        if let Some((index, _)) = richest {
            if let Some(credit) = credits.get_mut(index) {
                *credit -= total;
            }
            run.push(index);
        }
    }
    run
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::repeatable::config;

    fn shares(weights: &[u32]) -> Vec<Share> {
        (0..)
            .zip(weights)
            .map(|(port, weight)| Share {
                target: (Addr::v4([10, 1, 0, 1]), Be16::new(port)),
                weight: *weight,
            })
            .collect()
    }

    fn best(algorithm: Algorithm, weights: &[u32]) -> Vec<usize> {
        runs(algorithm, &shares(weights)).next().unwrap()
    }

    fn counts(run: &[usize], of: usize) -> Vec<usize> {
        (0..of)
            .map(|index| run.iter().filter(|it| **it == index).count())
            .collect()
    }

    #[test]
    fn b2_weights_are_interleaved_as_nginx_does_it() {
        // The example of nginx's commit 52327e0627f4, "Upstream: smooth weighted round-robin balancing".
        assert_eq!(
            best(Algorithm::RoundRobin, &[5, 1, 1]),
            [0, 0, 1, 0, 2, 0, 0]
        );
    }

    #[test]
    fn b2_weights_have_no_common_divisor() {
        assert_eq!(best(Algorithm::RoundRobin, &[20, 10]), [0, 1, 0]);
        assert_eq!(best(Algorithm::Random, &[100, 100, 100]), [0, 1, 2]);
    }

    #[test]
    fn b2_least_connections_knows_no_weights() {
        assert_eq!(best(Algorithm::LeastConnections, &[5, 1]), [0, 1]);
    }

    #[test]
    fn no_backend_is_an_empty_run() {
        for algorithm in Algorithm::ALL {
            let all: Vec<_> = runs(algorithm, &[]).collect();
            assert_eq!(all, [Vec::<usize>::new()], "{algorithm:?}");
        }
    }

    #[test]
    fn a_run_of_a_given_length_has_everybody_as_far_as_that_goes() {
        let run = |algorithm, length| within(algorithm, &shares(&[3, 1]), length);
        assert_eq!(run(Algorithm::RoundRobin, 5), [0, 1, 0, 1, 0]);
        assert_eq!(run(Algorithm::RoundRobin, 1), [0]);
        assert_eq!(
            run(Algorithm::Maglev, 13),
            maglev::table(&shares(&[3, 1]), 13)
        );
        assert_eq!(run(Algorithm::Maglev, 1), [0]);
        assert!(within(Algorithm::RoundRobin, &[], 5).is_empty());
    }

    #[test]
    fn a_run_that_is_too_long_gets_shorter_down_to_one_slot_each() {
        let lengths = |algorithm| -> Vec<usize> {
            runs(algorithm, &shares(&[9, 1]))
                .map(|run| run.len())
                .collect()
        };
        assert_eq!(lengths(Algorithm::RoundRobin), [10, 5, 2]);
        assert_eq!(lengths(Algorithm::Maglev), [251, 127, 61, 31, 13]);
        assert_eq!(lengths(Algorithm::LeastConnections), [2]);
        // Between 97 and 100 of 5000 there is hardly a common divisor.
        let weights: Vec<u32> = (0..5000).map(|index| 97 + index % 4).collect();
        assert_eq!(best(Algorithm::RoundRobin, &weights).len(), 5000);
        let length = best(Algorithm::RoundRobin, &weights[..100]).len();
        assert!((LONGEST_BY_WEIGHT - 100..=LONGEST_BY_WEIGHT).contains(&length));
    }

    proptest! {
        #![proptest_config(config(256))]

        #[test]
        fn b2_every_run_has_each_backend_by_its_weight(weights in prop::collection::vec(1..=100_u32, 1..40)) {
            let total: u32 = weights.iter().sum();
            let run = best(Algorithm::RoundRobin, &weights);
            let counts = counts(&run, weights.len());
            for (count, weight) in counts.iter().zip(&weights) {
                let share = *weight as usize * run.len();
                prop_assert!((count * total as usize).abs_diff(share) <= total as usize * weights.len());
            }
            for run in runs(Algorithm::RoundRobin, &shares(&weights)) {
                let missing = (0..weights.len()).find(|index| !run.contains(index));
                prop_assert_eq!(missing, None);
            }
        }

        #[test]
        fn b2_no_stretch_of_a_run_is_far_from_the_weights(weights in prop::collection::vec(1..=9_u32, 2..5)) {
            let run = best(Algorithm::RoundRobin, &weights);
            let all = counts(&run, weights.len());
            for end in 1..=run.len() {
                for (index, count) in counts(&run[..end], weights.len()).into_iter().enumerate() {
                    let fair = all[index] * end;
                    prop_assert!((count * run.len()).abs_diff(fair) <= 2 * run.len(), "{:?}", run);
                }
            }
        }
    }
}
