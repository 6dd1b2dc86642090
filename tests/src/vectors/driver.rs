//! At an uplink's driver: what of clients outside is sent on from there, and what is left to TC (docs/adr/0017-at-the-driver.md).

use clusterip_agent::model::inside::Inside;
use clusterip_common::{
    abi::{Direction, Outcome, Scope, ServiceFlags},
    packet::Verdict,
};

use super::outside::{Addresses, HIDDEN, MASQUERADE, NEW, NOT_OURS, REPLY, REQUEST, V4, V6};
use crate::{
    case::{Case, case},
    packet::{Packet, sctp, tcp, udp},
    world::{DEVICE_MAC, Leads, NEXT_MAC, World, service},
};

/// To the backend, and from it.
const THERE: [Verdict; 2] = [REQUEST, HIDDEN];
const BACK: [Verdict; 2] = [HIDDEN, REPLY];
const MTU: u32 = 1500;
const NARROW: u32 = 1280;

/// As it leaves by a driver.
const fn out(packet: Packet) -> Packet {
    packet.forwarded(NEXT_MAC, DEVICE_MAC)
}

impl Addresses {
    /// The backend and the client by ways of their own.
    fn led(&self, to_backend: Leads, to_client: Leads, mtu: u32) -> World {
        self.world(MASQUERADE)
            .way(ip(self.client), to_client, MTU)
            .way(ip(self.pod), to_backend, mtu)
    }

    /// A flow of datagrams, and what is of it at the driver if there is nothing against it.
    fn asked(&self, name: &str, rules: &'static str, world: World) -> Case {
        let (client, pod) = (self.client, self.pod);
        self.case(name, rules, world)
            .comes_in(&udp(client, self.node_port), NEW, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(self.as_node, pod))
    }

    /// The same, where the next datagram is left to TC.
    fn left(&self, name: &str, rules: &'static str, world: World) -> Case {
        let (client, pod) = (self.client, self.pod);
        self.asked(name, rules, world)
            .comes_in(&udp(client, self.node_port), REQUEST, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(self.as_node, pod))
    }

    fn at_driver(&self) -> Vec<Case> {
        let driven = || self.led(Leads::Driver, Leads::Driver, MTU);
        let mut cases = self.sent(&driven);
        cases.extend(self.for_tc(&driven));
        cases.extend(self.half_lost_at_driver(&driven));
        cases
    }

