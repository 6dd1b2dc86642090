use std::{path::Path, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{Measures, Observers, Published, Reconciler, Timing, run};
use crate::{
    clock::Clock,
    dataplane::{Dataplane, DataplaneError, Faulty, Memory},
    health::Progress,
    model::{
        event::Event,
        objects_for_tests::{app, listing, name, pod, put, remove, service, slice},
        range::ServiceRange,
        resolver::Resolver,
        service::Algorithm,
    },
    plan::{Limits, Op, Tables},
    state::Store,
};

pub(super) const LIMITS: Limits = Limits::new(2048, 4096);

pub(super) fn resolver(store: Option<&Store>) -> Resolver {
    let ranges = vec![ServiceRange::new("10.96.0.0/16".parse().unwrap())];
    let kept = store.map_or_else(Default::default, |store| store.load().unwrap());
    Resolver::new("node-a", Algorithm::default(), ranges, kept)
}

fn reconciler() -> Reconciler<Memory> {
    Reconciler::new(Memory::new(LIMITS), resolver(None), None, LIMITS)
}

/// F1
#[test]
fn nothing_is_written_before_everything_was_listed() {
    let mut agent = reconciler();
    agent.handle(vec![Event::Reset, put(app("web"))]);
    agent.handle(vec![put(pod("web-1", "web", "10.1.0.1"))]);
    agent.resync();
    agent.advance();
    assert_eq!(agent.dataplane().writes(), 0);
    assert!(!agent.needs_retry());
    agent.handle(vec![Event::Synced]);
    assert_eq!(agent.dataplane().dump().unwrap().frontends().count(), 1);
}

/// F1
#[test]
fn nothing_is_removed_before_a_new_listing_is_complete() {
    let mut agent = reconciler();
    agent.handle(listing([app("one"), app("two")]));
    agent.handle(vec![Event::Reset, put(app("two"))]);
    assert_eq!(agent.dataplane().dump().unwrap().frontends().count(), 2);
    agent.handle(vec![Event::Synced]);
    assert_eq!(agent.dataplane().dump().unwrap().frontends().count(), 1);
}

/// F5
#[test]
fn one_endpoint_costs_the_same_beside_a_thousand_services() {
    let cost = |others: usize| {
        let mut agent = reconciler();
        let names: Vec<String> = (0..others).map(|index| format!("other-{index}")).collect();
        let objects = names.iter().flat_map(|name| {
            let pod_name = format!("{name}-1");
            [app(name), pod(&pod_name, name, "10.1.9.9")]
        });
        let web = [app("web"), pod("web-1", "web", "10.1.0.1")];
        agent.handle(listing(objects.chain(web)));
        let before = agent.published().snapshot.clone();
        let writes = agent.dataplane().writes();
        let report = agent.handle(vec![put(pod("web-2", "web", "10.1.0.2"))]);
        assert_eq!(report.services, 1);
        let after = agent.published().snapshot.clone();
        for other in names {
            let of = |snapshot: &crate::model::snapshot::Snapshot| {
                snapshot.services.get(&name(&other)).cloned().unwrap()
            };
            assert!(Arc::ptr_eq(&of(&before), &of(&after)));
        }
        agent.dataplane().writes() - writes
    };
    // PutBackend, two PutSlot, PutService.
    assert_eq!(cost(0), 4);
    assert_eq!(cost(1000), 4);
}

#[test]
fn an_event_that_changes_nothing_writes_nothing_and_is_not_published() {
    let mut agent = reconciler();
    let objects = [app("web"), pod("web-1", "web", "10.1.0.1")];
    agent.handle(listing(objects.clone()));
    let (writes, before) = (
        agent.dataplane().writes(),
        agent.published().snapshot.clone(),
    );
    let report = agent.handle(listing(objects));
    assert_eq!((report.services, report.ops), (0, 0));
    assert_eq!(agent.dataplane().writes(), writes);
    assert!(Arc::ptr_eq(&before, &agent.published().snapshot));
}

/// F6
#[test]
fn what_somebody_else_changed_is_mended() {
    let mut agent = reconciler();
    agent.handle(listing([
        app("web"),
        pod("web-1", "web", "10.1.0.1"),
        app("db"),
    ]));
    let right = agent.dataplane().dump().unwrap();
    let key = *right.services.keys().next().unwrap();
    let (id, backend) = right.backends.first_key_value().unwrap();
    agent
        .dataplane()
        .apply(&[
            Op::RemoveService(key),
            Op::FreeBackend(*id, backend.generation),
        ])
        .unwrap();
    let report = agent.resync();
    assert!(report.failure.is_none());
    assert_eq!(agent.dataplane().dump().unwrap(), right);
    assert_eq!(agent.resync().ops, 0);
}

/// Refuses to write heads while it is stuck, and looks at the tables after each operation.
pub(super) struct Stuck {
    pub(super) inner: Memory,
    pub(super) is_stuck: bool,
}

impl Dataplane for Stuck {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        self.inner.dump()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            if self.is_stuck && matches!(op, Op::PutService(..)) {
                return Err(DataplaneError::Write {
                    map: "SERVICES",
                    operation: "update",
                    entry: format!("{op:?}"),
                    source: "stuck".into(),
                });
            }
            self.inner.apply(std::slice::from_ref(op))?;
            let tables = self.inner.dump()?;
            assert_eq!(tables.soundness(), Ok(()), "after {op:?}\n{tables}");
        }
        Ok(())
    }
}

