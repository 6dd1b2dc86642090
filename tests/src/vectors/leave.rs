//! Past the stack (docs/forwarding.md): straight to a pod, out of an uplink, or by the stack after all.

use clusterip_agent::model::inside::Inside;
use clusterip_common::{
    abi::Outcome,
    packet::{Exit, Verdict},
};

use crate::{
    case::{Case, case},
    packet::{Packet, sctp, tcp, udp},
    world::{DEVICE_MAC, Leads, NEXT_MAC, World, service},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const HAIRPIN: Verdict = Verdict::Translated(Outcome::Hairpin);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";
const CLIENT6: &str = "[fd00:10:244::5]:31337";
const VIP6: &str = "[fd00:10:96::a]:80";
const POD6: &str = "[fd00:10:244:1::7]:8080";
const MTU: u32 = 1500;

/// As it goes straight into a pod.
const fn to_peer(packet: Packet) -> Packet {
    packet.forwarded(NEXT_MAC, DEVICE_MAC)
}

/// A service over a protocol, client and backend on this node.
fn local(protocol: &str) -> World {
    service(&format!("{VIP}/{protocol}"), &[POD])
        .way("10.244.1.7", Leads::Pod, MTU)
        .way("10.244.0.5", Leads::Pod, MTU)
}

/// A service whose backend's way is another one.
fn led(leads: Leads) -> World {
    service("10.96.0.10:80/udp", &[POD]).way("10.244.1.7", leads, MTU)
}

/// A service whose backend is on another node, and its client here.
fn apart() -> World {
    led(Leads::Uplink)
        .inside("10.244.0.0/16", Inside::Pods)
        .way("10.244.0.5", Leads::Pod, MTU)
}

/// A datagram that the stack forwards: translated, and otherwise as it was.
fn by_stack(name: &'static str, world: World, exit: Exit) -> Case {
    case(name, "D10", world)
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD))
        .by(exit)
        .receives(&udp(POD, CLIENT), REPLY, &udp(VIP, CLIENT))
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(
            "a connection between two pods of this node goes past the stack both ways",
            "C11 D2 D10",
            local("tcp"),
        )
        .sends(
            &tcp(CLIENT, VIP).syn(),
            NEW,
            &to_peer(tcp(CLIENT, POD).syn()),
        )
        .by(Exit::Peer)
        .sends(
            &tcp(POD, CLIENT).syn().ack(),
            REPLY,
            &to_peer(tcp(VIP, CLIENT).syn().ack()),
        )
        .by(Exit::Peer)
        .sends(
            &tcp(CLIENT, VIP).ack().payload("GET / HTTP/1.1\r\n"),
            REQUEST,
            &to_peer(tcp(CLIENT, POD).ack().payload("GET / HTTP/1.1\r\n")),
        )
        .by(Exit::Peer)
        .sends(
            &tcp(POD, CLIENT).ack().payload("HTTP/1.1 200 OK\r\n"),
            REPLY,
            &to_peer(tcp(VIP, CLIENT).ack().payload("HTTP/1.1 200 OK\r\n")),
        )
        .by(Exit::Peer),
        case(
            "the same over IPv6",
            "C11 D2 D10",
            service("[fd00:10:96::a]:80/tcp", &[POD6])
                .way("fd00:10:244:1::7", Leads::Pod, MTU)
                .way("fd00:10:244::5", Leads::Pod, MTU),
        )
        .sends(
            &tcp(CLIENT6, VIP6).syn(),
            NEW,
            &to_peer(tcp(CLIENT6, POD6).syn()),
        )
        .by(Exit::Peer)
        .sends(
            &tcp(POD6, CLIENT6).syn().ack(),
            REPLY,
            &to_peer(tcp(VIP6, CLIENT6).syn().ack()),
        )
        .by(Exit::Peer),
        case(
            "a datagram and its answer past the stack",
            "D10",
            local("udp"),
        )
        .sends(&udp(CLIENT, VIP), NEW, &to_peer(udp(CLIENT, POD)))
        .by(Exit::Peer)
        .sends(&udp(POD, CLIENT), REPLY, &to_peer(udp(VIP, CLIENT)))
        .by(Exit::Peer)
        .sends(&udp(CLIENT, VIP), REQUEST, &to_peer(udp(CLIENT, POD)))
        .by(Exit::Peer),
        case("SCTP past the stack", "D3 D10", local("sctp"))
            .sends(&sctp(CLIENT, VIP, 1), NEW, &to_peer(sctp(CLIENT, POD, 1)))
            .by(Exit::Peer),
        case(
            "a pod of another node is sent to by the uplink, and its answer turns at the client at the latest",
            "C11 D10",
            led(Leads::Uplink).inside("10.244.0.0/16", Inside::Pods),
        )
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD).ttl(63))
        .by(Exit::Neighbour)
        .receives(&udp(POD, CLIENT), REPLY, &udp(VIP, CLIENT)),
        by_stack(
            "an endpoint that is no pod is left to the stack, which may have to give another source",
            led(Leads::Uplink),
            Exit::OtherDevice,
        ),
        by_stack(
            "a device that nobody knows is left to the stack",
            led(Leads::Elsewhere),
            Exit::OtherDevice,
        ),
        by_stack(
            "a neighbour that is not known is the stack's to ask for",
            led(Leads::Unresolved),
            Exit::NoNeighbour,
        ),
        by_stack(
            "without a route it is the stack that says so",
            service("10.96.0.10:80/udp", &[POD]).way("10.244.9.9", Leads::Pod, MTU),
            Exit::NoRoute,
        ),
        case(
            "a packet at its last hop is left to the stack, which tells its sender",
            "D10",
            local("udp"),
        )
        .sends(&udp(CLIENT, VIP).ttl(1), NEW, &udp(CLIENT, POD).ttl(1))
        .by(Exit::HopLimit)
        .sends(
            &udp(CLIENT, VIP).ttl(2),
            REQUEST,
            &to_peer(udp(CLIENT, POD).ttl(2)),
        )
        .by(Exit::Peer),
        case("IP options are for the stack", "D4 D10", local("udp"))
            .sends(
                &udp(CLIENT, VIP).options(&[1, 1, 1, 0]),
                NEW,
                &udp(CLIENT, POD).options(&[1, 1, 1, 0]),
            )
            .by(Exit::Headers),
        case("so are extension headers", "D5 D10", {
            service("[fd00:10:96::a]:80/udp", &[POD6]).way("fd00:10:244:1::7", Leads::Pod, MTU)
        })
        .sends(
            &udp(CLIENT6, VIP6).extension(60, &[0, 1, 4, 0, 0, 0, 0]),
            NEW,
            &udp(CLIENT6, POD6).extension(60, &[0, 1, 4, 0, 0, 0, 0]),
        )
        .by(Exit::Headers),
        case("and VLAN tags", "D10 D11", local("udp"))
            .sends(
                &udp(CLIENT, VIP).tagged(0x8100, 7),
                NEW,
                &udp(CLIENT, POD).tagged(0x8100, 7),
            )
            .by(Exit::Headers),
        case(
            "and what comes without an Ethernet header",
            "D10 D11",
            local("udp"),
        )
        .sends(&udp(CLIENT, VIP).bare(), NEW, &udp(CLIENT, POD).bare())
        .by(Exit::Headers),
        case(
            "a packet that is too long for the way is for the stack to cut or to refuse",
            "D7 D10",
            service("10.96.0.10:80/udp", &[POD]).way("10.244.1.7", Leads::Pod, 128),
        )
        .sends(
            &udp(CLIENT, VIP).payload(vec![7; 101]),
            NEW,
            &udp(CLIENT, POD).payload(vec![7; 101]),
        )
        .by(Exit::Size)
        .sends(
            &udp(CLIENT, VIP).payload(vec![7; 100]),
            REQUEST,
            &to_peer(udp(CLIENT, POD).payload(vec![7; 100])),
        )
        .by(Exit::Peer),
        case("a pod that calls itself does so by the stack", "D10 D13", {
            service("10.96.0.10:80/udp", &[POD]).way("10.244.1.7", Leads::Pod, MTU)
        })
        .sends(
            &udp("10.244.1.7:31337", VIP),
            NEW,
            &udp("10.244.1.7:31337", POD),
        )
        .by(Exit::Itself)
        .receives(
            &udp("10.244.1.7:31337", POD),
            HAIRPIN,
            &udp("169.254.42.1:31337", POD),
        ),
        case(
            "a reply that cannot go straight on turns behind the stack",
            "C11 D10",
            service("10.96.0.10:80/tcp", &[POD]).way("10.244.1.7", Leads::Pod, MTU),
        )
        .sends(
            &tcp(CLIENT, VIP).syn(),
            NEW,
            &to_peer(tcp(CLIENT, POD).syn()),
        )
        .by(Exit::Peer)
        .sends_untouched(&tcp(POD, CLIENT).syn().ack(), NOT_OURS)
        .by(Exit::NoRoute)
        .receives(
            &tcp(POD, CLIENT).syn().ack(),
            REPLY,
            &tcp(VIP, CLIENT).syn().ack(),
        ),
        case(
            "a reply of a backend that was taken away is the client's device's to drop",
            "C10 C11",
            local("udp"),
        )
        .sends(&udp(CLIENT, VIP), NEW, &to_peer(udp(CLIENT, POD)))
        .by(Exit::Peer)
        .sends(&udp(POD, CLIENT), REPLY, &to_peer(udp(VIP, CLIENT)))
        .by(Exit::Peer)
        .then(|world| world.change(0, |backend| backend.generation += 1))
        .sends_untouched(&udp(POD, CLIENT), NOT_OURS)
        .receives_untouched(&udp(POD, CLIENT), Verdict::Drop(Outcome::StaleReply)),
        case(
            "what a backend sends that is no reply stays as it is",
            "K1",
            local("udp"),
        )
        .sends_untouched(&udp(POD, CLIENT), NOT_OURS)
        .sends_untouched(&udp(POD, "10.244.1.9:53"), NOT_OURS),
    ];
    cases.extend(from_other_nodes());
    cases.push(
        case(
            "a piece of a packet is for the stack",
            "D6 D10",
            local("udp"),
        )
        .sends(
            &udp(CLIENT, VIP).payload(vec![7; 64]).piece(0, 32, true),
            NEW,
            &udp(CLIENT, POD).payload(vec![7; 64]).piece(0, 32, true),
        )
        .by(Exit::Fragment),
    );
    cases
}

