//! Addresses of load balancers are given, kept and released as those of services are.

use std::net::IpAddr;

use serde_json::json;

use super::Resolver;
use crate::model::{
    allocate::Allocations,
    announcer::{Conflict, Conflicts},
    event::Event,
    exposure::Exposure,
    object::{Object, ObjectName},
    objects_for_tests::{listing, node, pod, put, remove, service},
    range::ServiceRange,
    service::{Algorithm, FrontendKind},
};

fn resolver(kept: Allocations) -> Resolver {
    resolver_of("node-a", kept)
}

fn resolver_of(node: &str, kept: Allocations) -> Resolver {
    resolver_for(node, kept, None)
}

fn resolver_for(node: &str, kept: Allocations, class: Option<&str>) -> Resolver {
    let range = |net: &str| ServiceRange::new(net.parse().unwrap());
    let exposure = Exposure {
        pool: vec![range("192.0.2.0/29")],
        class: class.map(Into::into),
        ..Exposure::default()
    };
    let services = vec![range("10.96.0.0/24")];
    Resolver::new(node, Algorithm::default(), services, kept).exposed(30_000..=32_767, exposure)
}

fn balancer(name: &str) -> Object {
    let spec = json!({
        "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{ "port": 80 }],
    });
    service(name, &spec)
}

/// Takes a whole listing, and keeps what is to be kept.
fn run(resolver: &mut Resolver, kept: &mut Allocations, objects: Vec<Object>) {
    resolver.take(listing(objects));
    if let Some(changes) = resolver.allocate() {
        kept.apply(changes);
    }
    assert_eq!(*kept, resolver.allocations(), "what is kept is what is so");
    resolver.saved();
    resolver.resolve();
}

fn pooled(resolver: &Resolver, name: &str) -> Vec<IpAddr> {
    let service = resolver
        .snapshot()
        .service(&ObjectName::new("default", name));
    let frontends = service.into_iter().flat_map(|it| &it.external);
    let mut all: Vec<IpAddr> = frontends
        .flat_map(|it| &it.frontends)
        .filter(|it| it.kind == FrontendKind::LoadBalancer && !it.provisional)
        .map(|it| it.address)
        .collect();
    all.dedup();
    all
}

#[test]
fn g4_the_address_of_a_load_balancer_outlives_the_agent() {
    let mut kept = Allocations::new();
    let mut first = resolver(Allocations::new());
    run(&mut first, &mut kept, vec![balancer("web")]);
    let address = pooled(&first, "web");
    assert_eq!(address.len(), 1, "{address:?}");
    // Others that come first by name find it taken.
    let others = ["a", "b", "c"].map(balancer);
    let all = others.into_iter().chain([balancer("web")]).collect();
    let mut second = resolver(kept.clone());
    run(&mut second, &mut kept, all);
    assert_eq!(pooled(&second, "web"), address);
    for other in ["a", "b", "c"] {
        let theirs = pooled(&second, other);
        assert!(
            theirs.len() == 1 && theirs != address,
            "{other}: {theirs:?}"
        );
    }
}

#[test]
fn g4_the_address_of_a_load_balancer_rests_once_it_is_released() {
    let mut kept = Allocations::new();
    let mut agent = resolver(Allocations::new());
    run(&mut agent, &mut kept, vec![balancer("web")]);
    let address = pooled(&agent, "web");
    // Its own address stays.
    let own = kept
        .addresses
        .values()
        .flatten()
        .copied()
        .find(|it| !address.contains(it));
    let inside = service("web", &json!({ "ports": [{ "port": 80 }] }));
    run(&mut agent, &mut kept, vec![inside.clone()]);
    assert_eq!(pooled(&agent, "web"), [] as [IpAddr; 0]);
    let left: Vec<IpAddr> = kept.addresses.values().flatten().copied().collect();
    assert_eq!(left, own.into_iter().collect::<Vec<_>>());
    assert_eq!(kept.resting.keys().copied().collect::<Vec<_>>(), address);
    // Five others have the rest of the pool, and the sixth waits, in another agent as well.
    let mut all: Vec<Object> = ["a", "b", "c", "d", "e", "f"].map(balancer).into();
    all.push(inside);
    let mut next = resolver(kept.clone());
    run(&mut next, &mut kept, all);
    let theirs: Vec<IpAddr> = ["a", "b", "c", "d", "e", "f"]
        .iter()
        .flat_map(|name| pooled(&next, name))
        .collect();
    assert_eq!(theirs.len(), 5);
    assert!(!theirs.contains(&address[0]));
}

