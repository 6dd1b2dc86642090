//! Flows to a backend by its own address, beside those of a service (C12).

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    host::first_chosen_port,
    packet::{tcp, too_big, udp},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const OTHER_VIP: &str = "10.96.0.11:80";
const POD: &str = "10.244.1.7:8080";

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const DIRECT: Verdict = Verdict::Translated(Outcome::Direct);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);
const RANDOM: &str = "the port is a random one";

fn world() -> World {
    service("10.96.0.10:80/tcp", &[POD])
        .and("10.96.0.11:80/tcp", &[POD])
        .and("10.96.0.10:80/udp", &[POD])
}

/// The client under the port that the host's chance gives first.
fn moved() -> String {
    format!("10.244.0.5:{}", first_chosen_port())
}

pub(super) fn cases() -> Vec<Case> {
    let moved = moved();
    vec![
        case(
            "a direct flow keeps its port, the service flow beside it gets another",
            "C12",
            world(),
        )
        .sends_untouched(&tcp(CLIENT, POD).syn(), NOT_OURS)
        .receives_untouched(&tcp(POD, CLIENT).syn().ack(), NOT_OURS)
        .sends_untouched(&tcp(CLIENT, POD).ack(), NOT_OURS)
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(&moved, POD).syn())
        .receives(
            &tcp(POD, &moved).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        )
        .sends(&tcp(CLIENT, VIP).ack(), REQUEST, &tcp(&moved, POD).ack())
        .receives_untouched(&tcp(POD, CLIENT).ack(), NOT_OURS)
        .only_on_host(RANDOM),
        case(
            "a service flow keeps its port, the direct flow beside it gets another",
            "C12",
            world(),
        )
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, POD).syn())
        .sends(&tcp(CLIENT, POD).syn(), DIRECT, &tcp(&moved, POD).syn())
        .receives(
            &tcp(POD, &moved).syn().ack(),
            DIRECT,
            &tcp(POD, CLIENT).syn().ack(),
        )
        .receives(
            &tcp(POD, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        )
        .sends(&tcp(CLIENT, POD).ack(), DIRECT, &tcp(&moved, POD).ack())
        .receives(
            &too_big("10.244.9.1", &tcp(&moved, POD).ack(), 8),
            Verdict::Translated(Outcome::IcmpError),
            &too_big("10.244.9.1", &tcp(CLIENT, POD).ack(), 8),
        )
        .only_on_host(RANDOM),
        case("the same over UDP", "C12", world())
            .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD))
            .sends(&udp(CLIENT, POD), DIRECT, &udp(&moved, POD))
            .receives(&udp(POD, &moved), DIRECT, &udp(POD, CLIENT))
            .receives(&udp(POD, CLIENT), REPLY, &udp(VIP, CLIENT))
            .sends(&udp(CLIENT, POD), DIRECT, &udp(&moved, POD))
            .only_on_host(RANDOM),
        case(
            "one client port to two services with one backend",
            "C12",
            world(),
        )
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, POD).syn())
        .sends(&tcp(CLIENT, OTHER_VIP).syn(), NEW, &tcp(&moved, POD).syn())
        .receives(
            &tcp(POD, &moved).syn().ack(),
            REPLY,
            &tcp(OTHER_VIP, CLIENT).syn().ack(),
        )
        .receives(
            &tcp(POD, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        )
        .only_on_host(RANDOM),
        case(
            "a direct flow that ended long ago is in nobody's way",
            "C12 C5",
            world(),
        )
        .sends_untouched(&tcp(CLIENT, POD).syn(), NOT_OURS)
        .sends_untouched(&tcp(CLIENT, POD).rst(), NOT_OURS)
        .later(11)
        .sends(&tcp(CLIENT, VIP).syn(), NEW, &tcp(CLIENT, POD).syn()),
        case(
            "a packet to a backend that belongs to no flow passes",
            "C12 C2",
            world(),
        )
        .sends_untouched(&tcp(CLIENT, POD).ack(), NOT_OURS)
        .receives_untouched(&tcp(POD, CLIENT).ack(), NOT_OURS)
        .sends_untouched(&udp(CLIENT, POD).piece(8, 16, false), NOT_OURS),
    ]
}
