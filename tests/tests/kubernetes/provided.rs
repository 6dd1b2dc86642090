//! Load balancers of `--load-balancer-class` get their addresses by their statuses.
#![expect(
    clippy::indexing_slicing,
    reason = "in JSON a field that is not there reads as null, and is made by being written"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_agent::model::announcer;
use clusterip_tests::{
    ApiServer,
    apiserver::{Answer, Fault, objects},
    wait::PATIENCE,
};
use serde_json::{Value, json};

use crate::listener::Listener;

const CLASS: &str = "clusterip.dev/pool";
const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// 62 addresses.
const POOL: &[&str] = &["203.0.113.64/26"];

fn server(nodes: &[&str]) -> Result<ApiServer> {
    let server = ApiServer::start()?;
    for node in nodes {
        server.put(objects::node(node, "zone-a"))?;
    }
    Ok(server)
}

/// A load balancer; its status is empty.
fn balancer(number: u8, class: Option<&str>) -> Value {
    let mut service = objects::service(
        &format!("lb-{number}"),
        &format!("10.96.0.{number}"),
        80,
        8080,
    );
    service["spec"]["type"] = json!("LoadBalancer");
    if let Some(class) = class {
        service["spec"]["loadBalancerClass"] = json!(class);
    }
    service
}

fn listener(server: &ApiServer, node: &str) -> Result<Listener> {
    Listener::providing(server, node, CLASS, POOL)
}

/// The addresses in the statuses, by service.
fn given(server: &ApiServer) -> BTreeMap<String, String> {
    let services = server.objects("services").into_iter();
    let given = services.filter_map(|service| {
        let name = service["metadata"]["name"].as_str()?.to_owned();
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array()?;
        let addresses: Vec<&str> = ingress.iter().filter_map(|it| it["ip"].as_str()).collect();
        (!addresses.is_empty()).then(|| (name, addresses.join(" ")))
    });
    given.collect()
}

/// How often a status was to be written.
fn writes(server: &ApiServer) -> usize {
    let all = server.requests();
    all.iter()
        .filter(|it| it.starts_with("patch services/status"))
        .count()
}

/// The node whose turn it is.
fn first(nodes: &[&str]) -> Result<usize> {
    let all: Vec<_> = nodes.iter().map(|it| (*it).into()).collect();
    let mut places = 0..nodes.len();
    let first = places.find(|place| announcer::rank(nodes[*place], &all) == Some(0));
    first.context("one comes first")
}

/// Lets all go on until something is so of the server; whatever a service has been given stays its own meanwhile, and nobody
/// else's.
fn until(
    server: &ApiServer,
    listeners: &mut [Listener],
    what: &str,
    is_it: impl Fn() -> bool,
) -> Result<()> {
    let end = Instant::now() + PATIENCE * 3;
    let mut known = given(server);
    while !is_it() {
        for listener in &mut *listeners {
            listener.step()?;
        }
        let now = given(server);
        for (name, address) in &known {
            ensure!(
                now.get(name).is_none_or(|it| it == address),
                "{name} had {address}: {now:?}"
            );
        }
        let all: BTreeSet<_> = now.values().collect();
        ensure!(all.len() == now.len(), "an address is there twice: {now:?}");
        known = now;
        ensure!(
            Instant::now() < end,
            "waited in vain until {what}: {known:?} {:#?}",
            server.objects("leases")
        );
    }
    Ok(())
}

