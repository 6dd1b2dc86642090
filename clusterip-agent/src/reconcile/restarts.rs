//! Tests: one agent after another over the same dataplane, with what was kept on disk or without it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use clusterip_common::abi::{BackendId, BackendState};
use serde_json::json;

use super::Reconciler;
use crate::{
    dataplane::{Dataplane, DataplaneError, Memory},
    model::{
        allocate::Allocations,
        event::Event,
        exposure::Exposure,
        object::Object,
        objects_for_tests::{app, listing, name, put, remove, service, slice},
        range::ServiceRange,
        resolver::Resolver,
        service::{Action, Algorithm, ResolvedService},
    },
    plan::{Limits, Op, Tables},
    state::Store,
};

const LIMITS: Limits = Limits::new(256, 1024);

/// Room for 14 services.
const NARROW: &str = "10.96.0.0/28";

fn agent<D: Dataplane>(dataplane: D, range: &str, kept: Allocations) -> Reconciler<D> {
    let ranges = vec![ServiceRange::new(range.parse().unwrap())];
    let resolver = Resolver::new("node-a", Algorithm::default(), ranges, kept);
    Reconciler::new(dataplane, resolver, None, LIMITS)
}

/// The next agent, without anything but the dataplane.
fn next(agent: Reconciler<Memory>, range: &str, events: Vec<Event>) -> Reconciler<Memory> {
    let mut next = self::agent(agent.into_dataplane(), range, Allocations::new());
    assert!(next.handle(events).failure.is_none());
    next
}

fn addresses(agent: &Reconciler<impl Dataplane>) -> BTreeMap<String, IpAddr> {
    let services = agent.published().snapshot.services.iter();
    let first = services.filter_map(|(name, service)| {
        let frontend = service.balancers.first()?.frontends.first()?;
        Some((name.name.to_string(), frontend.address))
    });
    first.collect()
}

/// Carries out so many operations, and dies.
struct Dying {
    inner: Memory,
    left: usize,
}

impl Dataplane for Dying {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        self.inner.dump()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            if self.left == 0 {
                return Err(DataplaneError::Write {
                    map: "SERVICES",
                    operation: "update",
                    entry: format!("{op:?}"),
                    source: "killed".into(),
                });
            }
            self.left -= 1;
            self.inner.apply(std::slice::from_ref(op))?;
        }
        Ok(())
    }
}

