//! Packets in pieces, and IPv6 extension headers.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{tcp, udp},
    world::service,
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, client, vip, pod) in [
        (
            "a datagram in pieces over IPv4, both ways",
            "10.244.0.5:3000",
            "10.96.0.10:53",
            "10.244.1.7:5353",
        ),
        (
            "a datagram in pieces over IPv6, both ways",
            "[fd00:10:244::5]:3000",
            "[fd00:10:96::a]:53",
            "[fd00:10:244:1::7]:5353",
        ),
    ] {
        let there = |from, to| udp(from, to).payload([7; 56]);
        let first = |from, to| there(from, to).piece(0, 40, true);
        let last = |from, to| there(from, to).piece(40, 64, false);
        cases.push(
            case(name, "D6", service(&format!("{vip}/udp"), &[pod]))
                .sends_untouched(&last(client, vip), Verdict::Drop(Outcome::Fragment))
                .sends(&first(client, vip), NEW, &first(client, pod))
                .sends(&last(client, vip), REQUEST, &last(client, pod))
                .receives_untouched(&last(pod, client), Verdict::Pass(Outcome::NotOurs))
                .receives(&first(pod, client), REPLY, &first(vip, client))
                .receives(&last(pod, client), REPLY, &last(vip, client)),
        );
    }
    let (client, vip, pod) = (
        "[fd00:10:244::5]:3000",
        "[fd00:10:96::a]:80",
        "[fd00:10:244:1::7]:8080",
    );
    let options = |from, to| {
        let rest = [&[2][..], &[1; 22]].concat();
        tcp(from, to)
            .syn()
            .extension(0, &[0; 7])
            .extension(60, &rest)
    };
    let whole = |from, to| tcp(from, to).syn().extension(44, &[0; 7]);
    let unknown = tcp(client, vip).syn().extension(135, &[0; 7]);
    let world = || service("[fd00:10:96::a]:80/tcp", &[pod]);
    cases.push(
        case("IPv6 extension headers are stepped over", "D5", world()).sends(
            &options(client, vip),
            NEW,
            &options(client, pod),
        ),
    );
    cases.push(
        case(
            "a packet in one piece may have a fragment header",
            "D5 D6",
            world(),
        )
        .sends(&whole(client, vip), NEW, &whole(client, pod)),
    );
    cases.push(
        case(
            "behind an unknown extension header nothing is balanced",
            "D5 B10",
            world(),
        )
        .sends_untouched(&unknown, Verdict::Drop(Outcome::OtherProtocol)),
    );
    cases
}