/// F2, F6: what was retired is not used again while the head that leads to it is still in the map.
#[test]
fn time_does_not_pass_while_a_write_is_missing() {
    let dataplane = Stuck {
        inner: Memory::new(LIMITS),
        is_stuck: false,
    };
    let mut agent = Reconciler::new(dataplane, resolver(None), None, LIMITS);
    let web = |count: u8| {
        let ips: Vec<String> = (0..count).map(|host| format!("10.1.0.{host}")).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        put(slice("web", "web", &ips))
    };
    agent.handle(listing([app("web"), app("db")]));
    agent.handle(vec![web(3)]);
    agent.dataplane().is_stuck = true;
    let report = agent.handle(vec![web(4)]);
    assert!(report.failure.is_some() && agent.needs_retry());
    for round in 0..5 {
        agent.advance();
        let db = slice("db", "db", &[&format!("10.1.1.{round}")]);
        assert!(agent.handle(vec![put(db)]).failure.is_some());
    }
    agent.dataplane().is_stuck = false;
    assert!(agent.resync().failure.is_none());
    assert_eq!(agent.resync().ops, 0);
    let slots = agent.dataplane().dump().unwrap().slots;
    assert_eq!(slots.len(), 5);
}

/// F6
#[test]
fn what_comes_out_is_the_same_when_one_write_in_ten_fails() {
    for seed in 0..50 {
        let dataplane = Faulty::new(Memory::new(LIMITS), seed);
        let mut faulty = Reconciler::new(dataplane, resolver(None), None, LIMITS);
        let mut plain = reconciler();
        let objects = [app("web"), app("db"), pod("db-1", "db", "10.1.1.1")];
        faulty.handle(listing(objects.clone()));
        plain.handle(listing(objects));
        for round in 0..20 {
            let ip = format!("10.1.0.{}", round % 3);
            let events = vec![
                put(pod(&format!("web-{round}"), "web", &ip)),
                put(pod("db-1", "db", &ip)),
                remove(&pod(&format!("web-{}", round - 2), "web", "")),
            ];
            faulty.handle(events.clone());
            plain.handle(events);
        }
        while faulty.needs_retry() {
            faulty.resync();
        }
        assert!(faulty.dataplane().failures() > 0, "seed {seed}");
        assert_eq!(
            faulty.dataplane().dump().unwrap(),
            plain.dataplane().dump().unwrap()
        );
    }
}

#[test]
fn ids_have_names() {
    let mut agent = reconciler();
    agent.handle(listing([
        app("web"),
        slice("s", "web", &["10.1.0.1", "10.1.0.2"]),
    ]));
    let index = agent.published().index.clone();
    let placements = index.services.get(&name("web")).unwrap();
    assert_eq!(placements.len(), 1);
    assert_eq!(placements[0].frontends.len(), 1);
    let backends: Vec<_> = placements[0].backends.iter().map(|(id, _)| id.0).collect();
    assert_eq!(backends, [0, 1]);
    agent.handle(vec![remove(&app("web"))]);
    assert!(agent.published().index.services.is_empty());
}

/// G4
#[test]
fn allocations_are_kept_before_they_are_programmed_and_survive() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    let start = |store: &Store| {
        let dataplane = Memory::new(LIMITS);
        Reconciler::new(
            dataplane,
            resolver(Some(store)),
            Some(Store::new(directory.path())),
            LIMITS,
        )
    };
    let frontends = |agent: &Reconciler<Memory>| {
        let service = agent
            .published()
            .snapshot
            .services
            .get(&name("web"))
            .cloned();
        service.unwrap().balancers[0].frontends.clone()
    };
    let mut agent = start(&store);
    agent.handle(listing([app("web")]));
    let before = frontends(&agent);
    assert!(!before[0].provisional);
    let mut next = start(&store);
    next.handle(listing([app("a"), app("b"), app("web")]));
    assert_eq!(frontends(&next), before);
}

