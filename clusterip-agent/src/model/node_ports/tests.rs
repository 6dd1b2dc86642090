use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    event::Event,
    object::Object,
    objects_for_tests::{listing, name, put, remove, service},
};

fn settle(ports: &mut NodePorts, cluster: &mut Cluster, events: Vec<Event>) -> Vec<Vec<u16>> {
    let mut touched = BTreeSet::new();
    for event in events {
        cluster.apply(event, &mut touched);
    }
    ports.settle(cluster, &mut touched);
    let numbers = |name| ports.of(name).iter().map(|it| it.node_port).collect();
    let names: BTreeSet<&ObjectName> = cluster.services().collect();
    names.into_iter().map(numbers).collect()
}

fn fresh(range: RangeInclusive<u16>) -> (NodePorts, Cluster) {
    (NodePorts::new(range, KeptPorts::new()), Cluster::default())
}

fn node_port(name: &str, ports: &Value) -> Object {
    service(name, &json!({ "type": "NodePort", "ports": ports }))
}

fn auto(name: &str) -> Object {
    node_port(name, &json!([{ "port": 80 }]))
}

fn message(ports: &NodePorts, service: &str) -> String {
    let faults = ports.faults(&name(service)).iter();
    let texts = faults.map(|it| format!("{} {}: {}", it.field, it.value, it.message));
    texts.collect::<Vec<_>>().join("\n")
}

/// G3
#[test]
fn the_lower_band_comes_last() {
    for (range, band) in [
        (30_000..=32_767, 86),
        (1..=16, 0),
        (1..=17, 16),
        (1..=1024, 32),
        (1..=65_535, 128),
    ] {
        let all: Vec<u16> = candidates(&range, 12_345).collect();
        assert_eq!(all.len(), range.len(), "each once: {range:?}");
        let unique: BTreeSet<u16> = all.iter().copied().collect();
        assert_eq!(unique, range.clone().collect(), "{range:?}");
        let upper = range.len() - band;
        let limit = range.start() + u16::try_from(band).unwrap();
        assert!(all[..upper].iter().all(|it| *it >= limit), "{range:?}");
    }
}

/// G3
#[test]
fn one_port_may_share_its_number_between_protocols_and_no_other_may_have_it() {
    let (mut ports, mut cluster) = fresh(30_000..=32_767);
    let dns = node_port(
        "dns",
        &json!([
            { "name": "udp", "port": 53, "protocol": "UDP" },
            { "name": "tcp", "port": 53, "protocol": "TCP" },
            { "name": "metrics", "port": 9153 },
        ]),
    );
    let all = settle(&mut ports, &mut cluster, listing([dns]));
    let [tcp, udp, metrics] = all[0][..] else {
        panic!("{all:?}");
    };
    assert_eq!(tcp, udp);
    assert_ne!(tcp, metrics);
    let rival = node_port(
        "rival",
        &json!([{ "port": 53, "nodePort": tcp, "protocol": "SCTP" }]),
    );
    settle(&mut ports, &mut cluster, vec![put(rival)]);
    let wanted = format!(
        "spec.ports[0].nodePort {tcp}: is taken by Service default/dns: choose another number"
    );
    assert_eq!(message(&ports, "rival"), wanted);
    let twice = node_port(
        "twice",
        &json!([
            { "name": "a", "port": 1, "nodePort": 30_001, "protocol": "TCP" },
            { "name": "b", "port": 2, "nodePort": 30_001, "protocol": "UDP" },
        ]),
    );
    settle(&mut ports, &mut cluster, vec![put(twice)]);
    assert!(message(&ports, "twice").contains("another port of this service"));
}

/// G4
#[test]
fn who_has_a_number_keeps_it_over_restarts_and_gives_it_back() {
    let (mut ports, mut cluster) = fresh(30_000..=32_767);
    let before = settle(&mut ports, &mut cluster, listing([auto("web")]));
    assert!(ports.of(&name("web"))[0].provisional);
    ports.saved(&mut BTreeSet::new());
    assert!(!ports.of(&name("web"))[0].provisional);
    let number = before[0][0];
    let rival = node_port("a-rival", &json!([{ "port": 80, "nodePort": number }]));
    let mut next = NodePorts::new(30_000..=32_767, ports.kept());
    let mut cluster = Cluster::default();
    let both = listing([auto("web"), rival]);
    assert_eq!(
        settle(&mut next, &mut cluster, both),
        [vec![], vec![number]]
    );
    // An update keeps it, another type gives it back; who waited for it gets it.
    assert_eq!(
        settle(&mut next, &mut cluster, vec![put(auto("web"))]),
        [vec![], vec![number]]
    );
    let inside = service("web", &json!({ "ports": [{ "port": 80 }] }));
    assert_eq!(
        settle(&mut next, &mut cluster, vec![put(inside)]),
        [vec![number], vec![]]
    );
    assert_eq!(message(&next, "a-rival"), "");
}

