//! Pings, and errors about flows.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{Packet, ping, port_unreachable, tcp, too_big, udp},
    world::{nothing, service},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const ERROR: Verdict = Verdict::Translated(Outcome::IcmpError);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

struct Addresses {
    client: &'static str,
    vip: &'static str,
    pod: &'static str,
    router: &'static str,
}

const V4: Addresses = Addresses {
    client: "10.244.0.5:3000",
    vip: "10.96.0.10:80",
    pod: "10.244.1.7:8080",
    router: "10.0.0.1",
};
const V6: Addresses = Addresses {
    client: "[fd00:10:244::5]:3000",
    vip: "[fd00:10:96::a]:80",
    pod: "[fd00:10:244:1::7]:8080",
    router: "fd00::1",
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "a ping to a live service address is answered",
            "B10",
            service("10.96.0.10:80/tcp", &[]),
        )
        .sends(
            &ping("10.244.0.5", "10.96.0.10", true),
            Verdict::Reply(Outcome::Ping),
            &ping("10.96.0.10", "10.244.0.5", false).turned(),
        ),
        case(
            "a ping over IPv6",
            "B10",
            service("[fd00:10:96::a]:80/tcp", &[]),
        )
        .sends(
            &ping("fd00:10:244::5", "fd00:10:96::a", true),
            Verdict::Reply(Outcome::Ping),
            &ping("fd00:10:96::a", "fd00:10:244::5", false).turned(),
        ),
        case(
            "a ping to an address of nobody is dropped",
            "B9 B10",
            nothing(),
        )
        .sends_untouched(
            &ping("10.244.0.5", "10.96.0.10", true),
            Verdict::Drop(Outcome::Unallocated),
        ),
        case("pings between pods pass", "B10", nothing())
            .sends_untouched(&ping("10.244.0.5", "10.244.1.7", true), NOT_OURS)
            .receives_untouched(&ping("10.244.1.7", "10.244.0.5", false), NOT_OURS),
        case("an error about nothing of ours passes", "D7", nothing()).receives_untouched(
            &too_big("10.0.0.1", &udp("10.244.0.5:1", "10.244.1.7:2"), 8),
            NOT_OURS,
        ),
    ];
    for (family, addresses) in [("IPv4", V4), ("IPv6", V6)] {
        cases.extend(errors(family, &addresses));
    }
    cases
}

fn errors(family: &str, addresses: &Addresses) -> Vec<Case> {
    let Addresses {
        client,
        vip,
        pod,
        router,
    } = *addresses;
    let name = |text: &str| -> &'static str { Box::leak(format!("{text} ({family})").into()) };
    let quoted = |packet: Packet| packet.ack().payload([9; 32]);
    let tcp_flow = |text: &str| {
        case(name(text), "D7", service(&format!("{vip}/tcp"), &[pod]))
            .sends(&tcp(client, vip).syn(), NEW, &tcp(client, pod).syn())
            .receives(
                &tcp(pod, client).syn().ack(),
                REPLY,
                &tcp(vip, client).syn().ack(),
            )
    };
    let udp_flow = |text: &str| {
        case(name(text), "D7", service(&format!("{vip}/udp"), &[pod]))
            .sends(&udp(client, vip), NEW, &udp(client, pod))
            .receives(&udp(pod, client), REPLY, &udp(vip, client))
    };
    vec![
        tcp_flow("\"too big\" of a router tells the client of the VIP, from 8 bytes of L4")
            .receives(
                &too_big(router, &quoted(tcp(client, pod)), 8),
                ERROR,
                &too_big(router, &quoted(tcp(client, vip)), 8),
            ),
        tcp_flow("\"too big\" with the whole TCP header has its checksum right too").receives(
            &too_big(router, &quoted(tcp(client, pod)), 30),
            ERROR,
            &too_big(router, &quoted(tcp(client, vip)), 30),
        ),
        udp_flow("\"port unreachable\" of the backend comes from the VIP").receives(
            &port_unreachable(&udp(client, pod)).turned(),
            ERROR,
            &port_unreachable(&udp(client, vip)).turned(),
        ),
        udp_flow("an error that the client sends goes to the backend").sends(
            &port_unreachable(&udp(vip, client)).turned(),
            ERROR,
            &port_unreachable(&udp(pod, client)).turned(),
        ),
    ]
}
