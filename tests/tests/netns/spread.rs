//! How requests are spread over backends.

use std::{collections::BTreeMap, io};

/// Counts answers by pod.
pub(crate) fn tally(
    count: usize,
    mut ask: impl FnMut() -> io::Result<String>,
) -> io::Result<BTreeMap<String, usize>> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        *tally.entry(ask()?).or_default() += 1;
    }
    Ok(tally)
}

/// B1: the counts of `backends` backends differ by at most 1.
pub(crate) fn assert_even(tally: &BTreeMap<String, usize>, backends: usize) {
    assert_eq!(tally.len(), backends, "every backend answers: {tally:?}");
    let (most, least) = (tally.values().max(), tally.values().min());
    let apart = most.zip(least).map(|(most, least)| most - least);
    assert!(
        apart <= Some(1),
        "B1: counts differ by at most 1: {tally:?}"
    );
}
