use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{
    allocate::Allocations,
    exposure::{Exposure, NodePortAddresses},
    object::{Object, Spec},
    objects_for_tests::{app, listing, node, pod, service, slice},
    range::ServiceRange,
    resolver::{Resolver, snapshot_of},
    service::Algorithm,
};

fn plan(objects: impl IntoIterator<Item = crate::model::object::Object>) -> Plan {
    let ranges = vec![ServiceRange::new("10.96.0.0/16".parse().unwrap())];
    let resolver = Resolver::new("node-a", Algorithm::default(), ranges, Allocations::new());
    Plan::of(&snapshot_of(resolver, listing(objects)))
}

/// The document of interfaces.md: scripts rely on it.
#[test]
fn the_document_has_its_documented_form() {
    let web = service(
        "web",
        &json!({
            "clusterIP": "10.96.0.10",
            "selector": { "app": "web" },
            "sessionAffinity": "ClientIP",
            "ports": [{ "port": 80, "targetPort": 8080 }],
        }),
    );
    let taken = service(
        "zweb",
        &json!({ "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] }),
    );
    let objects = [
        web,
        taken,
        pod("web-2", "web", "10.1.0.10"),
        pod("web-1", "web", "10.1.0.9"),
        node("node-a", "east"),
    ];
    let backend = |address: &str| {
        json!({
            "address": address, "port": 8080, "weight": 1, "state": "active",
            "node": "node-a", "zone": "east",
        })
    };
    let expected = json!({
        "version": 1,
        "node": "node-a",
        "problems": [{
            "file": "", "line": 0, "column": 0, "object": "Service default/zweb",
            "field": "spec.clusterIP", "value": "10.96.0.10",
            "message": "is taken by Service default/web: choose another address",
        }],
        "frontends": [{
            "service": "default/web", "portName": "", "protocol": "TCP",
            "address": "10.96.0.10", "port": 80, "kind": "ClusterIP", "scope": "internal",
            "action": "balance", "algorithm": "round-robin", "affinitySeconds": 10800,
            "backends": [backend("10.1.0.9"), backend("10.1.0.10")],
        }],
    });
    assert_eq!(serde_json::to_value(plan(objects)).unwrap(), expected);
}

#[test]
fn an_address_that_is_kept_nowhere_is_provisional() {
    let document = serde_json::to_value(plan([app("web")])).unwrap();
    let frontend = &document["frontends"][0];
    assert_eq!(frontend["provisional"], json!(true));
    assert_eq!(frontend["action"], json!("reject"), "B7");
    assert!(plan([app("web")]).table(false).contains(":80/TCP*"));
}

/// A7, B8
#[test]
fn a_local_policy_keeps_to_this_node() {
    let local = service(
        "web",
        &json!({
            "clusterIP": "10.96.0.10",
            "selector": { "app": "web" },
            "internalTrafficPolicy": "Local",
            "ports": [{ "port": 80 }],
        }),
    );
    let action = |objects: Vec<_>| {
        let document = serde_json::to_value(plan(objects)).unwrap();
        document["frontends"][0]["action"]
            .as_str()
            .map(str::to_owned)
    };
    let here = pod("web-1", "web", "10.1.0.1");
    assert_eq!(
        action(vec![local.clone(), here]).as_deref(),
        Some("balance")
    );
    let elsewhere = slice("s", "web", &["10.1.0.2"]);
    assert_eq!(
        action(vec![local.clone(), elsewhere]).as_deref(),
        Some("drop")
    );
    assert_eq!(action(vec![local]).as_deref(), Some("reject"));
}

fn exposed(exposure: Exposure, objects: Vec<Object>) -> serde_json::Value {
    let range = |net: &str| ServiceRange::new(net.parse().unwrap());
    let ranges = vec![range("10.96.0.0/16")];
    let resolver = Resolver::new("node-a", Algorithm::default(), ranges, Allocations::new());
    let resolver = resolver.exposed(30_000..=32_767, exposure);
    serde_json::to_value(Plan::of(&snapshot_of(resolver, listing(objects)))).unwrap()
}

/// The frontends of a kind, as `address:port`; `*` behind one that is provisional.
fn frontends(plan: &serde_json::Value, kind: &str) -> Vec<String> {
    let all = plan["frontends"].as_array().unwrap().iter();
    let of_kind = all.filter(|it| it["kind"] == kind);
    let text = |it: &serde_json::Value| {
        let mark = if it["provisional"] == true { "*" } else { "" };
        format!("{}:{}{mark}", it["address"].as_str().unwrap(), it["port"])
    };
    of_kind.map(text).collect()
}

#[test]
fn load_balancers_without_an_address_get_one_from_the_pool() {
    let balancer = |name: &str, more: serde_json::Value| {
        let mut spec = json!({ "type": "LoadBalancer", "ports": [{ "port": 80 }] });
        let more = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(more);
        service(name, &spec)
    };
    let objects = || {
        vec![
            balancer("any", json!({})),
            balancer("named", json!({ "loadBalancerIP": "192.0.2.2" })),
            balancer("outside", json!({ "loadBalancerIP": "198.51.100.1" })),
            balancer(
                "theirs",
                json!({ "loadBalancerClass": "example.com/other" }),
            ),
            app("inside"),
        ]
    };
    let exposure = Exposure {
        pool: vec![ServiceRange::new("192.0.2.0/30".parse().unwrap())],
        ..Exposure::default()
    };
    let plan = exposed(exposure, objects());
    assert_eq!(
        frontends(&plan, "LoadBalancer"),
        ["192.0.2.1:80*", "192.0.2.2:80"]
    );
    let problem = plan["problems"][0]["message"].as_str().unwrap();
    let wanted = "is outside the pool of load balancers 192.0.2.0/30 (--load-balancer-pool)";
    assert_eq!(problem, wanted);
    let without = exposed(Exposure::default(), objects());
    assert_eq!(frontends(&without, "LoadBalancer"), [""; 0]);
    assert_eq!(without["problems"], json!([]));
}

/// E6
#[test]
fn external_addresses_are_off_unless_allowed_and_never_somebodys_in_the_cluster() {
    let external = json!({
        "ports": [{ "port": 80 }],
        "externalIPs": ["203.0.113.1", "10.96.1.1", "192.0.2.1", "10.244.0.9"],
    });
    let value = json!({
        "metadata": { "name": "node-a" },
        "spec": { "podCIDR": "10.244.0.0/24" },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] },
    });
    let mut here = node("node-a", "");
    here.spec = Spec::Node(serde_json::from_value(value).unwrap());
    let objects = || vec![service("web", &external), here.clone()];
    let allowed = Exposure {
        external_ips: true,
        ..Exposure::default()
    };
    let plan = exposed(allowed, objects());
    assert_eq!(frontends(&plan, "ExternalIP"), ["203.0.113.1:80"]);
    assert_eq!(plan["problems"].as_array().unwrap().len(), 3);
    let plan = exposed(Exposure::default(), objects());
    assert_eq!(frontends(&plan, "ExternalIP"), [""; 0]);
    assert_eq!(plan["problems"].as_array().unwrap().len(), 4);
}

