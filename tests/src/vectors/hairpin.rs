//! A pod that calls itself through a service.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{Packet, sctp, tcp, udp},
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
