//! Translation of what belongs to a service, and of nothing else.

use clusterip_common::{abi::Outcome, packet::Verdict, wire::Be16};

use crate::{
    case::{Case, case},
    packet::{tcp, udp},
    world::service,
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:80";
const POD6: &str = "[fd00:10:244:1::7]:8080";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "a connection over TCP and IPv4: SYN, SYN ACK, ACK, data, each translated",
            "A1 C11 D2 D10",
            service("10.96.0.10:80/tcp", &[POD]),
        )
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, POD).syn())
        .receives(
            &tcp(POD, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        )
        .sends(&tcp(CLIENT, VIP).ack(), REQUEST, &tcp(CLIENT, POD).ack())
        .sends(
            &tcp(CLIENT, VIP).ack().payload("GET / HTTP/1.1\r\n"),
            REQUEST,
            &tcp(CLIENT, POD).ack().payload("GET / HTTP/1.1\r\n"),
        )
        .receives(
            &tcp(POD, CLIENT).ack().payload("HTTP/1.1 200 OK\r\n"),
            REPLY,
            &tcp(VIP, CLIENT).ack().payload("HTTP/1.1 200 OK\r\n"),
        ),
        case(
            "a connection over TCP and IPv6",
            "A1 C11 D2 D10",
            service("[fd00:10:96::a]:80/tcp", &[POD6]),
        )
        .sends(&tcp(CLIENT6, VIP6).syn(), NEW, &tcp(CLIENT6, POD6).syn())
        .receives(
            &tcp(POD6, CLIENT6).syn().ack(),
            REPLY,
            &tcp(VIP6, CLIENT6).syn().ack(),
        )
        .sends(
            &tcp(CLIENT6, VIP6).ack().payload("odd"),
            REQUEST,
            &tcp(CLIENT6, POD6).ack().payload("odd"),
        ),
        case(
            "a datagram and its answer over UDP and IPv4",
            "A1 C11 D2",
            service("10.96.0.10:80/udp", &[POD]),
        )
        .sends(
            &udp(CLIENT, VIP).payload("query"),
            NEW,
            &udp(CLIENT, POD).payload("query"),
        )
        .receives(
            &udp(POD, CLIENT).payload("answer"),
            REPLY,
            &udp(VIP, CLIENT).payload("answer"),
        )
        .sends(
            &udp(CLIENT, VIP).payload("more"),
            REQUEST,
            &udp(CLIENT, POD).payload("more"),
        ),
        case(
            "a datagram and its answer over UDP and IPv6",
            "A1 C11 D2",
            service("[fd00:10:96::a]:80/udp", &[POD6]),
        )
        .sends(
            &udp(CLIENT6, VIP6).payload("query"),
            NEW,
            &udp(CLIENT6, POD6).payload("query"),
        )
        .receives(
            &udp(POD6, CLIENT6).payload("answer"),
            REPLY,
            &udp(VIP6, CLIENT6).payload("answer"),
        ),
        case(
            "UDP without a checksum over IPv4 stays without one, both ways",
            "D1",
            service("10.96.0.10:80/udp", &[POD]),
        )
        .sends(
            &udp(CLIENT, VIP).without_checksum(),
            NEW,
            &udp(CLIENT, POD).without_checksum(),
        )
        .receives(
            &udp(POD, CLIENT).without_checksum(),
            REPLY,
            &udp(VIP, CLIENT).without_checksum(),
        ),
        case(
            "the port stays where targetPort is the service's port",
            "D2",
            service("10.96.0.10:5432/tcp", &["10.244.1.7:5432"]),
        )
        .sends(
            &tcp(CLIENT, "10.96.0.10:5432").syn(),
            NEW,
            &tcp(CLIENT, "10.244.1.7:5432").syn(),
        ),
        case(
            "one port number is two services for TCP and UDP",
            "A1",
            service("10.96.0.10:53/tcp", &["10.244.1.1:1053"])
                .and("10.96.0.10:53/udp", &["10.244.1.2:2053"]),
        )
        .sends(
            &tcp(CLIENT, "10.96.0.10:53").syn(),
            NEW,
            &tcp(CLIENT, "10.244.1.1:1053").syn(),
        )
        .sends(
            &udp(CLIENT, "10.96.0.10:53"),
            NEW,
            &udp(CLIENT, "10.244.1.2:2053"),
        ),
        case(
            "packets to other addresses pass untouched, whatever they carry",
            "B1",
            service("10.96.0.10:80/tcp", &[POD]),
        )
        .sends_untouched(&tcp(CLIENT, POD).syn(), NOT_OURS)
        .sends_untouched(&udp(CLIENT, "192.0.2.1:53").payload("x"), NOT_OURS)
        .sends_untouched(&tcp(CLIENT6, POD6).syn(), NOT_OURS)
        .receives_untouched(&tcp(POD, CLIENT).syn().ack(), NOT_OURS),
        udp_zero(),
    ];
    cases.push(round_robin());
    cases
}

/// Seven flows over three backends: 3, 2, 2; a packet of a known flow does not take a turn.
fn round_robin() -> Case {
    let pods = ["10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080"];
    let mut case = case(
        "new flows go round robin, known ones stay",
        "B1 C2",
        service("10.96.0.10:80/tcp", &pods),
    );
    for (port, pod) in (40_000..40_007).zip(pods.into_iter().cycle()) {
        let client = format!("10.244.0.5:{port}");
        case = case
            .sends(&tcp(&client, VIP).syn(), NEW, &tcp(&client, pod).syn())
            .sends(&tcp(&client, VIP).syn(), REQUEST, &tcp(&client, pod).syn())
            .sends(&tcp(&client, VIP).ack(), REQUEST, &tcp(&client, pod).ack());
    }
    case
}

/// A payload for which the translated packet's checksum computes to 0, and must be sent as 0xffff.
fn udp_zero() -> Case {
    let translated = |payload: [u8; 2]| udp(CLIENT, POD).payload(payload);
    let at = 14 + 20 + 6;
    let payload = (0..=u16::MAX)
        .map(|word| Be16::new(word).0)
        .find(|payload| translated(*payload).bytes().get(at..at + 2) == Some(&[0xff, 0xff]))
        .expect("one of 65,536 words makes the sum 0xffff");
    case(
        "a UDP checksum that computes to 0 is sent as 0xffff",
        "D1",
        service("10.96.0.10:80/udp", &[POD]),
    )
    .sends(
        &udp(CLIENT, VIP).payload(payload),
        NEW,
        &translated(payload),
    )
}
