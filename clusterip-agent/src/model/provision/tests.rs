//! Addresses are given once, kept, and never taken from anybody.

use serde_json::{Value, json};

use super::*;
use crate::model::{facts::Names, objects_for_tests::name};

const CLASS: &str = "clusterip.dev/pool";

fn pool(nets: &[&str]) -> Pool {
    let ranges = nets.iter().map(|net| net.parse().unwrap());
    Pool::new(ranges.map(ServiceRange::new).collect())
}

fn provision(more: &Value, ingress: &Value) -> Option<Provision> {
    let mut spec = json!({
        "type": "LoadBalancer", "loadBalancerClass": CLASS, "clusterIPs": ["10.96.0.1"], "ports": [{ "port": 80 }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let service = json!({ "spec": spec, "status": { "loadBalancer": { "ingress": ingress } } });
    let service = serde_json::from_value(service).unwrap();
    Provision::of(&Service::of(&service, &mut Names::default()), CLASS)
}

fn own(more: &Value, addresses: &[&str]) -> Provision {
    let ingress: Vec<Value> = addresses.iter().map(|it| json!({ "ip": it })).collect();
    provision(more, &json!(ingress)).unwrap()
}

fn all(services: &[(&str, Provision)]) -> BTreeMap<ObjectName, Provision> {
    let all = services.iter();
    all.map(|(it, provision)| (name(it), provision.clone()))
        .collect()
}

fn grants(outcome: &Outcome) -> Vec<String> {
    let grants = outcome.grants.iter();
    let words = grants.map(|(name, addresses)| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        format!("{} {}", name.name, addresses.join(" "))
    });
    words.collect()
}

fn faults(outcome: &Outcome, it: &str) -> String {
    let faults = outcome.faults.get(&name(it)).into_iter().flatten();
    let words = faults.map(|it| format!("{} {} {}", it.field, it.value, it.message));
    words.collect::<Vec<_>>().join("; ")
}

#[test]
fn g4_each_gets_an_address_of_its_own_and_keeps_it() {
    let pool = pool(&["192.0.2.0/29"]);
    let mut services: Vec<(String, Provision)> = (0..6)
        .map(|number| (format!("web-{number}"), own(&json!({}), &[])))
        .collect();
    let mut statuses = BTreeMap::new();
    // One after the other, each time with what was given until then.
    for _ in 0..6 {
        let known: Vec<(&str, Provision)> = services
            .iter()
            .map(|(it, provision)| (it.as_str(), provision.clone()))
            .collect();
        let outcome = pool.assign(&all(&known), &Reserved::new());
        let (first, addresses) = outcome.grants.iter().next().unwrap();
        assert_eq!(addresses.len(), 1);
        assert!(
            statuses.insert(addresses[0], first.clone()).is_none(),
            "{addresses:?} twice"
        );
        let text = addresses[0].to_string();
        for (it, provision) in &mut services {
            if name(it) == *first {
                *provision = own(&json!({}), &[&text]);
            }
        }
    }
    let mut known: Vec<(&str, Provision)> = services
        .iter()
        .map(|(it, provision)| (it.as_str(), provision.clone()))
        .collect();
    assert_eq!(
        pool.assign(&all(&known), &Reserved::new()),
        Outcome::default()
    );
    // G6
    known.push(("late", own(&json!({}), &[])));
    let outcome = pool.assign(&all(&known), &Reserved::new());
    assert_eq!(grants(&outcome), <[String; 0]>::default());
    assert!(faults(&outcome, "late").contains("192.0.2.0/29 is full, all 6 addresses"));
}

#[test]
fn who_is_of_another_class_or_of_none_is_let_alone_and_what_it_has_is_taken() {
    for class in [json!(null), json!("example.com/other")] {
        let mut spec = json!({});
        spec["loadBalancerClass"] = class;
        let idle = provision(&spec, &json!(null)).unwrap();
        assert!(!idle.is_own());
        let outcome = pool(&["192.0.2.0/29"]).assign(&all(&[("web", idle)]), &Reserved::new());
        assert_eq!(outcome, Outcome::default());
        // A pool of one address, which somebody else has.
        let has = provision(&spec, &json!([{ "ip": "192.0.2.1" }])).unwrap();
        let both = all(&[("other", has), ("web", own(&json!({}), &[]))]);
        let outcome = pool(&["192.0.2.0/30"]).assign(&both, &Reserved::new());
        assert_eq!(grants(&outcome), ["web 192.0.2.2"]);
    }
    // Nor a class of ours that somebody else answers for by a name, or as a proxy; nor other types.
    for ingress in [
        json!([{ "hostname": "lb.example" }]),
        json!([{ "ip": "192.0.2.1", "ipMode": "Proxy" }]),
    ] {
        assert!(!provision(&json!({}), &ingress).unwrap().is_own());
    }
    assert_eq!(
        provision(&json!({ "type": "NodePort" }), &json!(null)),
        None
    );
}

#[test]
fn what_another_agent_is_about_to_write_is_taken_and_is_that_services() {
    let pool = pool(&["192.0.2.0/30"]);
    let both = all(&[("a", own(&json!({}), &[])), ("b", own(&json!({}), &[]))]);
    for (first, second) in [("192.0.2.1", "192.0.2.2"), ("192.0.2.2", "192.0.2.1")] {
        let reserved: Reserved = [(name("b"), [first.parse().unwrap()].into())].into();
        let outcome = pool.assign(&both, &reserved);
        assert_eq!(
            grants(&outcome),
            [format!("a {second}"), format!("b {first}")]
        );
    }
    // Of a service that nobody here has heard of yet, too.
    let reserved: Reserved = [(name("new"), ["192.0.2.1".parse().unwrap()].into())].into();
    let outcome = pool.assign(&both, &reserved);
    assert_eq!(grants(&outcome), ["a 192.0.2.2"]);
    assert!(faults(&outcome, "b").contains("is full"));
}

#[test]
fn an_address_that_is_asked_for_by_name_is_given_if_it_can_be() {
    let pool = pool(&["192.0.2.0/29"]);
    let named = |address: &str| json!({ "loadBalancerIP": address });
    let given = |services: &[(&str, Provision)]| pool.assign(&all(services), &Reserved::new());
    // Also when it has another one, which it lets go.
    for has in [&[][..], &["192.0.2.3"]] {
        let outcome = given(&[("web", own(&named("192.0.2.5"), has))]);
        assert_eq!(grants(&outcome), ["web 192.0.2.5"]);
    }
    // The older one comes first; the other one gets nothing that nobody asked for, and keeps what it has.
    let at = |time: &str, has: &[&str]| {
        let mut provision = own(&named("192.0.2.5"), has);
        provision.asks.as_mut().unwrap().created = Some(time.parse().unwrap());
        provision
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    for has in [&[][..], &["192.0.2.3"]] {
        let outcome = given(&[("a", at(new, has)), ("b", at(old, &[]))]);
        assert_eq!(grants(&outcome), ["b 192.0.2.5"]);
        assert!(faults(&outcome, "a").contains("is taken by Service default/b"));
    }
    for (address, words) in [
        (
            "198.51.100.1",
            "is no usable address of --load-balancer-pool",
        ),
        ("192.0.2.7", "is no usable address"),
        (
            "2001:db8::1",
            "is IPv6, of which the service has no address",
        ),
        ("192.0.2.05", "is not an IP address"),
    ] {
        let outcome = given(&[("web", own(&named(address), &[]))]);
        assert_eq!(grants(&outcome), <[String; 0]>::default(), "{address}");
        let said = faults(&outcome, "web");
        assert!(said.contains(words) && said.contains(address), "{said}");
    }
}

#[test]
fn g5_there_is_one_of_each_family_that_the_service_and_the_pool_have() {
    let both =
        json!({ "clusterIPs": ["fd00::1", "10.96.0.1"], "ipFamilyPolicy": "PreferDualStack" });
    let given = |nets: &[&str], provision| {
        let outcome = pool(nets).assign(&all(&[("web", provision)]), &Reserved::new());
        (grants(&outcome), faults(&outcome, "web"))
    };
    let v4 = "192.0.2.0/30";
    // Half of the addresses of so small a range, and from a place that the name gives.
    let (first, said) = given(&[v4, "2001:db8::/127"], own(&both, &["192.0.2.1"]));
    assert_eq!(
        (first, said),
        (vec!["web 2001:db8::1 192.0.2.1".to_owned()], String::new())
    );
    let (one, said) = given(&[v4], own(&both, &[]));
    assert!(
        one[0].starts_with("web 192.0.2.") && said.is_empty(),
        "{one:?} {said}"
    );
    let mut required = both;
    required["ipFamilyPolicy"] = json!("RequireDualStack");
    let (one, said) = given(&[v4], own(&required, &[]));
    assert!(one[0].starts_with("web 192.0.2."), "{one:?}");
    assert!(said.contains("there is no IPv6 pool"), "{said}");
    let (none, said) = given(&["2001:db8::/64"], own(&json!({}), &[]));
    assert!(
        none.is_empty() && said.contains("there is no IPv4 pool"),
        "{said}"
    );
    // A downgrade releases the second one.
    let has = own(&json!({}), &["192.0.2.1", "2001:db8::1"]);
    let (one, said) = given(&[v4, "2001:db8::/127"], has);
    assert_eq!(
        (one, said),
        (vec!["web 192.0.2.1".to_owned()], String::new())
    );
}

#[test]
fn what_is_outside_of_the_pool_or_twice_stays_and_is_said() {
    let pool = pool(&["192.0.2.0/29"]);
    let outcome = pool.assign(
        &all(&[("web", own(&json!({}), &["198.51.100.1"]))]),
        &Reserved::new(),
    );
    assert_eq!(grants(&outcome), <[String; 0]>::default());
    assert!(faults(&outcome, "web").contains("198.51.100.1 is no usable address"));
    let twice = ["a", "b"].map(|it| (it, own(&json!({}), &["192.0.2.1"])));
    let outcome = pool.assign(&all(&twice), &Reserved::new());
    assert_eq!(grants(&outcome), <[String; 0]>::default());
    assert!(faults(&outcome, "a").contains("is that of Service default/b too"));
}

#[test]
fn g4_a_released_address_rests_except_for_who_had_it() {
    let mut pool = pool(&["192.0.2.0/30"]);
    let at = Duration::from_secs;
    let full = all(&[
        ("a", own(&json!({}), &["192.0.2.1"])),
        ("b", own(&json!({}), &["192.0.2.2"])),
    ]);
    pool.see(&full, at(100));
    let without = all(&[
        ("b", own(&json!({}), &["192.0.2.2"])),
        ("c", own(&json!({}), &[])),
    ]);
    pool.see(&without, at(200));
    let outcome = pool.assign(&without, &Reserved::new());
    assert_eq!(grants(&outcome), <[String; 0]>::default());
    assert_eq!(pool.rested(), Some(at(260)));
    let again = all(&[
        ("a", own(&json!({}), &[])),
        ("b", own(&json!({}), &["192.0.2.2"])),
    ]);
    assert_eq!(
        grants(&pool.assign(&again, &Reserved::new())),
        ["a 192.0.2.1"]
    );
    pool.see(&without, at(260));
    assert_eq!(
        grants(&pool.assign(&without, &Reserved::new())),
        ["c 192.0.2.1"]
    );
    assert_eq!(pool.rested(), None);
}
