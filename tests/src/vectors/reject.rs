//! Answers to what goes nowhere.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{port_unreachable, tcp, udp},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:80";

fn empty() -> World {
    service("10.96.0.10:80/tcp", &[])
        .and("10.96.0.10:80/udp", &[])
        .and("[fd00:10:96::a]:80/tcp", &[])
        .and("[fd00:10:96::a]:80/udp", &[])
}

fn gets_a_backend(world: &mut World) {
    *world = service("10.96.0.10:80/udp", &["10.244.1.7:8080"]);
}

pub(super) fn cases() -> Vec<Case> {
    let rejected = Verdict::Reply(Outcome::NoEndpoint);
    let no_flow = Verdict::Reply(Outcome::NoFlow);
    vec![
        case(
            "a SYN to a service without endpoints gets a RST",
            "B7 D9",
            empty(),
        )
        .sends(
            &tcp(CLIENT, VIP).syn().numbers(1_000, 0),
            rejected,
            &tcp(VIP, CLIENT).rst().ack().numbers(0, 1_001).turned(),
        )
        .sends(
            &tcp(CLIENT6, VIP6).syn().numbers(u32::MAX, 0),
            rejected,
            &tcp(VIP6, CLIENT6).rst().ack().numbers(0, 0).turned(),
        ),
        case(
            "a SYN with data is acknowledged with its length",
            "D9",
            empty(),
        )
        .sends(
            &tcp(CLIENT, VIP)
                .syn()
                .numbers(1_000, 0)
                .payload("early data"),
            rejected,
            &tcp(VIP, CLIENT).rst().ack().numbers(0, 1_011).turned(),
        ),
        case(
            "a datagram to a service without endpoints gets port unreachable",
            "B7 D8",
            empty(),
        )
        .sends(
            &udp(CLIENT, VIP).payload("anybody there?"),
            rejected,
            &port_unreachable(&udp(CLIENT, VIP).payload("anybody there?")),
        )
        .sends(
            &udp(CLIENT6, VIP6).payload("anybody there?"),
            rejected,
            &port_unreachable(&udp(CLIENT6, VIP6).payload("anybody there?")),
        ),
        case("port unreachable quotes IPv4 options too", "B7 D4", empty()).sends(
            &udp(CLIENT, VIP).options(&[1; 40]).payload("hello"),
            rejected,
            &port_unreachable(&udp(CLIENT, VIP).options(&[1; 40]).payload("hello")),
        ),
        case("a RST strips IPv4 options", "B7 D4", empty()).sends(
            &tcp(CLIENT, VIP).syn().options(&[1; 8]),
            rejected,
            &tcp(VIP, CLIENT)
                .rst()
                .ack()
                .numbers(0, 0x0102_0305)
                .turned(),
        ),
        case(
            "TCP that belongs to no flow is reset, never balanced",
            "C2 D9",
            tcp_world(),
        )
        .sends(
            &tcp(CLIENT, VIP).ack().numbers(5, 77).payload("who am I"),
            no_flow,
            &tcp(VIP, CLIENT).rst().numbers(77, 0).turned(),
        )
        .sends(
            &tcp(CLIENT, VIP).syn().ack().numbers(5, 77),
            no_flow,
            &tcp(VIP, CLIENT).rst().numbers(77, 0).turned(),
        ),
        case("a RST is not answered", "D9", tcp_world()).sends_untouched(
            &tcp(CLIENT, VIP).rst().numbers(5, 0),
            Verdict::Drop(Outcome::NoFlow),
        ),
        case("nothing is sent to a source that is no host", "D8", empty())
            .sends_untouched(&udp("224.0.0.5:9", VIP), Verdict::Drop(Outcome::NoEndpoint))
            .sends_untouched(
                &udp("255.255.255.255:9", VIP),
                Verdict::Drop(Outcome::NoEndpoint),
            )
            .sends_untouched(
                &udp("[ff02::1]:9", VIP6),
                Verdict::Drop(Outcome::NoEndpoint),
            )
            .sends_untouched(&udp("[::]:9", VIP6), Verdict::Drop(Outcome::NoEndpoint)),
        ten_errors("a client that had ten errors at once waits for the next")
            .sends_untouched(&udp(CLIENT, VIP), Verdict::Drop(Outcome::ErrorsLimited))
            // Another client is another matter, and so is TCP, whose RST is as short as what it answers.
            .sends(
                &udp("10.244.0.6:31337", VIP),
                rejected,
                &port_unreachable(&udp("10.244.0.6:31337", VIP)),
            )
            .sends(
                &tcp(CLIENT, VIP).syn().numbers(1_000, 0),
                rejected,
                &tcp(VIP, CLIENT).rst().ack().numbers(0, 1_001).turned(),
            )
            .later(11)
            .sends(
                &udp(CLIENT, VIP),
                rejected,
                &port_unreachable(&udp(CLIENT, VIP)),
            )
            .sends_untouched(&udp(CLIENT, VIP), Verdict::Drop(Outcome::ErrorsLimited)),
        case(
            "a datagram that was refused is served once there is an endpoint",
            "C9",
            empty(),
        )
        .sends(
            &udp(CLIENT, VIP),
            rejected,
            &port_unreachable(&udp(CLIENT, VIP)),
        )
        .then(gets_a_backend)
        .sends(
            &udp(CLIENT, VIP),
            Verdict::Translated(Outcome::NewFlow),
            &udp(CLIENT, "10.244.1.7:8080"),
        ),
    ]
}

fn ten_errors(name: &'static str) -> Case {
    (0..10).fold(case(name, "D8", empty()), |case, _| {
        case.sends(
            &udp(CLIENT, VIP),
            Verdict::Reply(Outcome::NoEndpoint),
            &port_unreachable(&udp(CLIENT, VIP)),
        )
    })
}

fn tcp_world() -> World {
    service("10.96.0.10:80/tcp", &["10.244.1.7:8080"])
}
