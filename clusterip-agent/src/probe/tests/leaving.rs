//! Pods that terminate while one agent follows another (I4, F4).

use super::*;
use crate::probe::Leavers;

/// An agent's clock that stands at 0 at that second of the day's.
fn now(start: i64, seconds: u64) -> Now {
    let day = start + i64::try_from(seconds).unwrap();
    Now {
        elapsed: Duration::from_secs(seconds),
        wall: Timestamp::from_second(day).unwrap(),
    }
}

fn listing(pods: &[&Object]) -> Vec<Event> {
    let puts = pods.iter().map(|pod| put(pod));
    let all = std::iter::once(Event::Reset).chain(puts);
    all.chain([Event::Synced]).collect()
}

/// What a first agent leaves: the file of a pod with 30 seconds to go went away 10 seconds after its start.
fn left() -> (Object, Leavers) {
    let web = pod_with("web", json!({}), json!({ "nodeName": NODE }), json!({}));
    let mut first = Pods::new(NODE, Results::default());
    first.take(listing(&[&web]), now(1000, 0));
    assert!(first.leaving().is_empty());
    first.take(vec![Event::Remove(web.key.clone())], now(1000, 10));
    (web, first.leaving().clone())
}

fn next(leaving: Leavers) -> Pods {
    Pods::new(NODE, Results::default()).after(leaving)
}

#[test]
fn i4_a_pod_that_terminates_does_so_over_a_restart() {
    let (_, leaving) = left();
    let mut second = next(leaving.clone());
    let told = second.take(listing(&[]), now(1015, 0));
    assert_eq!(one(&told), "- terminating");
    assert_eq!(
        told.last(),
        Some(&Event::Synced),
        "as a part of the listing"
    );
    assert_eq!(*second.leaving(), leaving, "for the agent after it");
    // Another listing of the same agent.
    assert_eq!(
        one(&second.take(listing(&[]), now(1015, 5))),
        "- terminating"
    );
    assert_eq!(second.expire(now(1015, 24)), []);
    assert_eq!(one(&second.expire(now(1015, 25))), "gone");
    assert!(second.leaving().is_empty());
    assert_eq!(second.next(), None);
}

#[test]
fn i4_a_pod_that_is_back_or_whose_time_is_over_does_not_terminate() {
    let (web, leaving) = left();
    let mut back = next(leaving.clone());
    assert_eq!(one(&back.take(listing(&[&web]), now(1015, 0))), "-");
    assert!(back.leaving().is_empty());
    let mut late = next(leaving);
    assert_eq!(one(&late.take(listing(&[]), now(1040, 0))), "");
    assert!(late.leaving().is_empty());
}

#[test]
fn i4_a_clock_that_was_set_back_gives_a_pod_its_grace_period_and_no_more() {
    let (_, leaving) = left();
    let mut second = next(leaving);
    second.take(listing(&[]), now(-5_000_000, 0));
    assert_eq!(second.next(), Some(Duration::from_secs(30)));
}