#[test]
fn g4_a_load_balancer_of_the_class_gets_an_address_and_keeps_it_over_a_restart() -> Result<()> {
    let server = server(&NODES[..1])?;
    // Those of others, one of which has an address that would be next for somebody else.
    server.put(balancer(1, None))?;
    server.put(balancer(2, Some("example.com/cloud")))?;
    let mut taken = balancer(3, Some("example.com/cloud"));
    taken["status"] =
        json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.90", "ipMode": "VIP"}]}});
    server.put(taken)?;
    let mut named = balancer(5, Some(CLASS));
    named["spec"]["loadBalancerIP"] = json!("203.0.113.77");
    server.put(balancer(4, Some(CLASS)))?;
    server.put(named)?;
    let mut agents = vec![listener(&server, NODES[0])?];
    until(&server, &mut agents, "both have one", || {
        given(&server).len() == 3
    })?;
    let before = given(&server);
    assert_eq!(before["lb-3"], "203.0.113.90");
    assert_eq!(before["lb-5"], "203.0.113.77");
    assert!(before["lb-4"].starts_with("203.0.113."), "{before:?}");
    // It is served, and announced by the one node that there is.
    agents[0].until("it is served", |it| {
        let service = it.service("lb-4");
        let announced = service
            .map(|it| it.announced.as_slice())
            .unwrap_or_default();
        let [one] = announced else { return false };
        one.address.to_string() == before["lb-4"] && one.node.as_deref() == Some(NODES[0])
    })?;
    let frontend = format!("{}:80", before["lb-4"]);
    let external = &agents[0].service("lb-4").context("it is there")?.external;
    let mut frontends = external.iter().flat_map(|it| &it.frontends);
    assert!(frontends.any(|it| format!("{}:{}", it.address, it.port) == frontend));
    let others = agents[0].service("lb-3").context("it is there")?;
    assert_eq!(others.announced, [], "it is not this agent's to announce");
    assert_eq!(writes(&server), 2);
    drop(agents);
    // A new one gives what is new, and nothing else.
    let mut agents = vec![listener(&server, NODES[0])?];
    server.put(balancer(6, Some(CLASS)))?;
    until(&server, &mut agents, "the third one has one", || {
        given(&server).len() == 4
    })?;
    let mut after = given(&server);
    after.remove("lb-6");
    assert_eq!(after, before);
    assert_eq!(writes(&server), 3, "{:#?}", server.requests());
    // Released when it goes, or is no load balancer any more.
    server.delete("services", "default", "lb-6");
    let mut inside = balancer(4, None);
    inside["spec"]["type"] = json!("ClusterIP");
    server.put(inside)?;
    agents[0].until("it is inside", |it| {
        it.service("lb-4")
            .is_some_and(|it| it.announced.is_empty() && it.external.is_empty())
    })?;
    assert_eq!(writes(&server), 3);
    Ok(())
}

#[test]
fn two_agents_do_not_fight_and_the_first_one_writes() -> Result<()> {
    let server = server(&NODES[..2])?;
    let mut agents = Vec::new();
    for node in &NODES[..2] {
        agents.push(listener(&server, node)?);
    }
    for number in 1..=30 {
        server.put(balancer(number, Some(CLASS)))?;
    }
    until(&server, &mut agents, "all have one", || {
        given(&server).len() == 30
    })?;
    assert_eq!(writes(&server), 30, "each status was written once");
    let leases = server.objects("leases");
    let [lease] = leases.as_slice() else {
        panic!("{leases:#?}")
    };
    assert_eq!(lease["spec"]["holderIdentity"], NODES[first(&NODES[..2])?]);
    assert_eq!(lease["spec"]["leaseTransitions"], json!(0));
    // Each says who announces what, and they say the same.
    for agent in &mut agents {
        agent.until("all are announced by somebody", |it| {
            (1..=30).all(|number| {
                let service = it.service(&format!("lb-{number}"));
                service.is_some_and(|it| it.announced.iter().any(|one| one.node.is_some()))
            })
        })?;
    }
    let who = |agent: &Listener, number| {
        let service = agent.service(&format!("lb-{number}"));
        service.map(|it| it.announced.clone())
    };
    for number in 1..=30 {
        assert_eq!(who(&agents[0], number), who(&agents[1], number));
    }
    Ok(())
}

