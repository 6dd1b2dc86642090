//! How requests are spread over backends.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
};

use clusterip_tests::{Pod, client};

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

/// UDP flows that are open at once: a port that is used again would be the same flow again.
pub(crate) fn udp_flows(from: &Pod, to: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    from.run(|| (0..count).map(|_| client::udp_flow(to)).collect())
}

/// Who answers a datagram on each flow, in their order.
pub(crate) fn udp_answers(flows: &[UdpSocket]) -> io::Result<Vec<String>> {
    flows
        .iter()
        .map(|flow| client::udp_ask(flow, "hello"))
        .collect()
}

/// Counts answers that are there already.
pub(crate) fn count(answers: &[String]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for pod in answers {
        *counts.entry(pod.clone()).or_default() += 1;
    }
    counts
}
