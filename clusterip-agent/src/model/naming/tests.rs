use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::model::{
    allocate::Allocations,
    event::Event,
    object::Spec,
    objects_for_tests::{app, listing, name, pod, put, remove, service},
    range::ServiceRange,
    resolver::Resolver,
    service::Algorithm,
    snapshot::Snapshot,
};

fn resolver(events: Vec<Event>) -> Resolver {
    let range = ServiceRange::new("10.96.0.0/16".parse().unwrap());
    let none = Allocations::new();
    let mut resolver = Resolver::new("a", Algorithm::default(), vec![range], none);
    step(&mut resolver, events);
    resolver
}

fn step(resolver: &mut Resolver, events: Vec<Event>) {
    resolver.take(events);
    let _provisional = resolver.allocate();
    resolver.resolve();
}

fn leads_back(snapshot: &Snapshot, address: &str) -> Vec<String> {
    let services = snapshot.named_by(address.parse().unwrap());
    services.map(|it| it.name.name.to_string()).collect()
}

fn with_hostname(mut pod: Object, hostname: &str, subdomain: &str) -> Object {
    if let Spec::Pod(pod) = &mut pod.spec {
        let pod = Arc::make_mut(pod);
        pod.hostname = Some(hostname.into());
        pod.subdomain = Some(subdomain.into());
    }
    pod
}

/// J2: what leads back follows every change.
#[test]
fn addresses_lead_back_to_those_who_have_them_now() {
    let at = |ip: &str| {
        service(
            "web",
            &json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }),
        )
    };
    let headless = json!({ "clusterIP": "None", "selector": { "app": "db" } });
    let db = with_hostname(pod("db-0", "db", "10.1.0.1"), "db-0", "db");
    let objects = [at("10.96.0.7"), service("db", &headless), db.clone()];
    let mut resolver = resolver(listing(objects));
    assert_eq!(leads_back(resolver.snapshot(), "10.96.0.7"), ["web"]);
    assert_eq!(leads_back(resolver.snapshot(), "10.1.0.1"), ["db"]);
    let other = with_hostname(pod("db-0", "db", "10.1.0.2"), "db-0", "db");
    step(&mut resolver, vec![put(other)]);
    assert_eq!(leads_back(resolver.snapshot(), "10.1.0.1"), [""; 0]);
    assert_eq!(leads_back(resolver.snapshot(), "10.1.0.2"), ["db"]);
    let nameless = with_hostname(pod("db-0", "db", "10.1.0.2"), "db-0", "another");
    step(&mut resolver, vec![put(nameless), remove(&at(""))]);
    assert_eq!(resolver.snapshot().named.size(), 0);
}

/// J3
#[test]
fn an_endpoint_has_its_hostname_only_below_its_own_service() {
    let headless = json!({ "clusterIP": "None", "selector": { "app": "db" } });
    let db = with_hostname(pod("db-0", "db", "10.1.0.1"), "DB-0", "db");
    let objects = [service("db", &headless), service("all", &headless), db];
    let resolver = resolver(listing(objects));
    let labels = |service: &str| -> Vec<String> {
        let service = &resolver.snapshot().services.get(&name(service)).unwrap();
        let Naming::Members(members) = &service.naming else {
            panic!("not headless");
        };
        members.iter().map(|it| it.label.to_string()).collect()
    };
    assert_eq!(labels("db"), ["db-0"]);
    assert_eq!(labels("all"), ["10-1-0-1"]);
}

#[test]
fn pods_are_found_by_addresses_of_their_own() {
    let mut on_host = pod("proxy", "proxy", "10.1.0.9");
    let mut ended = pod("job", "job", "10.1.0.8");
    if let (Spec::Pod(on_host), Spec::Pod(ended)) = (&mut on_host.spec, &mut ended.spec) {
        Arc::make_mut(on_host).on_host = true;
        Arc::make_mut(ended).phase = crate::model::facts::Phase::Ended;
    }
    let client = pod("client", "client", "10.1.0.1");
    let mut resolver = resolver(listing([app("web"), client, on_host, ended]));
    let at = |snapshot: &Snapshot, address: &str| -> Vec<String> {
        let pods = snapshot.pods_at(address.parse().unwrap());
        pods.map(|it| it.name.to_string()).collect()
    };
    let before = resolver.snapshot().clone();
    assert_eq!(at(&before, "10.1.0.1"), ["client"]);
    assert_eq!(at(&before, "10.1.0.9"), [""; 0], "it is the node's");
    assert_eq!(at(&before, "10.1.0.8"), [""; 0], "it has ended");
    // No service sees it; who asks for names does.
    step(
        &mut resolver,
        vec![put(pod("client", "client", "10.1.0.2"))],
    );
    let after = resolver.snapshot();
    assert!(!after.is_same(&before));
    assert_eq!(at(after, "10.1.0.1"), [""; 0]);
    assert_eq!(at(after, "10.1.0.2"), ["client"]);
}

#[test]
fn an_address_and_its_label_lead_to_each_other() {
    for (address, label) in [
        ("10.244.0.7", "10-244-0-7"),
        ("fd00:10:244::7", "fd00-10-244--7"),
        ("::1", "--1"),
    ] {
        let address = address.parse().unwrap();
        assert_eq!(dashed(address), label);
        assert_eq!(undashed(label), Some(address));
    }
    for label in [
        "",
        "web",
        "10-244-0",
        "10-244-0-07",
        "fd00-10-244-0-0-0-0-7",
    ] {
        assert_eq!(undashed(label), None, "{label}");
    }
}
