//! SCTP: who may begin, and whose checksum is right.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{port_unreachable, sctp, too_big},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:38412";
/// Another port than the service's, and the same one.
const POD: &str = "10.244.1.7:8080";
const SAME: &str = "10.244.1.8:38412";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:38412";
const POD6: &str = "[fd00:10:244:1::7]:8080";

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const COOKIE_ECHO: u8 = 10;
const SHUTDOWN_COMPLETE: u8 = 14;

fn world(pods: &[&str]) -> World {
    service("10.96.0.10:38412/sctp", pods).and("[fd00:10:96::a]:38412/sctp", &[POD6])
}

pub(super) fn cases() -> Vec<Case> {
    let new = Verdict::Translated(Outcome::NewFlow);
    let request = Verdict::Translated(Outcome::Request);
    let reply = Verdict::Translated(Outcome::Reply);
    let payload = |len: usize| vec![0xa5; len];
    vec![
        case("the CRC follows a port that changes", "D3", world(&[POD]))
            .sends(
                &sctp(CLIENT, VIP, INIT).payload(payload(16)),
                new,
                &sctp(CLIENT, POD, INIT).payload(payload(16)),
            )
            .receives(
                &sctp(POD, CLIENT, INIT_ACK).payload(payload(300)),
                reply,
                &sctp(VIP, CLIENT, INIT_ACK).payload(payload(300)),
            )
            .sends(
                &sctp(CLIENT, VIP, COOKIE_ECHO).payload(payload(280)),
                request,
                &sctp(CLIENT, POD, COOKIE_ECHO).payload(payload(280)),
            )
            .sends(
                &sctp(CLIENT, VIP, DATA).payload(payload(1_400)),
                request,
                &sctp(CLIENT, POD, DATA).payload(payload(1_400)),
            )
            .sends(&sctp(CLIENT, VIP, DATA), request, &sctp(CLIENT, POD, DATA))
            .sends(
                &sctp(CLIENT6, VIP6, INIT).payload(payload(17)),
                new,
                &sctp(CLIENT6, POD6, INIT).payload(payload(17)),
            )
            .receives(
                &sctp(POD6, CLIENT6, INIT_ACK).payload(payload(256)),
                reply,
                &sctp(VIP6, CLIENT6, INIT_ACK).payload(payload(256)),
            ),
        case(
            "new addresses alone leave the CRC as it is",
            "D3",
            world(&[SAME]),
        )
        .sends(
            &sctp(CLIENT, VIP, INIT).payload(payload(16)),
            new,
            &sctp(CLIENT, SAME, INIT).payload(payload(16)),
        ),
        case(
            "a CRC that is left to the device stays open",
            "D2, D3",
            world(&[POD]),
        )
        .sends(
            &sctp(CLIENT, VIP, INIT).without_checksum(),
            new,
            &sctp(CLIENT, POD, INIT).without_checksum(),
        ),
        case(
            "what does not say how long the whole is cannot get another port",
            "D3, D6",
            world(&[POD]),
        )
        .sends_untouched(
            &sctp(CLIENT, VIP, INIT)
                .payload(payload(100))
                .piece(0, 48, true),
            Verdict::Drop(Outcome::Fragment),
        ),
        case(
            "only INIT chooses, and a packet without a flow is refused",
            "C2, B7",
            world(&[POD]),
        )
        .sends(
            &sctp(CLIENT, VIP, DATA),
            Verdict::Reply(Outcome::NoFlow),
            &port_unreachable(&sctp(CLIENT, VIP, DATA)),
        )
        .sends_untouched(&sctp(CLIENT, VIP, ABORT), Verdict::Drop(Outcome::NoFlow)),
        case("no endpoint: port unreachable", "B7", world(&[])).sends(
            &sctp(CLIENT, VIP, INIT),
            Verdict::Reply(Outcome::NoEndpoint),
            &port_unreachable(&sctp(CLIENT, VIP, INIT)),
        ),
        case(
            "an association that has ended is a new one later",
            "C4, C5",
            world(&[POD, SAME]),
        )
        .sends(&sctp(CLIENT, VIP, INIT), new, &sctp(CLIENT, POD, INIT))
        .receives(
            &sctp(POD, CLIENT, INIT_ACK),
            reply,
            &sctp(VIP, CLIENT, INIT_ACK),
        )
        .sends(
            &sctp(CLIENT, VIP, COOKIE_ECHO),
            request,
            &sctp(CLIENT, POD, COOKIE_ECHO),
        )
        .sends(
            &sctp(CLIENT, VIP, SHUTDOWN_COMPLETE),
            request,
            &sctp(CLIENT, POD, SHUTDOWN_COMPLETE),
        )
        .later(31)
        .sends(&sctp(CLIENT, VIP, INIT), new, &sctp(CLIENT, SAME, INIT)),
        case(
            "an error about an association is translated with it",
            "D7",
            world(&[POD]),
        )
        .sends(&sctp(CLIENT, VIP, INIT), new, &sctp(CLIENT, POD, INIT))
        .receives(
            &too_big("10.244.9.1", &sctp(CLIENT, POD, INIT), 8),
            Verdict::Translated(Outcome::IcmpError),
            &too_big("10.244.9.1", &sctp(CLIENT, VIP, INIT), 8),
        ),
    ]
}
