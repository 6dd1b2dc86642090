//! Headers as they should not be, and as they may be.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{tcp, udp},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:80";

fn world() -> World {
    service("10.96.0.10:80/tcp", &[POD])
        .and("10.96.0.10:80/udp", &[POD])
        .and("[fd00:10:96::a]:80/tcp", &["[fd00:10:244:1::7]:8080"])
}

pub(super) fn cases() -> Vec<Case> {
    let dropped = |outcome| Verdict::Drop(outcome);
    let new = Verdict::Translated(Outcome::NewFlow);
    let not_ours = Verdict::Pass(Outcome::NotOurs);
    // Router alert, and a no-operation to fill: 8 bytes.
    let options = [148, 4, 0, 0, 1, 1, 1, 0];
    let longest = [1; 40];
    vec![
        case("IPv4 options are stepped over", "D4", world())
            .sends(
                &tcp(CLIENT, VIP).syn().options(&options),
                new,
                &tcp(CLIENT, POD).syn().options(&options),
            )
            .receives(
                &tcp(POD, CLIENT).syn().ack().options(&longest),
                Verdict::Translated(Outcome::Reply),
                &tcp(VIP, CLIENT).syn().ack().options(&longest),
            ),
        case(
            "the time to live is the stack's to take from, also the last of it",
            "D10",
            world(),
        )
        .sends(
            &tcp(CLIENT, VIP).syn().ttl(1),
            new,
            &tcp(CLIENT, POD).syn().ttl(1),
        )
        .sends(
            &tcp(CLIENT6, VIP6).syn().ttl(200),
            new,
            &tcp(CLIENT6, "[fd00:10:244:1::7]:8080").syn().ttl(200),
        ),
        case("a header length below 5 is refused", "D4", world()).sends_untouched(
            &tcp(CLIENT, VIP).syn().first_byte(0x44),
            dropped(Outcome::Malformed),
        ),
        case(
            "a version that contradicts the Ethernet type is refused",
            "D4",
            world(),
        )
        .sends_untouched(
            &tcp(CLIENT, VIP).syn().first_byte(0x65),
            dropped(Outcome::Malformed),
        )
        .sends_untouched(
            &tcp(CLIENT6, VIP6).syn().first_byte(0x40),
            dropped(Outcome::Malformed),
        ),
        case(
            "a length past the end of the frame is refused",
            "D4",
            world(),
        )
        .sends_untouched(
            &tcp(CLIENT, VIP).syn().total_length(41),
            dropped(Outcome::Malformed),
        )
        .sends_untouched(
            &tcp(CLIENT6, VIP6).syn().total_length(21),
            dropped(Outcome::Malformed),
        ),
        case(
            "a length that ends within the TCP header is refused",
            "D4",
            world(),
        )
        .sends_untouched(
            &tcp(CLIENT, VIP).syn().total_length(39),
            dropped(Outcome::Truncated),
        )
        .sends_untouched(
            &udp(CLIENT, VIP).total_length(27),
            dropped(Outcome::Truncated),
        ),
        case(
            "a frame that ends within the TCP header is refused",
            "D4",
            world(),
        )
        .sends_untouched(
            &tcp(CLIENT, VIP).syn().total_length(0).cut(14 + 20 + 19),
            dropped(Outcome::Truncated),
        )
        .sends_untouched(
            &tcp(CLIENT6, VIP6).syn().total_length(0).cut(14 + 40 + 13),
            dropped(Outcome::Truncated),
        ),
        case(
            "a frame that ends within the IP header passes: the stack judges it",
            "D4",
            world(),
        )
        .sends_untouched(
            &tcp(CLIENT, VIP).syn().cut(14 + 19),
            Verdict::Pass(Outcome::Truncated),
        )
        .sends_untouched(
            &tcp(CLIENT6, VIP6).syn().cut(14 + 39),
            Verdict::Pass(Outcome::Truncated),
        )
        .only_on_host("test-run refuses a frame without a whole IP header"),
        case("bytes behind the IP packet are left alone", "D4", world()).sends(
            &udp(CLIENT, VIP).payload("padding").total_length(28),
            new,
            &udp(CLIENT, POD).payload("padding").total_length(28),
        ),
        case("fragments between pods pass", "D6", world()).sends_untouched(
            &udp(CLIENT, POD).payload([0; 64]).fragment(8, true),
            not_ours,
        ),
        case("mapped addresses on the wire are refused", "D12", world())
            .sends_untouched(
                &tcp(CLIENT6, "[::ffff:10.96.0.10]:80").syn(),
                dropped(Outcome::MappedAddress),
            )
            .receives_untouched(
                &tcp("[::ffff:10.244.1.7]:8080", CLIENT6).syn(),
                dropped(Outcome::MappedAddress),
            ),
    ]
}