/// F2, F4: an agent may be killed after any write. What it leaves is sound, and the next agent gets to the same end. What
/// stays keeps its id and generation: its flows go on (C1).
#[test]
fn f4_an_agent_that_is_killed_after_any_write_is_succeeded() {
    let before = [
        app("web"),
        app("db"),
        app("old"),
        slice("web", "web", &["10.1.0.1", "10.1.0.2", "10.1.0.3"]),
        slice("db", "db", &["10.1.1.1"]),
        slice("old", "old", &["10.1.2.1"]),
    ];
    let after = [
        app("web"),
        app("db"),
        app("new"),
        slice(
            "web",
            "web",
            &["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"],
        ),
        slice("db", "db", &[]),
        slice("new", "new", &["10.1.2.1", "10.1.3.1"]),
    ];
    let stay = ["10.1.0.2", "10.1.0.3"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let ids = |tables: &Tables| -> BTreeMap<IpAddr, (BackendId, u32, bool)> {
        let all = tables.backends.iter();
        let all = all.filter(|(_, backend)| backend.state != BackendState::FREE);
        all.map(|(id, backend)| {
            let is_active = backend.state == BackendState::ACTIVE;
            let address = IpAddr::from(backend.address).to_canonical();
            (address, (*id, backend.generation, is_active))
        })
        .collect()
    };
    for left in 0.. {
        let mut first = agent(Memory::new(LIMITS), "10.96.0.0/16", Allocations::new());
        first.handle(listing(before.clone()));
        let known = ids(&first.dataplane().dump().unwrap());
        let dying = Dying {
            inner: first.into_dataplane(),
            left,
        };
        let mut second = agent(dying, "10.96.0.0/16", Allocations::new());
        let is_whole = second.handle(listing(after.clone())).failure.is_none();
        let mut rest = second.into_dataplane().inner;
        let tables = rest.dump().unwrap();
        assert_eq!(tables.soundness(), Ok(()), "after {left} writes\n{tables}");
        let mut third = agent(rest, "10.96.0.0/16", Allocations::new());
        assert!(third.handle(listing(after.clone())).failure.is_none());
        let tables = third.dataplane().dump().unwrap();
        assert_eq!(tables.soundness(), Ok(()), "after {left} writes\n{tables}");
        assert_eq!(third.resync().ops, 0, "after {left} writes");
        let now = ids(&tables);
        for ip in stay {
            assert_eq!(now[&ip], known[&ip], "after {left} writes\n{tables}");
        }
        let active: Vec<String> = now
            .iter()
            .filter(|(_, (_, _, is_active))| *is_active)
            .map(|(ip, _)| ip.to_string())
            .collect();
        assert_eq!(
            active,
            [
                "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.2.1", "10.1.3.1"
            ],
            "after {left} writes"
        );
        if is_whole {
            assert!(left > 10, "{left} writes are no test");
            return;
        }
    }
}

/// G4: the state directory is lost, and the dataplane is not.
#[test]
fn g4_services_get_their_addresses_back_from_the_dataplane() {
    // One after another, so that who comes late finds its first choices taken.
    let mut names: Vec<String> = (0..14).map(|number| format!("app-{number}")).collect();
    let mut first = agent(Memory::new(LIMITS), NARROW, Allocations::new());
    first.handle(listing([]));
    for name in &names {
        first.handle(vec![put(app(name))]);
    }
    let before = addresses(&first);
    assert_eq!(before.len(), 14);
    names.reverse();
    let apps: Vec<Object> = names.iter().map(|name| app(name)).collect();
    let fresh = {
        let mut fresh = agent(Memory::new(LIMITS), NARROW, Allocations::new());
        fresh.handle(listing(apps.clone()));
        addresses(&fresh)
    };
    assert_ne!(fresh, before, "the order has no part in it: no test");
    let mut second = next(first, NARROW, listing(apps.clone()));
    assert_eq!(addresses(&second), before);
    // Once is enough: they are its own from now on.
    second.handle(vec![remove(&app("app-3"))]);
    let third = next(second, NARROW, listing(apps));
    assert_eq!(addresses(&third), before);
}

/// G3, G4: the same for node ports and for addresses of the pool, which the maps know by the balancer that they share with a
/// `ClusterIP`.
#[test]
fn g3_g4_node_ports_and_pool_addresses_come_back_from_the_dataplane() {
    let start = |dataplane, events| {
        let ranges = vec![ServiceRange::new(NARROW.parse().unwrap())];
        let exposure = Exposure {
            pool: vec![ServiceRange::new("203.0.113.0/28".parse().unwrap())],
            ..Exposure::default()
        };
        let resolver = Resolver::new("node-a", Algorithm::default(), ranges, Allocations::new())
            .exposed(30_000..=30_019, exposure);
        let mut agent = Reconciler::new(dataplane, resolver, None, LIMITS);
        agent.handle(vec![Event::Machine(vec!["192.0.2.7".parse().unwrap()])]);
        assert!(agent.handle(events).failure.is_none());
        agent
    };
    let outside = |agent: &Reconciler<Memory>| -> BTreeMap<String, Vec<(IpAddr, u16)>> {
        let services = agent.published().snapshot.services.iter();
        let frontends = |service: &Arc<ResolvedService>| {
            let views = service.external.iter().flat_map(|it| &it.frontends);
            views.map(|it| (it.address, it.port)).collect()
        };
        services
            .map(|(name, service)| (name.name.to_string(), frontends(service)))
            .collect()
    };
    let balancer = |name: &str| {
        let ports = json!([
            { "name": "web", "port": 80 },
            { "name": "dns", "port": 53 },
            { "name": "dns-udp", "port": 53, "protocol": "UDP" },
        ]);
        service(name, &json!({ "type": "LoadBalancer", "ports": ports }))
    };
    let names: Vec<String> = (0..9).map(|number| format!("app-{number}")).collect();
    // Who comes late finds its first choices taken.
    let mut first = start(Memory::new(LIMITS), listing([]));
    for name in names.iter().rev() {
        first.handle(vec![put(balancer(name))]);
    }
    let before = outside(&first);
    assert!(
        before.values().all(|all| all.len() == 2 * 2 * 3),
        "{before:?}"
    );
    let all: Vec<Object> = names.iter().map(|name| balancer(name)).collect();
    let fresh = outside(&start(Memory::new(LIMITS), listing(all.clone())));
    assert_ne!(fresh, before, "the order has no part in it: no test");
    let second = start(first.into_dataplane(), listing(all));
    assert_eq!(outside(&second), before);
}

/// G4, over a restart without what was kept.
#[test]
fn g4_an_address_that_is_served_for_a_service_that_is_gone_rests() {
    let mut first = agent(Memory::new(LIMITS), "10.96.0.0/30", Allocations::new());
    first.handle(listing([app("one"), app("two")]));
    let before = addresses(&first);
    assert_eq!(before.len(), 2, "the range is full");
    let mut second = next(first, "10.96.0.0/30", listing([app("two"), app("three")]));
    let now = addresses(&second);
    assert_eq!(now.get("two"), before.get("two"));
    assert_eq!(now.get("three"), None, "flows to it may live");
    second.advance();
    assert_eq!(addresses(&second).get("three"), None);
    second.advance();
    assert_eq!(addresses(&second).get("three"), before.get("one"));
}

/// G4: the same with what was kept, in which the address still belongs to the one that is gone.
#[test]
fn g4_an_address_that_was_released_while_no_agent_ran_rests() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    let kept = |store: &Store| store.load().unwrap();
    let ranges = || vec![ServiceRange::new("10.96.0.0/30".parse().unwrap())];
    let start = |dataplane, kept| {
        let resolver = Resolver::new("node-a", Algorithm::default(), ranges(), kept);
        Reconciler::new(
            dataplane,
            resolver,
            Some(Store::new(directory.path())),
            LIMITS,
        )
    };
    let mut first = start(Memory::new(LIMITS), kept(&store));
    first.handle(listing([app("one"), app("two")]));
    let before = addresses(&first);
    let mut second = start(first.into_dataplane(), kept(&store));
    second.handle(listing([app("two"), app("three")]));
    assert_eq!(addresses(&second).get("three"), None);
    // It rests anew, in the next agent too.
    second.advance();
    let mut third = start(second.into_dataplane(), kept(&store));
    third.handle(listing([app("two"), app("three")]));
    third.advance();
    assert_eq!(addresses(&third).get("three"), None);
    third.advance();
    assert_eq!(addresses(&third).get("three"), before.get("one"));
}

