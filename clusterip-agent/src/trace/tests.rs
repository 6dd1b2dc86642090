//! Packets of made-up clusters, from objects to the verdict.

use super::*;
use crate::{
    model::{
        allocate::Allocations,
        objects_for_tests::{app, listing, pod},
        resolver::{Resolver, snapshot_of},
        service::Algorithm,
    },
    plan::{Layout, Limits},
};

fn ask(protocol: Transport, to: &str, flags: u8, via: Via) -> Trace {
    let range = crate::model::range::ServiceRange::new("10.96.0.0/16".parse().expect("a range"));
    let resolver = Resolver::new(
        "node-a",
        Algorithm::RoundRobin,
        vec![range],
        Allocations::new(),
    );
    let objects = [
        app("web"),
        app("idle"),
        pod("web-1", "web", "10.1.0.1"),
        pod("web-2", "web", "10.1.0.2"),
    ];
    let snapshot = snapshot_of(resolver, listing(objects));
    let mut layout = Layout::new(Limits {
        services: 64,
        backends: 64,
        slots: 128,
    });
    let mut index = Index::default();
    for (name, service) in &snapshot.services {
        layout.place(service).expect("room");
        index.update(name, &layout);
    }
    let settings = Settings {
        service_v4: clusterip_common::abi::Range::new(Addr::v4([10, 96, 0, 0]), 96 + 16),
        ..Settings::DEFAULT
    };
    let to = match to {
        "web" | "idle" => {
            let name = crate::model::object::ObjectName::new("default", to);
            let places = index.services.get(&name).expect("a place");
            let key = places
                .first()
                .expect("a port")
                .frontends
                .first()
                .expect("a frontend");
            SocketAddr::new(key.address.into(), key.port.get())
        }
        text => text.parse().expect("an address"),
    };
    let question = Question {
        from: "10.1.0.9:40000".parse().expect("an address"),
        to,
        protocol,
        flags,
        via,
    };
    trace(&question, layout.tables().clone(), settings, &index)
}

const SYN: u8 = 2;
const ACK: u8 = 16;

#[test]
fn a_syn_to_a_service_gets_a_backend_and_every_step_is_told() {
    let trace = ask(Transport::Tcp, "web", SYN, Via::Pod);
    assert_eq!(
        (&*trace.verdict, &*trace.outcome),
        ("translate", "new-flow")
    );
    assert_eq!(trace.service, "default/web");
    assert_eq!(trace.backends.len(), 2);
    assert_eq!(trace.chosen, trace.backends.first().copied(), "{trace:#?}");
    assert!(!trace.source_rewritten);
    let steps = trace.steps.join("\n");
    for step in [
        "a pod sends TCP 10.1.0.9:40000 -> 10.96.",
        "belongs to no flow",
        "is default/web: 2 slots, round-robin",
        "turn 0 of default/web (B1)",
        "slot 0 holds backend id 0",
        "translate, to 10.1.0.1:",
    ] {
        assert!(steps.contains(step), "{step:?} is not in\n{steps}");
    }
}

#[test]
fn what_is_not_translated_has_its_verdict_too() {
    for (protocol, to, flags, via, verdict, outcome) in [
        (
            Transport::Tcp,
            "idle",
            SYN,
            Via::Pod,
            "reject",
            "no-endpoint",
        ),
        (Transport::Tcp, "web", ACK, Via::Pod, "reject", "no-flow"),
        (
            Transport::Tcp,
            "192.0.2.1:80",
            SYN,
            Via::Pod,
            "pass",
            "not-ours",
        ),
        (
            Transport::Tcp,
            "10.96.255.1:80",
            SYN,
            Via::Pod,
            "drop",
            "unallocated",
        ),
        (Transport::Icmp, "web", 0, Via::Pod, "answer", "ping"),
        (
            Transport::Tcp,
            "web",
            SYN,
            Via::Uplink,
            "drop",
            "from-outside",
        ),
        (
            Transport::Tcp,
            "web",
            SYN,
            Via::Host,
            "translate",
            "socket-new-flow",
        ),
        (
            Transport::Tcp,
            "idle",
            SYN,
            Via::Host,
            "reject",
            "socket-no-endpoint",
        ),
        (
            Transport::Udp,
            "192.0.2.1:80",
            0,
            Via::Host,
            "pass",
            "not-ours",
        ),
    ] {
        let trace = ask(protocol, to, flags, via);
        let found = (trace.verdict.as_str(), trace.outcome.as_str());
        assert_eq!(found, (verdict, outcome), "{to} {via:?}: {trace:#?}");
    }
}