/// G6
#[test]
fn a_full_range_a_number_outside_and_a_taken_one_have_their_own_errors() {
    let (mut ports, mut cluster) = fresh(30_000..=30_001);
    let outside = node_port("outside", &json!([{ "port": 80, "nodePort": 31_000 }]));
    let objects = [auto("a"), auto("b"), auto("c"), outside];
    let all = settle(&mut ports, &mut cluster, listing(objects));
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert!(message(&ports, "c").contains("the range of node ports is full, 30000 to 30001"));
    assert!(message(&ports, "outside").contains("is outside the range of node ports"));
    settle(&mut ports, &mut cluster, vec![remove(&auto("a"))]);
    assert_eq!(message(&ports, "c"), "");
    assert_eq!(
        ports.of(&name("c")).len(),
        1,
        "who waits gets what is released"
    );
}

#[test]
fn only_what_is_reachable_from_outside_has_node_ports() {
    let (mut ports, mut cluster) = fresh(30_000..=32_767);
    let of = |kind: &str, extra: Value| {
        let mut spec = json!({ "type": kind, "ports": [{ "port": 80 }] });
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        service("web", &spec)
    };
    let none = json!({ "allocateLoadBalancerNodePorts": false });
    for (object, count) in [
        (of("ClusterIP", json!({})), 0),
        (of("NodePort", json!({})), 1),
        (of("LoadBalancer", json!({})), 1),
        (of("LoadBalancer", none), 0),
    ] {
        let all = settle(&mut ports, &mut cluster, listing([object]));
        assert_eq!(all[0].len(), count);
    }
}

/// G3, E7: the number that load balancers ask for health is one of the same range, and belongs to one service.
#[test]
fn a_health_check_has_a_number_of_its_own() {
    let balancer = |name: &str, policy: &str, number: u16| {
        let spec = json!({
            "type": "LoadBalancer",
            "ports": [{ "port": 80, "nodePort": 30_080 + u16::from(name == "b") }],
            "externalTrafficPolicy": policy,
            "healthCheckNodePort": number,
        });
        service(name, &spec)
    };
    let (mut ports, mut cluster) = fresh(30_000..=32_767);
    let both = [balancer("a", "Local", 0), balancer("b", "Local", 30_080)];
    settle(&mut ports, &mut cluster, listing(both));
    let of = |ports: &NodePorts, service: &str| ports.health_check(&name(service));
    let number = of(&ports, "a").unwrap();
    assert_ne!(number, 30_080);
    assert_eq!(
        ports.of(&name("a")).len(),
        1,
        "it is no port of the service"
    );
    assert_eq!(of(&ports, "b"), None);
    let taken = message(&ports, "b");
    assert!(
        taken.starts_with("spec.healthCheckNodePort 30080: is taken by Service default/a"),
        "{taken}"
    );
    // G4: over a restart, and as long as it is needed.
    let mut next = NodePorts::new(30_000..=32_767, ports.kept());
    settle(&mut next, &mut cluster, vec![]);
    assert_eq!(of(&next, "a"), Some(number));
    let rival = node_port("rival", &json!([{ "port": 80, "nodePort": number }]));
    settle(&mut next, &mut cluster, vec![put(rival)]);
    assert!(message(&next, "rival").contains("is taken by Service default/a"));
    settle(
        &mut next,
        &mut cluster,
        vec![put(balancer("a", "Cluster", 0))],
    );
    assert_eq!(of(&next, "a"), None);
    assert_eq!(message(&next, "rival"), "");
}

proptest! {
    #![proptest_config(crate::repeatable::config(64))]

    /// G3, G4: under any sequence of changes no number has two owners, and restarts change nothing.
    #[test]
    fn no_number_is_given_twice(steps in prop::collection::vec((0..6_u8, 0..5_u8), 1..40)) {
        let range = 30_000..=30_005_u16;
        let (mut ports, mut cluster) = fresh(range.clone());
        settle(&mut ports, &mut cluster, listing([]));
        for (service_number, what) in steps {
            let service_name = format!("s{service_number}");
            let object = match what {
                0 | 1 => auto(&service_name),
                2 => node_port(&service_name, &json!([{ "port": 80, "nodePort": 30_002 }])),
                3 => node_port(&service_name, &json!([
                    { "name": "a", "port": 53 }, { "name": "b", "port": 53, "protocol": "UDP" },
                ])),
                _ => {
                    settle(&mut ports, &mut cluster, vec![remove(&auto(&service_name))]);
                    continue;
                }
            };
            settle(&mut ports, &mut cluster, vec![put(object)]);
            let mut owners: BTreeMap<u16, (ObjectName, u16)> = BTreeMap::new();
            for (owner, numbers) in ports.kept() {
                for (key, number) in numbers {
                    let before = owners.insert(number, (owner.clone(), key.port));
                    prop_assert!(before.is_none_or(|it| it == (owner.clone(), key.port)));
                }
            }
            prop_assert_eq!(NodePorts::new(range.clone(), ports.kept()).kept(), ports.kept());
        }
    }
}