/// Each believes that it is its turn, as two may whose nodes have one name, or who see other nodes.
#[test]
fn g4_agents_that_write_at_once_give_no_address_twice() -> Result<()> {
    let server = server(&NODES[..1])?;
    let mut agents = Vec::new();
    for _ in 0..3 {
        agents.push(listener(&server, NODES[0])?);
    }
    for number in 1..=40 {
        server.put(balancer(number, Some(CLASS)))?;
        if number % 8 == 0 {
            until(&server, &mut agents, "some have one", || {
                given(&server).len() + 8 > usize::from(number)
            })?;
        }
    }
    until(&server, &mut agents, "all have one", || {
        given(&server).len() == 40
    })
}

/// Tells what is reserved, as the one record of all agents has it.
fn reserve(server: &ApiServer, reserved: &Value) -> Result<()> {
    server.put(json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {
            "name": "clusterip-load-balancers", "namespace": "default",
            "annotations": {"clusterip.dev/reserved": reserved.to_string()},
        },
    }))
}

/// What is reserved now.
fn reserved(server: &ApiServer) -> Option<Value> {
    let leases = server.objects("leases");
    let text = leases.first()?["metadata"]["annotations"]["clusterip.dev/reserved"].as_str()?;
    serde_json::from_str(text).ok()
}

/// Another agent may be about to write it, and be slow.
#[test]
fn g4_what_another_agent_has_reserved_is_that_services() -> Result<()> {
    let alone = server(&NODES[..1])?;
    alone.put(balancer(1, Some(CLASS)))?;
    let mut agents = vec![listener(&alone, NODES[0])?];
    until(&alone, &mut agents, "it has one", || {
        given(&alone).len() == 1
    })?;
    let usual = given(&alone)["lb-1"].clone();
    drop(agents);
    let server = server(&NODES[..1])?;
    reserve(
        &server,
        &json!({"default/lb-1": [usual.clone()], "default/lb-9": ["203.0.113.80"]}),
    )?;
    server.put(balancer(9, Some(CLASS)))?;
    let mut agents = vec![listener(&server, NODES[0])?];
    until(&server, &mut agents, "it has one", || {
        given(&server).len() == 1
    })?;
    assert_eq!(given(&server)["lb-9"], "203.0.113.80");
    // Of a service that is not there nothing is late: its version is gone.
    drop(agents);
    reserve(&server, &json!({"default/lb-7": [usual.clone()]}))?;
    server.put(balancer(7, Some(CLASS)))?;
    server.put(balancer(1, Some(CLASS)))?;
    let mut agents = vec![listener(&server, NODES[0])?];
    until(&server, &mut agents, "all have one", || {
        given(&server).len() == 3
    })?;
    assert_eq!(given(&server)["lb-7"], usual);
    assert_ne!(given(&server)["lb-1"], usual);
    Ok(())
}

/// Who does not know the last version of the record writes no status; and what is written was reserved before.
#[test]
fn g4_nothing_is_given_that_was_not_reserved() -> Result<()> {
    let server = server(&NODES[..1])?;
    reserve(&server, &json!({}))?;
    let fault = |verb, resource, code, reason| Fault {
        verb,
        resource,
        times: Fault::ALWAYS,
        answer: Answer::Status {
            code,
            reason,
            message: "somebody was faster".to_owned(),
            again: None,
        },
    };
    server.fail(fault("update", "leases", 409, "Conflict"));
    server.put(balancer(1, Some(CLASS)))?;
    let mut agents = vec![listener(&server, NODES[0])?];
    let tries = || {
        let requests = server.requests();
        requests
            .iter()
            .filter(|it| it.starts_with("update leases"))
            .count()
    };
    until(&server, &mut agents, "it was tried twice", || tries() >= 2)?;
    assert_eq!((given(&server).len(), writes(&server)), (0, 0));
    server.recover();
    // The record is written, and the status is not: what was reserved is given by whoever comes next.
    server.fail(Fault::forbidden("patch", "services/status"));
    until(&server, &mut agents, "it is reserved", || {
        reserved(&server).is_some_and(|it| it["default/lb-1"].is_array()) && writes(&server) > 0
    })?;
    let address = reserved(&server).context("it is")?["default/lb-1"][0].clone();
    drop(agents);
    server.recover();
    let mut agents = vec![listener(&server, NODES[0])?];
    until(&server, &mut agents, "it has one", || {
        given(&server).len() == 1
    })?;
    assert_eq!(json!(given(&server)["lb-1"]), address);
    // What is in a status need not be reserved any more.
    server.put(balancer(2, Some(CLASS)))?;
    until(&server, &mut agents, "the next one has one", || {
        given(&server).len() == 2
    })?;
    let left = reserved(&server).context("it is")?;
    assert_eq!(
        (&left["default/lb-1"], left["default/lb-2"].is_array()),
        (&Value::Null, true)
    );
    Ok(())
}