    fn sent(&self, driven: &impl Fn() -> World) -> Vec<Case> {
        let Self {
            client,
            node_port,
            balancer,
            as_node,
            far_pod,
            vip,
            pod,
            ..
        } = *self;
        vec![
            self.case(
                "a connection that TC has begun goes on at the driver, both ways",
                "E2 E8 C11 D2 D10",
                driven(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .is_sent(
                &tcp(pod, as_node).syn().ack(),
                BACK,
                &out(tcp(node_port, client).syn().ack()),
            )
            .is_sent(
                &tcp(client, node_port).ack(),
                THERE,
                &out(tcp(as_node, pod).ack()),
            )
            .is_sent(
                &tcp(client, node_port).ack().payload("GET / HTTP/1.1\r\n"),
                THERE,
                &out(tcp(as_node, pod).ack().payload("GET / HTTP/1.1\r\n")),
            )
            .is_sent(
                &tcp(pod, as_node).ack().payload("HTTP/1.1 200 OK\r\n"),
                BACK,
                &out(tcp(node_port, client).ack().payload("HTTP/1.1 200 OK\r\n")),
            )
            .is_sent(
                &tcp(client, node_port).fin().ack(),
                THERE,
                &out(tcp(as_node, pod).fin().ack()),
            )
            .is_sent(
                &tcp(pod, as_node).fin().ack(),
                BACK,
                &out(tcp(node_port, client).fin().ack()),
            )
            .is_sent(
                &tcp(client, node_port).ack(),
                THERE,
                &out(tcp(as_node, pod).ack()),
            ),
            self.case("a SYN once more does so too", "C2 E8", driven())
                .comes_in(&tcp(client, balancer).syn(), NEW, &tcp(client, pod).syn())
                .is_sent(
                    &tcp(client, balancer).syn(),
                    THERE,
                    &out(tcp(as_node, pod).syn()),
                ),
            self.asked("datagrams go on at the driver", "E2 D1", driven())
                .is_sent(
                    &udp(client, node_port).payload("hello"),
                    THERE,
                    &out(udp(as_node, pod).payload("hello")),
                )
                .is_sent(
                    &udp(pod, as_node).payload("hello"),
                    BACK,
                    &out(udp(node_port, client).payload("hello")),
                )
                .is_sent(&udp(pod, as_node), BACK, &out(udp(node_port, client))),
            self.case(
                "what keeps its source is sent to the backend, which answers past this node",
                "E1 D10",
                driven(),
            )
            .comes_in(&udp(far_pod, vip), NEW, &udp(far_pod, pod))
            .is_sent(
                &udp(far_pod, vip),
                [REQUEST, NOT_OURS],
                &out(udp(far_pod, pod)),
            ),
            self.asked(
                "a packet of each period takes the stack, so that neighbours are looked after",
                "D10",
                driven(),
            )
            .is_sent(&udp(client, node_port), THERE, &out(udp(as_node, pod)))
            .later(9)
            .comes_in(&udp(client, node_port), REQUEST, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(as_node, pod))
            .is_sent(&udp(client, node_port), THERE, &out(udp(as_node, pod)))
            .only_on_host("the age of a way is the kernel's clock's"),
        ]
    }

    /// As [`Addresses::half_lost`].
    fn half_lost_at_driver(&self, driven: &impl Fn() -> World) -> Vec<Case> {
        let Self {
            client,
            other,
            node_port,
            as_node,
            pod,
            ..
        } = *self;
        let (hides, shows) = (Direction::MASQUERADE, Direction::UNMASQUERADE);
        let lost = Verdict::Drop(Outcome::PortLost);
        let stale = Verdict::Drop(Outcome::StaleReply);
        vec![
            self.asked(
                "a client whose hiding is forgotten is hidden again at the driver",
                "C11 C14 E2 E8",
                driven(),
            )
            .is_sent(&udp(client, node_port), THERE, &out(udp(as_node, pod)))
            .loses(hides)
            .loses(shows)
            .is_sent(&udp(client, node_port), THERE, &out(udp(as_node, pod)))
            .is_sent(&udp(pod, as_node), BACK, &out(udp(node_port, client)))
            .loses(hides)
            .is_sent(&udp(client, node_port), THERE, &out(udp(as_node, pod))),
            self.asked(
                "its port is somebody else's: it ends at the driver, and begins anew by TC",
                "C11 C14 E8",
                driven(),
            )
            .loses(hides)
            .loses(shows)
            .comes_in(&udp(other, node_port), NEW, &udp(other, pod))
            .is_sent(
                &udp(client, node_port),
                [REQUEST, lost],
                &out(udp(client, pod)),
            )
            .comes_in(&udp(client, node_port), NEW, &udp(client, pod)),
            self.asked(
                "an answer whose service is forgotten ends at the driver",
                "C11 C14",
                driven(),
            )
            .is_sent(&udp(pod, as_node), BACK, &out(udp(node_port, client)))
            .loses(Direction::REPLY)
            .is_sent(&udp(pod, as_node), [HIDDEN, stale], &out(udp(pod, client))),
        ]
    }

    fn for_tc(&self, driven: &impl Fn() -> World) -> Vec<Case> {
        let Self {
            client,
            node_port,
            as_node,
            vip,
            pod,
            ..
        } = *self;
        let led = |leads| self.led(leads, Leads::Driver, MTU);
        let long = |from, to| udp(from, to).payload(vec![7; 1300]);
        let short = |from, to| udp(from, to).payload([7; 80]);
        vec![
            self.left("a pod of this node is TC's", "E2", led(Leads::Pod)),
            self.left(
                "so is a device whose driver sends nothing",
                "E2",
                led(Leads::Uplink),
            ),
            self.left("and one that nobody knows", "E2", led(Leads::Elsewhere)),
            self.left(
                "a neighbour that is not known is the stack's to ask for",
                "E2",
                led(Leads::Unresolved),
            ),
            self.asked(
                "an answer whose way is not out of a driver is TC's",
                "E2 C11",
                self.led(Leads::Driver, Leads::Uplink, MTU),
            )
            .comes_in(&udp(pod, as_node), HIDDEN, &udp(pod, client))
            .leaves(&udp(pod, client), REPLY, &udp(node_port, client)),
            self.asked(
                "what is too long for the way is for the stack to refuse",
                "D7 D10",
                self.led(Leads::Driver, Leads::Driver, NARROW),
            )
            .comes_in(&long(client, node_port), REQUEST, &long(client, pod))
            .is_sent(&short(client, node_port), THERE, &out(short(as_node, pod))),
            self.asked("the last hop is the stack's", "D10", driven())
                .comes_in(
                    &udp(client, node_port).ttl(1),
                    REQUEST,
                    &udp(client, pod).ttl(1),
                )
                .is_sent(
                    &udp(client, node_port).ttl(2),
                    THERE,
                    &out(udp(as_node, pod).ttl(2)),
                ),
            self.asked("tagged frames are TC's", "D11", driven())
                .comes_in(
                    &udp(client, node_port).tagged(0x8100, 7),
                    REQUEST,
                    &udp(client, pod).tagged(0x8100, 7),
                ),
            self.asked("and pieces", "D6", driven()).comes_in(
                &udp(client, node_port).payload([7; 64]).piece(0, 32, true),
                REQUEST,
                &udp(client, pod).payload([7; 64]).piece(0, 32, true),
            ),
            self.asked(
                "and what is sent to several machines at once",
                "D8",
                driven(),
            )
            .comes_in(
                &udp(client, node_port).to_several(),
                REQUEST,
                &udp(client, pod).to_several(),
            ),
            self.asked(
                "a checksum that is only begun is TC's to change",
                "D2",
                driven(),
            )
            .passes_driver(&udp(client, node_port).begun())
            .passes_driver(&udp(pod, as_node).begun()),
            self.asked(
                "a backend that was taken away is TC's to tell of",
                "C10 C11",
                driven(),
            )
            .then(|world| world.change(1, |backend| backend.generation += 1))
            .comes_in_untouched(&udp(pod, as_node), Verdict::Drop(Outcome::StaleReply))
            .comes_in(&udp(client, node_port), NEW, &udp(client, pod)),
            self.case("no flow is begun again at a driver", "C3 C4", driven())
                .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
                .then(|world| world.change(0, |backend| backend.generation += 1))
                .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn()),
            self.asked(
                "an address that is no service's any more is nobody's",
                "E6",
                driven(),
            )
            .then(|world| {
                world
                    .tables
                    .services
                    .retain(|key, _| key.scope == Scope::CLUSTER);
            })
            .comes_in_untouched(&udp(client, node_port), NOT_OURS),
            self.case("a ClusterIP stays refused", "E1", driven())
                .comes_in_untouched(&tcp(client, vip).syn(), Verdict::Drop(Outcome::FromOutside))
                .comes_in_untouched(&udp(client, vip), Verdict::Drop(Outcome::FromOutside)),
        ]
    }
}

/// The address of an end.
pub(super) fn ip(end: &'static str) -> &'static str {
    let (ip, _port) = end.rsplit_once(':').expect("ADDRESS:PORT");
    ip.trim_matches(['[', ']'])
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [V4, V6].iter().flat_map(Addresses::at_driver).collect();
    let (client, node_port, pod) = (V4.client, V4.node_port, V4.pod);
    let as_node = V4.as_node;
    cases.push(
        V4.asked(
            "a datagram without a checksum stays without",
            "D1",
            V4.led(Leads::Driver, Leads::Driver, MTU),
        )
        .is_sent(
            &udp(client, node_port).without_checksum(),
            THERE,
            &out(udp(as_node, pod).without_checksum()),
        ),
    );
    cases.push(
        V4.asked(
            "IP options are for TC",
            "D4",
            V4.led(Leads::Driver, Leads::Driver, MTU),
        )
        .comes_in(
            &udp(client, node_port).options(&[1, 1, 1, 0]),
            REQUEST,
            &udp(client, pod).options(&[1, 1, 1, 0]),
        ),
    );
    let world = service(&format!("{}/sctp", V4.vip), &[pod])
        .inside(V4.pods, Inside::Pods)
        .node(V4.node_ip)
        .towards_outside(
            &format!("{node_port}/sctp"),
            &format!("{}/sctp", V4.vip),
            [MASQUERADE, ServiceFlags(0)],
        )
        .way(ip(pod), Leads::Driver, MTU);
    cases.push(
        case("SCTP is for TC", "D3", world)
            .comes_in(&sctp(client, node_port, 1), NEW, &sctp(client, pod, 1))
            .comes_in(&sctp(client, node_port, 1), REQUEST, &sctp(client, pod, 1)),
    );
    cases
}
