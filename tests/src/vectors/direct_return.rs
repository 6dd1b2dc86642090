//! Direct server return: clients that one node forwards to another, which answers them (docs/adr/0019-direct-server-return.md).

use clusterip_agent::model::inside::Inside;
use clusterip_common::{
    abi::{Direction, Outcome},
    packet::Verdict,
};

use super::driver::ip;
use super::outside::{Addresses, ERROR, HIDDEN, MASQUERADE, NEW, NOT_OURS, REPLY, REQUEST, V4, V6};
use crate::{
    case::Case,
    packet::{port_unreachable, tcp, too_big, udp},
    world::{DEVICE_MAC, Leads, NEXT_MAC, World},
};

const FORWARDED: Verdict = Verdict::Pass(Outcome::Forwarded);
const RETURNED: Verdict = Verdict::Translated(Outcome::Returned);
const REFUSED: Verdict = Verdict::Drop(Outcome::ForwardRefused);
const STALE: Verdict = Verdict::Drop(Outcome::StaleReply);
/// Bytes of a datagram that leaves no room for what was called.
const LONG: usize = 1250;

impl Addresses {
    /// What of this node is inside, and what else.
    fn among_nodes(&self, how: u64) -> World {
        let [pods, node] = self.own;
        self.world(MASQUERADE)
            .inside(pods, Inside::OwnPods)
            .inside(node, Inside::OwnNode)
            .inside(self.other_node, Inside::Node)
            .direct_return(how)
    }

