//! Clients from outside that are too many, or not what they say they are.

use clusterip_agent::model::inside::Inside;
use clusterip_common::{
    abi::{Direction, Outcome},
    packet::Verdict,
};

use super::outside::{Addresses, HIDDEN, MASQUERADE, NEW, NOT_OURS, REPLY, REQUEST};
use crate::{
    case::Case,
    packet::{tcp, udp},
};

/// The only port that some cases leave the node, at one of its addresses.
fn at_only_port(node_ip: &str) -> String {
    if node_ip.contains(':') {
        format!("[{node_ip}]:4000")
    } else {
        format!("{node_ip}:4000")
    }
}

impl Addresses {
    /// More clients than the node has ports.
    pub(super) fn crowded(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            third,
            node_port,
            node_ip,
            as_node,
            pod,
            ..
        } = *self;
        let chosen = at_only_port(node_ip);
        let no_port = Verdict::Drop(Outcome::PortsExhausted);
        let world = || self.world(MASQUERADE).only_port(4_000);
        vec![
            self.case(
                "the last port of the node is given away once, and who has one keeps it",
                "E8 C6",
                world(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .comes_in(&tcp(other, node_port).syn(), NEW, &tcp(other, pod).syn())
            .leaves(&tcp(other, pod).syn(), HIDDEN, &tcp(&chosen, pod).syn())
            .comes_in_untouched(&tcp(third, node_port).syn(), no_port)
            .comes_in_untouched(&tcp(third, node_port).syn(), no_port)
            .comes_in(
                &tcp(pod, as_node).syn().ack(),
                HIDDEN,
                &tcp(pod, client).syn().ack(),
            )
            .comes_in(
                &tcp(pod, &chosen).syn().ack(),
                HIDDEN,
                &tcp(pod, other).syn().ack(),
            ),
            self.case("of datagrams the same", "E8 C6", world())
                .comes_in(&udp(client, node_port), NEW, &udp(client, pod))
                .comes_in(&udp(other, node_port), NEW, &udp(other, pod))
                .comes_in_untouched(&udp(third, node_port), no_port)
                .comes_in(&udp(pod, &chosen), HIDDEN, &udp(pod, other))
                .comes_in(&udp(pod, as_node), HIDDEN, &udp(pod, client)),
        ]
    }

    /// Flows of which the tables have let go of one pair of entries, and not of the other.
    pub(super) fn half_lost(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            node_port,
            node_ip,
            as_node,
            pod,
            ..
        } = *self;
        let chosen = at_only_port(node_ip);
        let (hides, shows) = (Direction::MASQUERADE, Direction::UNMASQUERADE);
        let lost = Verdict::Drop(Outcome::PortLost);
        let stale = Verdict::Drop(Outcome::StaleReply);
        let open = |case: Case| {
            case.comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
                .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
        };
        let goes_on = |case: Case| {
            case.comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            )
            .leaves(&tcp(client, pod).ack(), HIDDEN, &tcp(as_node, pod).ack())
            .comes_in(&tcp(pod, as_node).ack(), HIDDEN, &tcp(pod, client).ack())
            .leaves(
                &tcp(pod, client).ack(),
                REPLY,
                &tcp(node_port, client).ack(),
            )
        };
        let named = |name, rules| self.case(name, rules, self.world(MASQUERADE));
        let crowded = |name, rules| self.case(name, rules, self.world(MASQUERADE).only_port(4_000));
        vec![
            goes_on(
                goes_on(open(named(
                    "a client whose hiding is forgotten is hidden again, behind the same port",
                    "C11 C14 E2 E8",
                )))
                .loses(hides)
                .loses(shows),
            ),
            goes_on(goes_on(open(named("of one side of it the same", "C11 C14 E8"))).loses(hides)),
            goes_on(
                open(named("before both have spoken too", "C11 C14 E8"))
                    .loses(hides)
                    .loses(shows),
            ),
            crowded("a port that was chosen is the same one again", "C14 E8")
                .comes_in(&udp(client, node_port), NEW, &udp(client, pod))
                .comes_in(&udp(other, node_port), NEW, &udp(other, pod))
                .leaves(&udp(other, pod), HIDDEN, &udp(&chosen, pod))
                .loses(hides)
                .loses(shows)
                .comes_in(&udp(other, node_port), REQUEST, &udp(other, pod))
                .leaves(&udp(other, pod), HIDDEN, &udp(&chosen, pod))
                .comes_in(&udp(pod, &chosen), HIDDEN, &udp(pod, other))
                .leaves(&udp(pod, other), REPLY, &udp(node_port, other)),
            open(crowded(
                "a port that somebody else has got by then is his, and the client begins anew",
                "C11 C14 E8",
            ))
            .loses(hides)
            .loses(shows)
            .comes_in(&tcp(other, node_port).syn(), NEW, &tcp(other, pod).syn())
            .leaves(&tcp(other, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            )
            .leaves_untouched(&tcp(client, pod).ack(), lost)
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(&chosen, pod).syn()),
            goes_on(open(named(
                "an answer whose service is forgotten never shows the backend",
                "C11 C14",
            )))
            .loses(Direction::REPLY)
            .comes_in(&tcp(pod, as_node).ack(), HIDDEN, &tcp(pod, client).ack())
            .leaves_untouched(&tcp(pod, client).ack(), stale),
        ]
    }

    /// What says that it comes from this node or its pods, and comes from outside.
    pub(super) fn spoofed(&self) -> Vec<Case> {
        let Self {
            near_pod,
            far_pod,
            as_node,
            vip,
            node_port,
            balancer,
            ssh,
            pod,
            own,
            ..
        } = *self;
        let spoofed = Verdict::Drop(Outcome::Spoofed);
        let outside = Verdict::Drop(Outcome::FromOutside);
        let martians: &[&str] = if vip.contains('[') {
            &["[::1]:5000", "[::]:5000", "[ff02::1]:5000"]
        } else {
            &[
                "127.0.0.1:5000",
                "0.1.2.3:5000",
                "224.0.0.9:5000",
                "255.255.255.255:5000",
            ]
        };
        let world = || {
            let [pods, node] = own;
            let world = self.world(MASQUERADE);
            world
                .inside(pods, Inside::OwnPods)
                .inside(node, Inside::OwnNode)
        };
        vec![
            self.case(
                "this node's own addresses call no service from outside",
                "E1",
                world(),
            )
            .comes_in_untouched(&tcp(near_pod, vip).syn(), spoofed)
            .comes_in_untouched(&tcp(near_pod, node_port).syn(), spoofed)
            .comes_in_untouched(&udp(near_pod, balancer), spoofed)
            .comes_in_untouched(&tcp(as_node, vip).syn(), spoofed)
            .comes_in_untouched(&udp(as_node, balancer), spoofed),
            martians.iter().fold(
                self.case(
                    "addresses that no machine has call no service",
                    "E1",
                    world(),
                ),
                |case, from| {
                    case.comes_in_untouched(&tcp(from, node_port).syn(), spoofed)
                        .comes_in_untouched(&udp(from, balancer), spoofed)
                        .comes_in_untouched(&tcp(from, vip).syn(), outside)
                        .comes_in_untouched(&tcp(from, ssh).syn(), NOT_OURS)
                },
            ),
            self.case(
                "pods of other nodes do, and what is no service's passes",
                "E1",
                world(),
            )
            .comes_in(&tcp(far_pod, vip).syn(), NEW, &tcp(far_pod, pod).syn())
            .comes_in_untouched(&tcp(near_pod, ssh).syn(), NOT_OURS)
            .comes_in_untouched(&tcp(near_pod, pod).syn(), NOT_OURS)
            .sends(&tcp(near_pod, vip).syn(), NEW, &tcp(near_pod, pod).syn()),
        ]
    }
}