#[test]
fn another_agent_stands_in_for_one_that_is_away() -> Result<()> {
    let server = server(&NODES)?;
    let away = first(&NODES)?;
    let mut agents = Vec::new();
    for (place, node) in NODES.iter().enumerate() {
        if place != away {
            agents.push(listener(&server, node)?);
        }
    }
    server.put(balancer(1, Some(CLASS)))?;
    until(&server, &mut agents, "it has one", || {
        given(&server).len() == 1
    })?;
    // A node that is known not to be there is not waited for.
    let mut node = objects::node(NODES[away], "zone-a");
    node["status"]["conditions"][0]["status"] = json!("Unknown");
    server.put(node)?;
    server.put(balancer(2, Some(CLASS)))?;
    until(&server, &mut agents, "the second one has one", || {
        given(&server).len() == 2
    })?;
    assert_eq!(writes(&server), 2);
    Ok(())
}

#[test]
fn a_role_that_is_missing_is_named_with_verb_and_resource_and_tried_again() -> Result<()> {
    let server = server(&NODES[..1])?;
    server.put(balancer(1, Some(CLASS)))?;
    for (number, verb, resource, said) in [
        (
            1,
            "get",
            "leases",
            "cannot get leases.coordination.k8s.io: 403 ",
        ),
        (
            2,
            "patch",
            "services/status",
            "cannot patch services/status: 403 ",
        ),
    ] {
        server.put(balancer(number, Some(CLASS)))?;
        server.fail(Fault::forbidden(verb, resource));
        let mut agent = listener(&server, NODES[0])?;
        let name = format!("Service default/lb-{number}");
        let is_said = |it: &Listener| {
            it.problems()
                .iter()
                .any(|problem| problem.contains(said) && problem.contains(&name))
        };
        agent.until("it is said", is_said)?;
        let problems = agent.problems();
        let remedy = said
            .trim_start_matches("cannot ")
            .trim_end_matches(": 403 ");
        let remedy = format!("let the agent's account {remedy}");
        assert!(
            problems.iter().any(|it| it.contains(&remedy)),
            "{problems:?}"
        );
        assert!(!given(&server).contains_key(&format!("lb-{number}")));
        server.recover();
        agent.until("nothing is wrong", |it| it.problems().is_empty())?;
        assert!(given(&server).contains_key(&format!("lb-{number}")));
    }
    Ok(())
}

#[test]
fn g6_what_cannot_be_given_is_said_by_each_agent() -> Result<()> {
    let server = server(&NODES[..1])?;
    let mut agent = Listener::providing(&server, NODES[0], CLASS, &["203.0.113.64/30"])?;
    let mut outside = balancer(1, Some(CLASS));
    outside["spec"]["loadBalancerIP"] = json!("198.51.100.1");
    server.put(outside)?;
    for number in 2..=4 {
        server.put(balancer(number, Some(CLASS)))?;
    }
    agent.until("two have what there is", |it| {
        let problems = it.problems();
        given(&server).len() == 2
            && problems
                .iter()
                .any(|it| it.contains("203.0.113.64/30 is full, all 2 addresses"))
            && problems
                .iter()
                .any(|it| it.contains("198.51.100.1") && it.contains("lb-1"))
    })?;
    assert_eq!(agent.problems().len(), 2, "{:?}", agent.problems());
    Ok(())
}