    /// At the node that is called.
    fn forwards(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            far_pod,
            node_port,
            balancer,
            as_node,
            pod,
            router,
            ..
        } = *self;
        let world = || self.among_nodes(2);
        let long = [7; LONG];
        vec![
            self.case(
                "a client whose backend is on another node is forwarded as it is, with what it called",
                "C2 D1 E2",
                world(),
            )
            .comes_in(
                &tcp(client, node_port).syn(),
                NEW,
                &tcp(client, pod).syn().called(node_port),
            )
            .leaves_untouched(&tcp(client, pod).syn().called(node_port), NOT_OURS)
            .comes_in(
                &tcp(client, node_port).syn(),
                REQUEST,
                &tcp(client, pod).syn().called(node_port),
            )
            .comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            )
            .leaves_untouched(&tcp(client, pod).ack(), NOT_OURS)
            .comes_in(
                &tcp(client, node_port).ack().payload("GET /"),
                REQUEST,
                &tcp(client, pod).ack().payload("GET /"),
            )
            .comes_in(
                &tcp(client, node_port).fin().ack(),
                REQUEST,
                &tcp(client, pod).fin().ack(),
            ),
            self.case(
                "a client that has ended its side goes on as long as it says something",
                "C5",
                world(),
            )
            .comes_in(
                &tcp(client, node_port).syn(),
                NEW,
                &tcp(client, pod).syn().called(node_port),
            )
            .comes_in(
                &tcp(client, node_port).fin().ack(),
                REQUEST,
                &tcp(client, pod).fin().ack(),
            )
            .later(3_000)
            .comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            )
            .later(3_000)
            .comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            ),
            self.case("each datagram of his likewise", "D1 D2 E2", world())
                .comes_in(
                    &udp(client, balancer),
                    NEW,
                    &udp(client, pod).called(balancer),
                )
                .comes_in(
                    &udp(client, balancer).payload("again"),
                    REQUEST,
                    &udp(client, pod).payload("again").called(balancer),
                )
                .leaves_untouched(&udp(client, pod).called(balancer), NOT_OURS)
                .later(100)
                .comes_in(
                    &udp(client, balancer),
                    REQUEST,
                    &udp(client, pod).called(balancer),
                ),
            self.case(
                "where that would make one too long, it goes without, and comes back as it was called",
                "D7 E2",
                world(),
            )
            .comes_in(
                &udp(client, node_port),
                NEW,
                &udp(client, pod).called(node_port),
            )
            .comes_in(
                &udp(client, node_port).payload(long),
                REQUEST,
                &udp(client, pod).payload(long),
            )
            .leaves_untouched(&udp(client, pod).payload(long), NOT_OURS),
            self.case(
                "whose first one has no room for it is hidden, and stays so",
                "C11 D7 E2",
                world(),
            )
            .comes_in(
                &udp(client, node_port).payload(long),
                NEW,
                &udp(client, pod).payload(long),
            )
            .leaves(
                &udp(client, pod).payload(long),
                HIDDEN,
                &udp(as_node, pod).payload(long),
            )
            .comes_in(&udp(client, node_port), REQUEST, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(as_node, pod))
            .comes_in(&udp(pod, as_node), HIDDEN, &udp(pod, client))
            .leaves(&udp(pod, client), REPLY, &udp(node_port, client)),
            self.case("a pod of another node is hidden as ever", "E2 E3", world())
                .comes_in(&tcp(far_pod, node_port).syn(), NEW, &tcp(far_pod, pod).syn())
                .leaves(&tcp(far_pod, pod).syn(), HIDDEN, &tcp(as_node, pod).syn()),
            self.case(
                "errors about what the backend says find it",
                "D7",
                world(),
            )
            .comes_in(
                &udp(client, node_port),
                NEW,
                &udp(client, pod).called(node_port),
            )
            .comes_in(
                &too_big(router, &udp(node_port, client).payload([7; 64]), 64),
                ERROR,
                &too_big(router, &udp(pod, client).payload([7; 64]), 64),
            )
            .leaves_untouched(
                &too_big(router, &udp(pod, client).payload([7; 64]), 64),
                NOT_OURS,
            ),
            self.case(
                "a backend that is taken away gets no more of it",
                "C8 C10 E2",
                world(),
            )
            .comes_in(
                &tcp(client, node_port).syn(),
                NEW,
                &tcp(client, pod).syn().called(node_port),
            )
            .then(|world| world.change(0, |backend| backend.generation += 1))
            .comes_in(
                &tcp(client, node_port).syn(),
                NEW,
                &tcp(client, pod).syn().called(node_port),
            ),
            self.case(
                "a node that only takes clients forwards none",
                "E2",
                self.among_nodes(1),
            )
            .comes_in(&tcp(other, node_port).syn(), NEW, &tcp(other, pod).syn())
            .leaves(&tcp(other, pod).syn(), HIDDEN, &tcp(as_node, pod).syn()),
        ]
    }

    /// The same where the next hop is led to by a driver.
    fn forwards_at_driver(&self) -> Vec<Case> {
        let Self {
            client,
            node_port,
            pod,
            ..
        } = *self;
        let world = || self.among_nodes(2).way(ip(pod), Leads::Driver, 1500);
        vec![
            self.case(
                "a client who is forwarded goes on at the driver, but for what says whom he called",
                "C2 D10 E2",
                world(),
            )
            .comes_in(
                &tcp(client, node_port).syn(),
                NEW,
                &tcp(client, pod).syn().called(node_port),
            )
            .passes_driver(&tcp(client, node_port).syn())
            .is_sent(
                &tcp(client, node_port).ack().payload("GET /"),
                [REQUEST, NOT_OURS],
                &tcp(client, pod)
                    .ack()
                    .payload("GET /")
                    .forwarded(NEXT_MAC, DEVICE_MAC),
            ),
            self.case("datagrams are left to TC", "E2", world())
                .comes_in(
                    &udp(client, node_port),
                    NEW,
                    &udp(client, pod).called(node_port),
                )
                .passes_driver(&udp(client, node_port)),
        ]
    }

    /// At the backend's node.
    fn takes(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            far_pod,
            near_backend,
            not_this_node,
            node_port,
            balancer,
            vip,
            pod,
            ..
        } = *self;
        let there = || {
            let own = format!("{}/tcp", self.other_vip);
            self.among_nodes(1).and(&own, &[near_backend])
        };
        vec![
            self.case(
                "an answer to a client whom another node forwarded comes from what he called",
                "C5 C11 D1 E2",
                there(),
            )
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(not_this_node),
                FORWARDED,
            )
            .receives_untouched(&tcp(client, near_backend).syn(), NOT_OURS)
            .sends_untouched(&tcp(near_backend, client).syn().ack(), NOT_OURS)
            .leaves(
                &tcp(near_backend, client).syn().ack(),
                RETURNED,
                &tcp(not_this_node, client).syn().ack(),
            )
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(not_this_node),
                NOT_OURS,
            )
            .comes_in_untouched(&tcp(client, near_backend).ack(), NOT_OURS)
            .later(100)
            .leaves(
                &tcp(near_backend, client).ack().payload("hello"),
                RETURNED,
                &tcp(not_this_node, client).ack().payload("hello"),
            )
            .comes_in_untouched(&tcp(client, near_backend).fin().ack(), NOT_OURS)
            .leaves(
                &tcp(near_backend, client).fin().ack(),
                RETURNED,
                &tcp(not_this_node, client).fin().ack(),
            )
            .later(11)
            .leaves_untouched(&tcp(near_backend, client).ack(), STALE)
            .comes_in_untouched(&tcp(client, near_backend).ack(), STALE),
            self.case("of datagrams, and a load balancer, the same", "C14 D1 E2", there())
                .comes_in_untouched(&udp(client, near_backend).called(balancer), FORWARDED)
                .leaves(
                    &udp(near_backend, client),
                    RETURNED,
                    &udp(balancer, client),
                )
                .comes_in_untouched(&udp(client, near_backend).payload([7; LONG]), NOT_OURS)
                .comes_in_untouched(&udp(client, near_backend).called(balancer), NOT_OURS)
                .later(100)
                .comes_in_untouched(&udp(client, near_backend).called(balancer), NOT_OURS)
                .later(100)
                .leaves(
                    &udp(near_backend, client),
                    RETURNED,
                    &udp(balancer, client),
                )
                .loses(Direction::RETURN)
                .later(2)
                .comes_in_untouched(&udp(client, near_backend).called(balancer), NOT_OURS)
                .leaves(
                    &udp(near_backend, client),
                    RETURNED,
                    &udp(balancer, client),
                ),
            self.case("an error that the backend sends comes from there too", "D7", there())
                .comes_in_untouched(&udp(client, near_backend).called(not_this_node), FORWARDED)
                .leaves(
                    &port_unreachable(&udp(client, near_backend)),
                    ERROR,
                    &port_unreachable(&udp(client, not_this_node)),
                ),
            self.case(
                "the backend could not tell two calls from one port of a client apart: the second waits",
                "C12 E2",
                there(),
            )
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(not_this_node),
                FORWARDED,
            )
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(balancer),
                Verdict::Drop(Outcome::PortsExhausted),
            )
            .comes_in_untouched(
                &tcp(other, near_backend).syn().called(balancer),
                FORWARDED,
            )
            .leaves(
                &tcp(near_backend, client).syn().ack(),
                RETURNED,
                &tcp(not_this_node, client).syn().ack(),
            )
            .comes_in_untouched(&tcp(client, near_backend).rst(), NOT_OURS)
            .later(11)
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(balancer),
                FORWARDED,
            )
            .leaves(
                &tcp(near_backend, client).syn().ack(),
                RETURNED,
                &tcp(balancer, client).syn().ack(),
            ),
            self.case(
                "nobody else's name is taken",
                "E1 E2",
                there(),
            )
            .comes_in_untouched(&tcp(client, near_backend).syn().called(other), REFUSED)
            .comes_in_untouched(&tcp(client, near_backend).syn().called(vip), REFUSED)
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(self.other_ssh),
                REFUSED,
            )
            .comes_in_untouched(&tcp(client, pod).syn().called(balancer), NOT_OURS)
            .comes_in_untouched(&tcp(far_pod, near_backend).syn().called(balancer), NOT_OURS)
            .leaves_untouched(&tcp(near_backend, client).syn().ack(), NOT_OURS),
            self.case(
                "where it is off, nothing of this is looked at",
                "D4 D5",
                there().direct_return(0),
            )
            .comes_in_untouched(
                &tcp(client, near_backend).syn().called(balancer),
                NOT_OURS,
            )
            .leaves_untouched(&tcp(near_backend, client).syn().ack(), NOT_OURS)
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn()),
        ]
    }
}

pub(super) fn cases() -> Vec<Case> {
    let of = |addresses: &Addresses| {
        let parts = [
            addresses.forwards(),
            addresses.forwards_at_driver(),
            addresses.takes(),
        ];
        parts.into_iter().flatten()
    };
    of(&V4).chain(of(&V6)).collect()
}