#[test]
fn services_work_while_their_allocations_cannot_be_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    std::fs::write(&path, "in the way").unwrap();
    let (dataplane, store) = (Memory::new(LIMITS), Store::new(Path::new(&path)));
    let mut agent = Reconciler::new(dataplane, resolver(None), Some(store), LIMITS);
    let is_provisional = |agent: &Reconciler<Memory>| {
        let service = agent
            .published()
            .snapshot
            .services
            .get(&name("web"))
            .cloned();
        service.unwrap().balancers[0].frontends[0].provisional
    };
    agent.handle(listing([app("web")]));
    assert_eq!(agent.dataplane().dump().unwrap().frontends().count(), 1);
    assert!(is_provisional(&agent));
    std::fs::remove_file(&path).unwrap();
    agent.advance();
    assert!(!is_provisional(&agent), "tried again as time passes");
}

async fn seen(
    readers: &mut watch::Receiver<Published>,
    is_it: impl FnMut(&Published) -> bool,
) -> Published {
    let wait = readers.wait_for(is_it);
    let found = tokio::time::timeout(Duration::from_secs(20), wait).await;
    found.expect("in time").expect("the loop runs").clone()
}

#[tokio::test]
async fn the_loop_programs_retries_and_publishes() {
    let (events, inbox) = mpsc::channel(8);
    let (writer, mut readers) = watch::channel(Published::default());
    let dataplane = Faulty::new(Memory::new(LIMITS), 42);
    let agent = Reconciler::new(dataplane, resolver(None), None, LIMITS);
    let timing = Timing {
        grace: Duration::from_millis(1),
        resync: Duration::from_millis(5),
        first_retry: Duration::from_millis(1),
        last_retry: Duration::from_millis(2),
    };
    let clock = Clock::start();
    let (progress, progressed) = watch::channel(Progress::new(clock.now()));
    let observers = Observers {
        clock,
        published: writer,
        progress,
        measures: Measures::default(),
    };
    let task = tokio::spawn(run(agent, inbox, observers, timing));
    let web = service(
        "web",
        &json!({ "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] }),
    );
    events.send(listing([web])).await.unwrap();
    seen(&mut readers, |it| it.snapshot.services.size() == 1).await;
    for count in 1..20_usize {
        let ips: Vec<String> = (1..=count).map(|index| format!("10.1.0.{index}")).collect();
        let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
        events
            .send(vec![put(slice("s", "web", &ips))])
            .await
            .unwrap();
        seen(&mut readers, |it| {
            let service = it.snapshot.services.get(&name("web"));
            service.is_some_and(|service| service.balancers[0].endpoints.len() == count)
        })
        .await;
    }
    drop(events);
    let mut agent = task.await.unwrap();
    // F7: what failed was seen waiting, and no longer.
    let progress = progressed.borrow().clone();
    assert!(progress.has_begun());
    assert_eq!(progress.is_settled(), !agent.needs_retry());
    while agent.needs_retry() {
        agent.resync();
    }
    let tables = agent.dataplane().dump().unwrap();
    assert_eq!(tables.slots.len(), 19, "{tables}");
    assert_eq!(tables.soundness(), Ok(()));
}

/// A dataplane that notes which frontends were there after each write.
struct Watched {
    inner: Memory,
    seen: Vec<Vec<String>>,
}

impl Dataplane for Watched {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        self.inner.dump()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            self.inner.apply(std::slice::from_ref(op))?;
            let heads = self.inner.dump()?.services;
            self.seen
                .push(heads.keys().map(ToString::to_string).collect());
        }
        Ok(())
    }
}

/// A14
#[test]
fn a_change_of_one_port_leaves_the_others_where_they_are() {
    let with = |more: serde_json::Value| {
        let mut spec = json!({
            "clusterIP": "10.96.0.9",
            "selector": { "app": "web" },
            "ports": [
                { "name": "stays", "port": 80 },
                { "name": "changes", "port": 81 },
            ],
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        service("web", &spec)
    };
    let stays = json!({ "name": "stays", "port": 80 });
    for more in [
        json!({ "type": "NodePort" }),
        json!({ "ports": [stays, { "name": "changes", "port": 82 }] }),
        json!({ "ports": [stays, { "name": "changes", "port": 81, "protocol": "UDP" }] }),
        json!({ "ports": [stays, { "name": "other", "port": 81 }] }),
        json!({ "ports": [stays, { "name": "changes", "port": 81, "targetPort": 8081 }] }),
        json!({ "ports": [{ "name": "changes", "port": 81 }, stays] }),
    ] {
        let watched = Watched {
            inner: Memory::new(LIMITS),
            seen: Vec::new(),
        };
        let mut agent = Reconciler::new(watched, resolver(None), None, LIMITS);
        agent.handle(listing([with(json!({})), pod("web-1", "web", "10.1.0.1")]));
        agent.dataplane().seen.clear();
        let report = agent.handle(vec![put(with(more.clone()))]);
        assert!(report.failure.is_none());
        for heads in &agent.dataplane().seen {
            assert!(
                heads.contains(&"10.96.0.9:80/tcp".to_owned()),
                "{more}: {heads:?}"
            );
        }
    }
}
