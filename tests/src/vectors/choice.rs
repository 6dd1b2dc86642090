//! Choosing: affinity, policies, and destinations that no service has.

use clusterip_common::{
    abi::{Algorithm, BackendState, Outcome, ServiceFlags},
    packet::Verdict,
};

use crate::{
    case::{Case, case},
    packet::{other, port_unreachable, tcp, udp},
    world::{World, nothing, service},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);

const CLIENT: &str = "10.244.0.5";
const VIP: &str = "10.96.0.10:80";
const PODS: [&str; 2] = ["10.244.1.1:8080", "10.244.1.2:8080"];

fn affine() -> World {
    service("10.96.0.10:80/tcp", &PODS).heads(|head| head.affinity = 100)
}

fn without_affinity(world: &mut World) {
    *world = std::mem::take(world).heads(|head| head.affinity = 0);
}

fn first_drains(world: &mut World) {
    world.change(0, |backend| backend.state = BackendState::DRAINING);
}

fn first_is_another(world: &mut World) {
    world.change(0, |backend| backend.generation += 1);
}

/// A SYN from one of the client's ports goes to a pod.
fn syn(case: Case, port: u16, pod: &str) -> Case {
    let client = format!("{CLIENT}:{port}");
    case.sends(&tcp(&client, VIP).syn(), NEW, &tcp(&client, pod).syn())
}

pub(super) fn cases() -> Vec<Case> {
    let [first, second] = PODS;
    let local = |head: &mut clusterip_common::abi::Service| head.flags = ServiceFlags::LOCAL;
    let dropped = Verdict::Drop;
    let from = format!("{CLIENT}:9");
    vec![
        {
            let case = case(
                "a client keeps its backend whatever its port",
                "B3",
                affine(),
            );
            let case = syn(syn(syn(case, 1_001, first), 1_002, first), 1_003, first);
            // Another client takes the next turn.
            let other = "10.244.0.6:1001";
            case.sends(&tcp(other, VIP).syn(), NEW, &tcp(other, second).syn())
        },
        {
            let case = case(
                "affinity is refreshed by each new flow and ends at its time",
                "B3",
                affine(),
            );
            let case = syn(syn(case, 1_001, first).later(99), 1_002, first).later(99);
            let case = syn(case, 1_003, first).later(100);
            syn(case, 1_004, second)
        },
        {
            let case = case(
                "an affine backend that takes no new flows is a miss, not a drop",
                "B4",
                affine(),
            );
            syn(syn(case, 1_001, first).then(first_drains), 1_002, second)
        },
        {
            let case = case(
                "an affine backend whose id has another owner is a miss",
                "B4 C10",
                affine(),
            );
            syn(
                syn(case, 1_001, first).then(first_is_another),
                1_002,
                second,
            )
        },
        {
            let case = case(
                "affinity that is switched off does not count from the next flow on",
                "B5",
                affine(),
            );
            syn(
                syn(syn(case, 1_001, first), 1_002, first).then(without_affinity),
                1_003,
                second,
            )
        },
        case(
            "Maglev takes the same slot for the same flow, and with affinity whatever the port",
            "B2 B6",
            service("10.96.0.10:80/udp", &[first, first, first]).heads(|head| {
                head.algorithm = Algorithm::MAGLEV;
                head.affinity = 100;
            }),
        )
        .sends(&udp(&from, VIP), NEW, &udp(&from, first)),
        case(
            "random and least connections take a slot of the service",
            "B2",
            service("10.96.0.10:80/udp", &[first])
                .heads(|head| head.algorithm = Algorithm::LEAST_CONNECTIONS),
        )
        .sends(&udp(&from, VIP), NEW, &udp(&from, first)),
        case(
            "without a local endpoint a Local policy drops",
            "B8",
            service("10.96.0.10:80/tcp", &[]).heads(local),
        )
        .sends_untouched(&tcp(&from, VIP).syn(), dropped(Outcome::NoLocalEndpoint)),
        case(
            "another port of a live service address is rejected",
            "B9",
            affine(),
        )
        .sends(
            &tcp(&from, "10.96.0.10:81").syn().numbers(1, 0),
            Verdict::Reply(Outcome::NoService),
            &tcp("10.96.0.10:81", &from)
                .rst()
                .ack()
                .numbers(0, 2)
                .turned(),
        )
        .sends(
            &udp(&from, VIP),
            Verdict::Reply(Outcome::NoService),
            &port_unreachable(&udp(&from, VIP)),
        ),
        case(
            "an address of the range that no service has is dropped",
            "B9",
            nothing(),
        )
        .sends_untouched(&tcp(&from, VIP).syn(), dropped(Outcome::Unallocated))
        .sends_untouched(&tcp(&from, VIP).ack(), dropped(Outcome::Unallocated))
        .sends_untouched(
            &udp("[fd00:10:244::5]:9", "[fd00:10:96::a]:9"),
            dropped(Outcome::Unallocated),
        ),
        case(
            "another protocol is never sent to a backend",
            "B10",
            affine(),
        )
        .sends_untouched(
            &other(47, CLIENT, "10.96.0.10"),
            dropped(Outcome::OtherProtocol),
        )
        .sends_untouched(
            &other(47, "fd00:10:244::5", "fd00:10:96::a"),
            dropped(Outcome::OtherProtocol),
        ),
    ]
}
