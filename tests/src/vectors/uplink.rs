//! What comes in by an uplink. In the kernel each of these frames meets the driver's hook first.

use clusterip_agent::model::inside::Inside;
use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::{other, ping, port_unreachable, tcp, udp},
    world::{World, service},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
const OUTSIDE: Verdict = Verdict::Drop(Outcome::FromOutside);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

struct Addresses {
    family: &'static str,
    outside: &'static str,
    /// The same without a port, as pings want it.
    outside_ip: &'static str,
    /// A pod of another node.
    far_pod: &'static str,
    far_pod_ip: &'static str,
    /// Another node itself.
    far_node: &'static str,
    /// This node.
    node: &'static str,
    vip: &'static str,
    vip_ip: &'static str,
    /// Another port of the same address.
    no_port: &'static str,
    /// An address of the service range that no service has.
    nobody: &'static str,
    nobody_ip: &'static str,
    /// A service without endpoints.
    empty: &'static str,
    pod: &'static str,
    ranges: [(&'static str, Inside); 2],
}

const V4: Addresses = Addresses {
    family: "IPv4",
    outside: "198.51.100.7:3000",
    outside_ip: "198.51.100.7",
    far_pod: "10.244.9.5:3000",
    far_pod_ip: "10.244.9.5",
    far_node: "192.0.2.2:3000",
    node: "192.0.2.1:22",
    vip: "10.96.0.10:80",
    vip_ip: "10.96.0.10",
    no_port: "10.96.0.10:81",
    nobody: "10.96.7.7:80",
    nobody_ip: "10.96.7.7",
    empty: "10.96.0.20:80",
    pod: "10.244.1.7:8080",
    ranges: [
        ("10.244.0.0/16", Inside::Pods),
        ("192.0.2.2/32", Inside::Node),
    ],
};
const V6: Addresses = Addresses {
    family: "IPv6",
    outside: "[2001:db8::7]:3000",
    outside_ip: "2001:db8::7",
    far_pod: "[fd00:10:244:9::5]:3000",
    far_pod_ip: "fd00:10:244:9::5",
    far_node: "[fd00:c0::2]:3000",
    node: "[fd00:c0::1]:22",
    vip: "[fd00:10:96::a]:80",
    vip_ip: "fd00:10:96::a",
    no_port: "[fd00:10:96::a]:81",
    nobody: "[fd00:10:96::777]:80",
    nobody_ip: "fd00:10:96::777",
    empty: "[fd00:10:96::14]:80",
    pod: "[fd00:10:244:1::7]:8080",
    ranges: [
        ("fd00:10:244::/48", Inside::Pods),
        ("fd00:c0::2/128", Inside::Node),
    ],
};

impl Addresses {
    fn world(&self) -> World {
        let world = service(&format!("{}/tcp", self.vip), &[self.pod])
            .and(&format!("{}/udp", self.vip), &[self.pod])
            .and(&format!("{}/tcp", self.empty), &[])
            .and(&format!("{}/udp", self.empty), &[]);
        self.ranges
            .iter()
            .fold(world, |world, (range, whose)| world.inside(range, *whose))
    }

    fn cases(&self) -> Vec<Case> {
        let Self {
            family,
            outside,
            outside_ip,
            far_pod,
            far_pod_ip,
            far_node,
            node,
            vip,
            vip_ip,
            no_port,
            nobody,
            nobody_ip,
            empty,
            pod,
            ranges: _,
        } = *self;
        let case = |name: &str, rules| {
            case(
                Box::leak(format!("{name} ({family})").into()),
                rules,
                self.world(),
            )
        };
        let piece = |from, to| udp(from, to).payload([7; 56]).piece(40, 64, false);
        vec![
            case("from outside no service is reached", "E1")
                .comes_in_untouched(&tcp(outside, vip).syn(), OUTSIDE)
                .comes_in_untouched(&tcp(outside, vip).ack(), OUTSIDE)
                .comes_in_untouched(&udp(outside, vip).payload("hello"), OUTSIDE)
                .comes_in_untouched(&ping(outside_ip, vip_ip, true), OUTSIDE)
                .comes_in_untouched(&other(47, outside_ip, vip_ip), OUTSIDE),
            case("nor is anything told of what there is", "E1 B7 B9")
                .comes_in_untouched(&tcp(outside, no_port).syn(), OUTSIDE)
                .comes_in_untouched(&tcp(outside, nobody).syn(), OUTSIDE)
                .comes_in_untouched(&tcp(outside, empty).syn(), OUTSIDE)
                .comes_in_untouched(&udp(outside, no_port), OUTSIDE)
                .comes_in_untouched(&udp(outside, nobody), OUTSIDE)
                .comes_in_untouched(&udp(outside, empty), OUTSIDE)
                .comes_in_untouched(&ping(outside_ip, nobody_ip, true), OUTSIDE),
            case("nor with what cannot be read as a flow", "E1 D4 D6 D7")
                .comes_in_untouched(&piece(outside, vip), OUTSIDE)
                .comes_in_untouched(&tcp(outside, vip).syn().total_length(0).cut(60), OUTSIDE)
                .comes_in_untouched(&port_unreachable(&udp(vip, outside)).turned(), OUTSIDE),
            case("what is for nobody's service passes", "E1")
                .comes_in_untouched(&tcp(outside, node).syn(), NOT_OURS)
                .comes_in_untouched(&udp(outside, pod), NOT_OURS)
                .comes_in_untouched(&tcp(far_pod, pod).syn(), NOT_OURS)
                .comes_in_untouched(&ping(outside_ip, far_pod_ip, true), NOT_OURS)
                .comes_in_untouched(&piece(outside, node), NOT_OURS),
            case("a pod of another node is served, and answered", "E1 C11")
                .comes_in(&tcp(far_pod, vip).syn(), NEW, &tcp(far_pod, pod).syn())
                .leaves(
                    &tcp(pod, far_pod).syn().ack(),
                    REPLY,
                    &tcp(vip, far_pod).syn().ack(),
                )
                .comes_in(&tcp(far_pod, vip).ack(), REQUEST, &tcp(far_pod, pod).ack())
                .comes_in(&udp(far_pod, vip), NEW, &udp(far_pod, pod))
                .leaves(&udp(pod, far_pod), REPLY, &udp(vip, far_pod))
                .comes_in(
                    &ping(far_pod_ip, vip_ip, true),
                    Verdict::Reply(Outcome::Ping),
                    &ping(vip_ip, far_pod_ip, false).turned(),
                ),
            case(
                "another node is served, and refused where B9 says so",
                "E1 B9",
            )
            .comes_in(&tcp(far_node, vip).syn(), NEW, &tcp(far_node, pod).syn())
            .comes_in_untouched(
                &tcp(far_node, nobody).syn(),
                Verdict::Drop(Outcome::Unallocated),
            ),
            case(
                "a node that leaves the cluster is outside from then on",
                "E1",
            )
            .comes_in(&tcp(far_node, vip).syn(), NEW, &tcp(far_node, pod).syn())
            .then(|world| world.tables.inside.clear())
            .comes_in_untouched(&tcp(far_node, vip).ack(), OUTSIDE),
        ]
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = [V4, V6].iter().flat_map(Addresses::cases).collect();
    // As if it were 10.244.9.5, which is inside.
    let disguised = tcp("[::ffff:10.244.9.5]:3000", V6.vip).syn();
    cases.push(
        case(
            "a mapped address is no address of a pod",
            "E1 D12",
            V4.world(),
        )
        .comes_in_untouched(&disguised, Verdict::Drop(Outcome::MappedAddress)),
    );
    cases.push(
        case(
            "a frame that ends within the IP header passes: the stack judges it (uplink)",
            "D4",
            V4.world(),
        )
        .comes_in_untouched(
            &tcp(V4.outside, V4.vip).syn().cut(14 + 19),
            Verdict::Pass(Outcome::Truncated),
        )
        .only_on_host("test-run refuses a frame without a whole IP header"),
    );
    cases
}
