//! A pod that calls itself through a service.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{Packet, ping, sctp, tcp, too_big, udp},
    world::{World, service},
};

const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";
const POD_CALLS: &str = "10.244.1.7:31337";
const HIDDEN: &str = "169.254.42.1:31337";
const VIP6: &str = "[fd00:10:96::a]:80";
const POD6: &str = "[fd00:10:244:1::7]:8080";
const POD6_CALLS: &str = "[fd00:10:244:1::7]:31337";
const HIDDEN6: &str = "[fdc1:57e::42:1]:31337";

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const HAIRPIN: Verdict = Verdict::Translated(Outcome::Hairpin);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

fn world() -> World {
    service("10.96.0.10:80/tcp", &[POD])
        .and("10.96.0.10:80/udp", &[POD])
        .and("10.96.0.10:80/sctp", &[POD])
        .and("[fd00:10:96::a]:80/tcp", &[POD6])
        .and("[fd00:10:96::a]:80/udp", &[POD6])
}

/// Out, in, back out and back in, by `packet(from, to)`.
fn round_trip(
    name: &'static str,
    packet: fn(&str, &str) -> Packet,
    answer: fn(&str, &str) -> Packet,
    [calls, vip, pod, hidden]: [&str; 4],
) -> Case {
    case(name, "D13 C11", world())
        .sends(&packet(calls, vip), NEW, &packet(calls, pod))
        .receives(&packet(calls, pod), HAIRPIN, &packet(hidden, pod))
        .sends(&answer(pod, hidden), HAIRPIN, &answer(pod, calls))
        .receives(&answer(pod, calls), REPLY, &answer(vip, calls))
}

/// A request, and what its pod says against it: as of the service, to itself.
fn error(
    name: &'static str,
    [calls, vip, pod, hidden]: [&str; 4],
    [host, vip_host]: [&str; 2],
) -> Case {
    const ERROR: Verdict = Verdict::Translated(Outcome::IcmpError);
    case(name, "D13 D7", world())
        .sends(&udp(calls, vip), NEW, &udp(calls, pod))
        .receives(&udp(calls, pod), HAIRPIN, &udp(hidden, pod))
        .sends(
            &too_big(host, &udp(hidden, pod), 8),
            ERROR,
            &too_big(host, &udp(calls, pod), 8),
        )
        .receives(
            &too_big(host, &udp(calls, pod), 8),
            ERROR,
            &too_big(vip_host, &udp(calls, vip), 8),
        )
}

pub(super) fn cases() -> Vec<Case> {
    let v4 = [POD_CALLS, VIP, POD, HIDDEN];
    let v6 = [POD6_CALLS, VIP6, POD6, HIDDEN6];
    let syn = |from: &str, to: &str| tcp(from, to).syn();
    let syn_ack = |from: &str, to: &str| tcp(from, to).syn().ack();
    vec![
        round_trip("a pod reaches itself through its service", syn, syn_ack, v4)
            .sends(
                &tcp(POD_CALLS, VIP).ack(),
                REQUEST,
                &tcp(POD_CALLS, POD).ack(),
            )
            .receives(&tcp(POD_CALLS, POD).ack(), HAIRPIN, &tcp(HIDDEN, POD).ack()),
        round_trip("the same over IPv6", syn, syn_ack, v6),
        round_trip("the same over UDP", udp, udp, v4),
        round_trip(
            "the same over SCTP",
            |from, to| sctp(from, to, 1).payload("init"),
            |from, to| sctp(from, to, 2).payload("init ack"),
            v4,
        ),
        error(
            "an error about a pod's own request comes back to it",
            v4,
            ["10.244.1.7", "10.96.0.10"],
        ),
        error(
            "the same over IPv6",
            v6,
            ["fd00:10:244:1::7", "fd00:10:96::a"],
        ),
        case(
            "what else a pod sends to the hidden address by ICMP ends here",
            "D13",
            world(),
        )
        .sends_untouched(
            &ping("10.244.1.7", "169.254.42.1", true),
            Verdict::Drop(Outcome::StaleReply),
        )
        .sends_untouched(
            &too_big("10.244.1.7", &udp(HIDDEN, "10.244.1.9:8080"), 8),
            Verdict::Drop(Outcome::StaleReply),
        ),
        case(
            "a pod that calls from the very port that it serves at gets another one",
            "D13 C12",
            world(),
        )
        .sends(
            &tcp(POD, VIP).syn(),
            NEW,
            &tcp(&first_port("10.244.1.7"), POD).syn(),
        )
        .receives(
            &tcp(&first_port("10.244.1.7"), POD).syn(),
            HAIRPIN,
            &tcp(&first_port("169.254.42.1"), POD).syn(),
        )
        .sends(
            &tcp(POD, &first_port("169.254.42.1")).syn().ack(),
            HAIRPIN,
            &tcp(POD, &first_port("10.244.1.7")).syn().ack(),
        )
        .receives(
            &tcp(POD, &first_port("10.244.1.7")).syn().ack(),
            REPLY,
            &tcp(VIP, POD).syn().ack(),
        )
        .only_on_host("the port is a random one"),
        case(
            "what a pod sends to itself without a service is not touched",
            "D13",
            world(),
        )
        .receives_untouched(&tcp(POD_CALLS, POD).syn(), NOT_OURS),
        case(
            "an answer to the hidden address without a flow goes nowhere",
            "D13 C11",
            world(),
        )
        .sends_untouched(
            &tcp(POD, HIDDEN).syn().ack(),
            Verdict::Drop(Outcome::StaleReply),
        ),
        case(
            "where another pod serves, the client keeps its address",
            "D13",
            world(),
        )
        .sends(
            &tcp("10.244.1.9:31337", VIP).syn(),
            NEW,
            &tcp("10.244.1.9:31337", POD).syn(),
        )
        .receives_untouched(&tcp("10.244.1.9:31337", POD).syn(), NOT_OURS),
    ]
}

/// The first port that the host's chance gives.
fn first_port(address: &str) -> String {
    format!("{address}:{}", crate::host::first_chosen_port())
}