#[test]
fn an_api_server_gives_load_balancers_their_addresses_itself() {
    let mut agent = resolver(Allocations::new()).of_api_server();
    agent.take(listing([balancer("web")]));
    agent.allocate();
    agent.resolve();
    assert_eq!(pooled(&agent, "web"), [] as [IpAddr; 0]);
}

/// Who announces the address of `web`, of each agent.
fn announcers(agents: &[Resolver]) -> Vec<Option<String>> {
    let name = ObjectName::new("default", "web");
    let announced = |agent: &Resolver| {
        let service = agent.snapshot().service(&name)?;
        let [one] = service.announced.as_slice() else {
            return None;
        };
        one.node.as_ref().map(ToString::to_string)
    };
    agents.iter().map(announced).collect()
}

fn agree(agents: &[Resolver], on: Option<&str>) {
    let found = announcers(agents);
    let wanted = vec![on.map(str::to_owned); agents.len()];
    assert_eq!(found, wanted);
}

#[test]
fn all_agents_say_the_same_of_who_announces() {
    let events = |agents: &mut [Resolver], events: Vec<Event>| {
        for agent in agents {
            agent.take(events.clone());
            agent.allocate();
            agent.saved();
            agent.resolve();
        }
    };
    let mut agents = ["node-a", "node-b"].map(|name| resolver_of(name, Allocations::new()));
    events(&mut agents, listing([balancer("web")]));
    let alone = ["node-a", "node-b"].map(|name| Some(name.to_owned()));
    assert_eq!(announcers(&agents), alone, "each for want of Node objects");
    for name in ["node-a", "node-b", "node-c"] {
        events(&mut agents, vec![put(node(name, "east"))]);
    }
    let found = announcers(&agents);
    let first = found.first().cloned().flatten().unwrap();
    agree(&agents, Some(&first));
    events(&mut agents, vec![remove(&node(&first, "east"))]);
    let second = announcers(&agents).remove(0).unwrap();
    assert_ne!(second, first);
    agree(&agents, Some(&second));
    // A7: under the policy Local, where its endpoint is.
    events(&mut agents, vec![put(node(&first, "east"))]);
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{ "port": 80 }],
        "selector": { "app": "web" },
    });
    events(&mut agents, vec![put(service("web", &spec))]);
    agree(&agents, None);
    events(&mut agents, vec![put(pod("web-1", "web", "10.1.0.1"))]);
    agree(&agents, Some("node-a"));
}

#[test]
fn an_address_that_somebody_else_has_is_a_problem_of_its_service_until_it_is_free() {
    let mut kept = Allocations::new();
    let mut agent = resolver(Allocations::new());
    run(&mut agent, &mut kept, vec![balancer("web")]);
    let address = pooled(&agent, "web")[0];
    let conflict = Conflict {
        mac: [2, 0, 0, 0, 0, 0xfe],
        interface: "eth0".to_owned(),
    };
    let problems = |agent: &Resolver| -> Vec<String> {
        let all = agent.snapshot().problems();
        all.iter().map(ToString::to_string).collect()
    };
    agent.take(vec![Event::Conflicts([(address, conflict)].into())]);
    agent.resolve();
    let said = problems(&agent);
    assert!(
        said.len() == 1 && said[0].contains("02:00:00:00:00:fe on eth0"),
        "{said:?}"
    );
    agent.take(vec![Event::Conflicts(Conflicts::new())]);
    agent.resolve();
    assert_eq!(problems(&agent), [""; 0]);
}

#[test]
fn a_class_of_ones_own_gets_addresses_and_no_other_one() {
    for (own, wanted) in [(None, [1, 0, 0]), (Some("example.com/lb"), [1, 1, 0])] {
        let mut kept = Allocations::new();
        let mut agent = resolver_for("node-a", kept.clone(), own);
        let of_class = |name: &str, class: &str| {
            let spec = json!({
                "type": "LoadBalancer", "loadBalancerClass": class, "ports": [{ "port": 80 }],
                "allocateLoadBalancerNodePorts": false,
            });
            service(name, &spec)
        };
        let ours = of_class("ours", "example.com/lb");
        let theirs = of_class("theirs", "example.com/other");
        run(&mut agent, &mut kept, vec![balancer("web"), ours, theirs]);
        let found = ["web", "ours", "theirs"].map(|name| pooled(&agent, name).len());
        assert_eq!(found, wanted, "{own:?}");
    }
}