/// Replies that come in by an uplink.
fn from_other_nodes() -> Vec<Case> {
    let answer = udp(POD, CLIENT);
    vec![
        case(
            "a reply from another node turns at the uplink and goes straight to the pod",
            "C11 D10",
            apart(),
        )
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD).ttl(63))
        .by(Exit::Neighbour)
        .comes_in(&answer, REPLY, &to_peer(udp(VIP, CLIENT)))
        .by(Exit::Peer)
        .comes_in(
            &answer.clone().ttl(2),
            REPLY,
            &to_peer(udp(VIP, CLIENT).ttl(2)),
        )
        .by(Exit::Peer)
        .comes_in_untouched(&answer.clone().ttl(1), NOT_OURS)
        .by(Exit::HopLimit),
        case("the same over IPv6 and TCP", "C11 D2 D10", {
            service("[fd00:10:96::a]:80/tcp", &[POD6])
                .way("fd00:10:244:1::7", Leads::Uplink, MTU)
                .way("fd00:10:244::5", Leads::Pod, MTU)
                .inside("fd00:10:244::/48", Inside::Pods)
        })
        .sends(
            &tcp(CLIENT6, VIP6).syn(),
            NEW,
            &tcp(CLIENT6, POD6).syn().ttl(63),
        )
        .by(Exit::Neighbour)
        .comes_in(
            &tcp(POD6, CLIENT6).syn().ack(),
            REPLY,
            &to_peer(tcp(VIP6, CLIENT6).syn().ack()),
        )
        .by(Exit::Peer),
        case(
            "a reply from beyond the cluster, or in pieces, turns at the client's device",
            "C11 D6 D10 E1",
            apart(),
        )
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD).ttl(63))
        .by(Exit::Neighbour)
        .comes_in_untouched(
            &udp(POD, CLIENT).payload(vec![7; 64]).piece(0, 32, true),
            NOT_OURS,
        )
        .then(|world| world.tables.inside.clear())
        .comes_in_untouched(&answer, NOT_OURS)
        .receives(&answer, REPLY, &udp(VIP, CLIENT)),
        case(
            "a reply whose client is behind a device that is no pod's is for the stack",
            "C11 D10",
            led(Leads::Uplink)
                .inside("10.244.0.0/16", Inside::Pods)
                .way("10.244.0.5", Leads::Elsewhere, MTU),
        )
        .sends(&udp(CLIENT, VIP), NEW, &udp(CLIENT, POD).ttl(63))
        .by(Exit::Neighbour)
        .comes_in_untouched(&answer, NOT_OURS)
        .by(Exit::OtherDevice)
        .receives(&answer, REPLY, &udp(VIP, CLIENT)),
        case(
            "what comes from another node and is no reply stays as it is",
            "K1",
            apart(),
        )
        .comes_in_untouched(&answer, NOT_OURS)
        .comes_in_untouched(&udp(POD, "10.244.1.9:53"), NOT_OURS),
    ]
}
