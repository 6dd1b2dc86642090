//! What stands before the IP header.

use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{Packet, other, ping, port_unreachable, tcp, udp},
    world::{World, service},
};

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:80";
const POD6: &str = "[fd00:10:244:1::7]:8080";

const CUSTOMER: u16 = 0x8100;
const PROVIDER: u16 = 0x88a8;

fn world() -> World {
    service("10.96.0.10:80/tcp", &[POD])
        .and("[fd00:10:96::a]:80/tcp", &[POD6])
        .and("10.96.0.11:53/udp", &[])
}

/// A flow, a reject and a ping, all of them behind the same thing.
fn conversation(name: &'static str, behind: fn(Packet) -> Packet) -> Case {
    let new = Verdict::Translated(Outcome::NewFlow);
    let reply = Verdict::Translated(Outcome::Reply);
    let query = || behind(udp(CLIENT, "10.96.0.11:53").payload("a question"));
    case(name, "D11", world())
        .sends(
            &behind(tcp(CLIENT, VIP).syn()),
            new,
            &behind(tcp(CLIENT, POD).syn()),
        )
        .receives(
            &behind(tcp(POD, CLIENT).syn().ack()),
            reply,
            &behind(tcp(VIP, CLIENT).syn().ack()),
        )
        .sends(
            &behind(tcp(CLIENT6, VIP6).syn()),
            new,
            &behind(tcp(CLIENT6, POD6).syn()),
        )
        .receives(
            &behind(tcp(POD6, CLIENT6).syn().ack()),
            reply,
            &behind(tcp(VIP6, CLIENT6).syn().ack()),
        )
        .sends(
            &behind(ping("10.244.0.5", "10.96.0.10", true)),
            Verdict::Reply(Outcome::Ping),
            &behind(ping("10.96.0.10", "10.244.0.5", false)).turned(),
        )
        .sends(
            &query(),
            Verdict::Reply(Outcome::NoEndpoint),
            &port_unreachable(&query()),
        )
}

pub(super) fn cases() -> Vec<Case> {
    let not_ours = Verdict::Pass(Outcome::NotOurs);
    vec![
        conversation("a VLAN tag is stepped over", |packet| {
            packet.tagged(CUSTOMER, 5)
        })
        .only_on_host("the kernel's test-run has no device that answers with an inline tag"),
        conversation("a tag within a tag is stepped over", |packet| {
            packet.tagged(PROVIDER, 7).tagged(CUSTOMER, 5)
        })
        .only_on_host("as for one tag"),
        case("behind a third tag nothing is translated", "D11", world()).sends_untouched(
            &tcp(CLIENT, VIP)
                .syn()
                .tagged(CUSTOMER, 5)
                .tagged(CUSTOMER, 6)
                .tagged(CUSTOMER, 7),
            not_ours,
        ),
        case("a frame that ends within its tag", "D11", world()).sends_untouched(
            &tcp(CLIENT, VIP).syn().tagged(CUSTOMER, 5).cut(16),
            not_ours,
        ),
        conversation("a device without Ethernet headers", Packet::bare)
            .only_on_host("the kernel's test-run takes the first bytes for an Ethernet header"),
        case(
            "translation where there is no Ethernet header",
            "D11",
            world(),
        )
        .sends(
            &tcp(CLIENT, VIP).syn().bare(),
            Verdict::Translated(Outcome::NewFlow),
            &tcp(CLIENT, POD).syn().bare(),
        )
        .receives(
            &tcp(POD, CLIENT).syn().ack().bare(),
            Verdict::Translated(Outcome::Reply),
            &tcp(VIP, CLIENT).syn().ack().bare(),
        ),
        case("translation behind a VLAN tag", "D11", world())
            .sends(
                &tcp(CLIENT, VIP).syn().tagged(CUSTOMER, 5),
                Verdict::Translated(Outcome::NewFlow),
                &tcp(CLIENT, POD).syn().tagged(CUSTOMER, 5),
            )
            .receives(
                &tcp(POD, CLIENT)
                    .syn()
                    .ack()
                    .tagged(PROVIDER, 7)
                    .tagged(CUSTOMER, 5),
                Verdict::Translated(Outcome::Reply),
                &tcp(VIP, CLIENT)
                    .syn()
                    .ack()
                    .tagged(PROVIDER, 7)
                    .tagged(CUSTOMER, 5),
            ),
        case("what is no IP packet passes", "D11", world()).sends_untouched(
            &other(6, "10.244.0.5", "10.96.0.10").bare().first_byte(0x05),
            not_ours,
        ),
    ]
}
