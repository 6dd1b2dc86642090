//! How long flows live: the defaults of docs/flows.md.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{Packet, tcp, udp},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const FIRST: &str = "10.244.1.1:8080";
const SECOND: &str = "10.244.1.2:8080";
const HOUR: u64 = 3_600;

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);

fn world() -> World {
    service("10.96.0.10:80/tcp", &[FIRST, SECOND]).and("10.96.0.10:80/udp", &[FIRST, SECOND])
}

/// With a flow that both sides talk in.
fn talking(name: &'static str, rules: &'static str) -> Case {
    let case = case(name, rules, world())
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, FIRST).syn())
        .receives(
            &tcp(FIRST, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        );
    request(case, Packet::ack)
}

fn request(case: Case, flags: fn(Packet) -> Packet) -> Case {
    let sent = flags(tcp(CLIENT, VIP));
    case.sends(&sent, REQUEST, &flags(tcp(CLIENT, FIRST)))
}

fn reply(case: Case, flags: fn(Packet) -> Packet) -> Case {
    let sent = flags(tcp(FIRST, CLIENT));
    case.receives(&sent, REPLY, &flags(tcp(VIP, CLIENT)))
}

/// A segment that belongs to no flow any more.
fn is_over(case: Case) -> Case {
    case.sends(
        &tcp(CLIENT, VIP).ack().numbers(7, 9),
        Verdict::Reply(Outcome::NoFlow),
        &tcp(VIP, CLIENT).rst().numbers(9, 0).turned(),
    )
    .receives_untouched(
        &tcp(FIRST, CLIENT).ack(),
        Verdict::Drop(Outcome::StaleReply),
    )
}

fn fin(packet: Packet) -> Packet {
    packet.fin().ack()
}

pub(super) fn cases() -> Vec<Case> {
    let silent = talking("an established flow may be silent for a day", "C1 C15").later(23 * HOUR);
    let one_sided = talking(
        "a side that only listens is as alive as the one that talks",
        "C14",
    )
    .later(23 * HOUR);
    let half_closed = talking("a flow that one side has ended goes on the other way", "C5");
    let half_closed = reply(request(half_closed, fin).later(50), Packet::ack).later(HOUR - 60);
    let closed = talking(
        "after both have ended, the last ACKs have ten seconds",
        "C5",
    );
    let closed = reply(request(closed, fin), fin).later(9);
    let reset = reply(
        talking("after a RST a flow has ten seconds", "C5"),
        Packet::rst,
    )
    .later(9);
    let reused = reply(
        request(
            talking("a SYN soon after the end revives both sides", "C4 C14"),
            fin,
        ),
        fin,
    )
    .later(20)
    .sends(&tcp(CLIENT, VIP).syn(), REQUEST, &tcp(CLIENT, FIRST).syn());
    vec![
        is_over(request(silent, Packet::ack).later(25 * HOUR)),
        request(reply(one_sided, Packet::ack).later(23 * HOUR), Packet::ack),
        request(reply(half_closed, Packet::ack), Packet::ack),
        is_over(request(closed, Packet::ack).later(2)),
        is_over(request(reset, Packet::ack).later(2)),
        request(
            reply(reused.later(1), |packet| packet.syn().ack()),
            Packet::ack,
        )
        .later(HOUR)
        .sends(&tcp(CLIENT, VIP).ack(), REQUEST, &tcp(CLIENT, FIRST).ack()),
        case("a SYN without an answer has a minute", "C5 C2", world())
            .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, FIRST).syn())
            .later(59)
            .sends(&tcp(CLIENT, VIP).syn(), REQUEST, &tcp(CLIENT, FIRST).syn())
            .later(61)
            .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, SECOND).syn()),
        case(
            "a UDP flow that was silent for three minutes is a new one",
            "C8",
            world(),
        )
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, FIRST))
        .receives(&udp(FIRST, CLIENT), REPLY, &udp(VIP, CLIENT))
        .later(179)
        .sends(&udp(CLIENT, VIP), REQUEST, &udp(CLIENT, FIRST))
        .later(181)
        .receives_untouched(&udp(FIRST, CLIENT), Verdict::Drop(Outcome::StaleReply))
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, SECOND)),
    ]
}
