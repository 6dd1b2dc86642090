//! Clients from outside that are too many, or not what they say they are.

use clusterip_agent::model::inside::Inside;
use clusterip_common::{abi::Outcome, packet::Verdict};

use super::outside::{Addresses, HIDDEN, MASQUERADE, NEW, NOT_OURS};
use crate::{
    case::Case,
    packet::{tcp, udp},
};

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
        let chosen = if node_ip.contains(':') {
            format!("[{node_ip}]:4000")
        } else {
            format!("{node_ip}:4000")
        };
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
