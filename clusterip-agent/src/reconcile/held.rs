//! What names may lead to: the model as the dataplane holds it.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{
    Measures, Observers, Published, Reconciler, Timing, run,
    tests::{LIMITS, Stuck, resolver},
};
use crate::{
    clock::Clock,
    dataplane::{Faulty, Memory},
    health::Progress,
    model::objects_for_tests::{app, listing, name, put, remove},
    plan::Limits,
};

/// J6: what names may lead to is what the dataplane holds, and nothing of a change that is still to be written.
#[test]
fn names_lead_to_what_is_written() {
    let dataplane = Stuck {
        inner: Memory::new(LIMITS),
        is_stuck: true,
    };
    let mut agent = Reconciler::new(dataplane, resolver(None), None, LIMITS);
    let holds = |published: &Published, service: &str| {
        let held = published.held.as_ref();
        held.is_some_and(|held| held.services.contains_key(&name(service)))
    };
    agent.handle(listing([app("web")]));
    assert!(agent.published().held.is_none(), "nothing is known yet");
    agent.dataplane().is_stuck = false;
    agent.resync();
    assert!(holds(agent.published(), "web"));
    agent.dataplane().is_stuck = true;
    agent.handle(vec![put(app("db"))]);
    assert!(
        agent
            .published()
            .snapshot
            .services
            .contains_key(&name("db"))
    );
    assert!(holds(agent.published(), "web") && !holds(agent.published(), "db"));
    agent.dataplane().is_stuck = false;
    agent.resync();
    assert!(holds(agent.published(), "db"));
}

#[test]
fn a_service_without_room_has_an_address_that_nobody_answers_at() {
    // Each takes an entry for its port, and one for its address.
    let limits = Limits::new(2, 64);
    let mut agent = Reconciler::new(Memory::new(limits), resolver(None), None, limits);
    agent.handle(listing([app("first"), app("second")]));
    let unanswered = |agent: &Reconciler<Memory>| -> Vec<String> {
        let names = agent.published().unanswered.iter();
        names.map(|name| name.name.to_string()).collect()
    };
    assert_eq!(unanswered(&agent), ["second"]);
    agent.handle(vec![remove(&app("first"))]);
    for _ in 0..3 {
        agent.advance();
    }
    assert_eq!(unanswered(&agent), [""; 0]);
}

/// Whoever waits for a change of what names lead to is woken, also when the model is the same as before.
#[tokio::test]
async fn a_write_that_succeeds_late_is_told() {
    let dataplane = Faulty::new(Memory::new(LIMITS), 0);
    let agent = Reconciler::new(dataplane, resolver(None), None, LIMITS);
    let (events, inbox) = mpsc::channel(4);
    let (published, mut seen) = watch::channel(Published::default());
    let timing = Timing {
        first_retry: Duration::from_millis(1),
        last_retry: Duration::from_millis(1),
        ..Timing::default()
    };
    let clock = Clock::start();
    let (progress, _progressed) = watch::channel(Progress::new(clock.now()));
    let observers = Observers {
        clock,
        published,
        progress,
        measures: Measures::default(),
    };
    let running = tokio::spawn(run(agent, inbox, observers, timing));
    let objects = (0..40).map(|index| app(&format!("app-{index}")));
    events.send(listing(objects)).await.unwrap();
    let wait = seen.wait_for(|published| published.held.is_some());
    wait.await.unwrap();
    drop(events);
    assert!(
        running.await.unwrap().dataplane().failures() > 0,
        "it was late"
    );
}