/// C10: who has the address now is another service, and nothing but the dataplane knows it.
#[test]
fn c10_a_service_that_asks_for_the_address_of_another_gets_no_flow_of_it() {
    let at = |name: &str| {
        let spec = json!({
            "selector": { "app": name }, "clusterIP": "10.96.0.9", "ports": [{ "port": 80 }]
        });
        service(name, &spec)
    };
    let mut first = agent(Memory::new(LIMITS), "10.96.0.0/16", Allocations::new());
    first.handle(listing([at("one"), slice("s", "one", &["10.1.0.1"])]));
    let generation = |agent: &mut Reconciler<Memory>| {
        let tables = agent.dataplane().dump().unwrap();
        tables
            .backends
            .values()
            .map(|it| (it.state, it.generation))
            .collect::<Vec<_>>()
    };
    let before = generation(&mut first);
    // The same service: its flows go on.
    let same = listing([at("one"), slice("s", "one", &["10.1.0.1"])]);
    let mut second = next(first, "10.96.0.0/16", same);
    assert_eq!(generation(&mut second), before);
    // Another one at the same address with the same endpoint.
    let other = listing([at("two"), slice("s", "two", &["10.1.0.1"])]);
    let mut third = next(second, "10.96.0.0/16", other);
    assert_ne!(generation(&mut third), before);
}

/// F3, over a restart.
#[test]
fn f3_the_api_servers_own_service_keeps_its_endpoints_over_a_restart() {
    let own = || {
        service(
            "kubernetes",
            &json!({ "ports": [{ "name": "https", "port": 443 }] }),
        )
    };
    let ready = |ips: &[&str]| {
        let mut object = slice("kubernetes", "kubernetes", ips);
        if let crate::model::object::Spec::EndpointSlice(slice) = &mut object.spec {
            let mut changed = slice.as_ref().clone();
            for port in &mut changed.ports {
                port.name = "https".into();
                port.port = Some(6443);
            }
            *slice = changed.into();
        }
        object
    };
    let mut first = agent(Memory::new(LIMITS), "10.96.0.0/16", Allocations::new());
    first.handle(listing([
        own(),
        ready(&["10.0.0.1", "10.0.0.2"]),
        app("web"),
    ]));
    let before = first.dataplane().dump().unwrap();
    assert_eq!(before.slots.len(), 2);
    for none in [vec![own(), ready(&[]), app("web")], vec![own(), app("web")]] {
        first = next(first, "10.96.0.0/16", listing(none));
        let tables = first.dataplane().dump().unwrap();
        assert_eq!(tables, before, "{tables}");
        let snapshot = first.published().snapshot.clone();
        let kubernetes = snapshot.services.get(&name("kubernetes")).unwrap();
        assert_eq!(kubernetes.balancers[0].action, Action::Balance);
        let said = kubernetes.problems[0].to_string();
        assert!(said.contains("the last ones are kept"), "{said}");
    }
    // As soon as there is one, it counts.
    first.handle(vec![put(ready(&["10.0.0.3"]))]);
    let tables = first.dataplane().dump().unwrap();
    assert_eq!(tables.slots.len(), 1, "{tables}");
    // Any other service does drop to none.
    let mut web = agent(Memory::new(LIMITS), "10.96.0.0/16", Allocations::new());
    web.handle(listing([app("web"), slice("s", "web", &["10.1.0.1"])]));
    let mut web = next(web, "10.96.0.0/16", listing([app("web")]));
    assert_eq!(web.dataplane().dump().unwrap().slots.len(), 0);
}