/// A NodePort is listed once for each node address that serves it.
#[test]
fn node_ports_answer_at_the_nodes_addresses() {
    let value = json!({
        "metadata": { "name": "node-a" },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "192.0.2.1" },
            { "type": "InternalIP", "address": "192.0.2.2" },
            { "type": "InternalIP", "address": "fd00::1" },
            { "type": "ExternalIP", "address": "198.51.100.1" },
        ] },
    });
    let mut here = node("node-a", "");
    here.spec = Spec::Node(serde_json::from_value(value).unwrap());
    let spec = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30_080 }] });
    let objects = || vec![service("web", &spec), here.clone()];
    let within = |ranges: &[&str]| Exposure {
        node_port_addresses: NodePortAddresses::Within(
            ranges.iter().map(|it| it.parse().unwrap()).collect(),
        ),
        ..Exposure::default()
    };
    for (exposure, wanted) in [
        (Exposure::default(), &["192.0.2.1:30080"][..]),
        (
            within(&["192.0.2.0/24", "198.51.100.0/24"]),
            &["192.0.2.1:30080", "192.0.2.2:30080", "198.51.100.1:30080"],
        ),
        (within(&["203.0.113.0/24"]), &[]),
    ] {
        assert_eq!(frontends(&exposed(exposure, objects()), "NodePort"), wanted);
    }
}

proptest! {
    #![proptest_config(crate::repeatable::config(48))]

    /// `plan` is a function of the objects, not of their order (G2, G3, A12).
    #[test]
    fn the_order_of_the_objects_does_not_matter(
        order in Just((0..24_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let objects = some_of_everything();
        prop_assert_eq!(objects.len(), order.len());
        let shuffled = order.into_iter().filter_map(|index| objects.get(index).cloned());
        prop_assert_eq!(plan(shuffled), plan(objects.clone()));
    }
}

fn some_of_everything() -> Vec<Object> {
    let mut objects = vec![node("node-a", "east"), node("node-b", "west")];
    for number in 0..5_u8 {
        objects.push(app(&format!("auto-{number}")));
        objects.push(pod(
            &format!("pod-{number}"),
            &format!("auto-{}", number / 2),
            &format!("10.1.0.{}", number / 2),
        ));
        let spec = json!({
            "type": "NodePort",
            "clusterIP": format!("10.96.0.{}", number / 2),
            "ports": [{ "port": 80, "nodePort": 30_000 + i32::from(number / 2) }],
        });
        objects.push(service(&format!("named-{number}"), &spec));
    }
    for number in 0..7_u8 {
        objects.push(slice(
            &format!("slice-{number}"),
            &format!("auto-{}", 4 - number / 2),
            &[&format!("10.1.0.{number}"), "10.1.0.200"],
        ));
    }
    objects
}
