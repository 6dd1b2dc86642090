//! J1-J8 against the pure function: the table of `tests/names`, which `netns/names.rs` asks on the wire too.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "a test target is nothing but tests"
)]

use std::{env, fs, path::Path, str::FromStr as _, sync::Arc};

use clusterip_agent::{
    dns::{
        answer::{Answer, answer},
        state::State,
        zone::Zone,
    },
    model::{
        allocate::Allocations,
        range::ServiceRange,
        resolver::{Resolver, snapshot_of},
        service::Algorithm,
        validate::Rules,
    },
    source::{kube_dns::KubeDns, manifests},
};
use clusterip_tests::names::{Exchange, of_answer, table, written};
use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{Name, RecordType},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/names");

fn zone(pod_records: bool) -> Zone {
    let ranges = ["10.96.0.0/16", "fd00:10:96::/112"].map(|net| net.parse().unwrap());
    Zone::new("cluster.local", ranges.to_vec(), pod_records).unwrap()
}

fn state() -> State {
    let events = manifests::once(Path::new(FOLDER), Rules::default()).unwrap();
    let ranges = ["10.96.0.0/16", "fd00:10:96::/112"].map(|net| net.parse().unwrap());
    let ranges = ranges.map(ServiceRange::new).to_vec();
    let listener = "10.244.0.1:53".parse().unwrap();
    let mut kube_dns = KubeDns::new(&[listener], None, &ranges).unwrap();
    let events = kube_dns.follow(events);
    let resolver = Resolver::new("node-a", Algorithm::default(), ranges, Allocations::new());
    let snapshot = snapshot_of(resolver, events);
    assert_eq!(snapshot.problems(), []);
    State {
        snapshot,
        unanswered: Arc::default(),
        serial: 1,
    }
}

fn query(name: &str, kind: &str) -> Query {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    Query::query(name, RecordType::from_str(kind).unwrap())
}

fn ask(state: &State, pod_records: bool, name: &str, kind: &str) -> Vec<String> {
    of_answer(&answer(&zone(pod_records), Some(state), &query(name, kind)))
}

/// J1, J2, J3, J4, J5, J7 (the TTL), J8
#[test]
fn each_question_of_the_table_has_its_answer() {
    let path = Path::new(FOLDER).join("table.txt");
    let expected = table(&fs::read_to_string(&path).unwrap()).unwrap();
    let state = state();
    let found: Vec<Exchange> = expected
        .iter()
        .map(|exchange| Exchange {
            said: ask(&state, false, &exchange.name, &exchange.kind),
            ..exchange.clone()
        })
        .collect();
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(path, written(&found)).unwrap();
        return;
    }
    for (expected, found) in expected.iter().zip(&found) {
        let Exchange { name, kind, .. } = expected;
        assert_eq!(expected.said, found.said, "{name} {kind}");
    }
}

/// J6
#[test]
fn before_the_first_state_nothing_is_known_to_be_absent() {
    let zone = zone(false);
    for (name, kind) in [
        ("web.default.svc.cluster.local", "A"),
        ("absent.default.svc.cluster.local", "A"),
        ("cluster.local", "SOA"),
        ("20.0.96.10.in-addr.arpa", "PTR"),
    ] {
        match answer(&zone, None, &query(name, kind)) {
            Answer::Reply(reply) => {
                assert_eq!(reply.code, ResponseCode::ServFail, "{name}");
                assert!(reply.answers.is_empty() && reply.authorities.is_empty());
            }
            elsewhere @ Answer::Elsewhere { .. } => panic!("{name}: {elsewhere:?}"),
        }
    }
    let outside = answer(&zone, None, &query("example.com", "A"));
    assert!(matches!(outside, Answer::Elsewhere { .. }), "{outside:?}");
}

#[test]
fn a_service_whose_address_is_not_in_the_maps_is_a_failure_and_no_absence() {
    let mut state = state();
    let web = state.snapshot.services.keys().find(|it| &*it.name == "web");
    state.unanswered = Arc::new([web.unwrap().clone()].into());
    for name in [
        "web.default.svc.cluster.local",
        "_tcp.web.default.svc.cluster.local",
    ] {
        assert_eq!(ask(&state, false, name, "A"), ["SERVFAIL"], "{name}");
    }
}

#[test]
fn pods_have_names_made_of_their_addresses_where_that_is_wanted() {
    let state = state();
    let ask = |name: &str, kind| ask(&state, true, name, kind);
    let record = |kind, address: &str| {
        let name = address.replace(['.', ':'], "-");
        let name = format!("{name}.prod.pod.cluster.local");
        let wanted = format!("answer {name}. 5 IN {kind} {address}");
        assert_eq!(ask(&name, kind), ["NOERROR aa", &wanted]);
    };
    record("A", "10.244.0.30");
    record("AAAA", "fd00:10:244::30");
    for (name, code) in [
        ("10-244-0-30.default.pod.cluster.local", "NXDOMAIN aa"),
        ("10-244-0-99.prod.pod.cluster.local", "NXDOMAIN aa"),
        ("db-0.prod.pod.cluster.local", "NXDOMAIN aa"),
        ("prod.pod.cluster.local", "NOERROR aa"),
        ("pod.cluster.local", "NOERROR aa"),
        ("absent.pod.cluster.local", "NXDOMAIN aa"),
    ] {
        assert_eq!(ask(name, "A")[0], code, "{name}");
    }
}
