//! Clients from outside the cluster: node ports, load balancers, the node in the place of clients.

use clusterip_agent::{model::inside::Inside, trace::memory::first_chosen_masquerade_port};
use clusterip_common::{
    abi::{Outcome, ServiceFlags},
    packet::Verdict,
};

use crate::{
    case::{Case, case},
    packet::{ping, port_unreachable, tcp, too_big, udp},
    world::{World, service},
};

pub(super) const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
pub(super) const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
pub(super) const REPLY: Verdict = Verdict::Translated(Outcome::Reply);
pub(super) const HIDDEN: Verdict = Verdict::Translated(Outcome::Masqueraded);
pub(super) const ERROR: Verdict = Verdict::Translated(Outcome::IcmpError);
pub(super) const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

pub(super) const MASQUERADE: ServiceFlags = ServiceFlags::MASQUERADE;
const KEEP: ServiceFlags = ServiceFlags(0);

pub(super) struct Addresses {
    pub(super) family: &'static str,
    /// A client outside, and another one with the same port.
    pub(super) client: &'static str,
    pub(super) other: &'static str,
    pub(super) third: &'static str,
    pub(super) client_ip: &'static str,
    /// A pod of this node, and one of another.
    pub(super) near_pod: &'static str,
    pub(super) far_pod: &'static str,
    /// A backend on this node, and the service that it has.
    pub(super) near_backend: &'static str,
    pub(super) other_vip: &'static str,
    /// The service inside, by its node port, and by its load balancer.
    pub(super) vip: &'static str,
    pub(super) node_port: &'static str,
    pub(super) balancer: &'static str,
    /// This node in the place of the client: with its port; itself; its own ports.
    pub(super) as_node: &'static str,
    pub(super) node_ip: &'static str,
    pub(super) ssh: &'static str,
    /// Another node's address with the same port.
    pub(super) not_this_node: &'static str,
    pub(super) other_ssh: &'static str,
    pub(super) other_node: &'static str,
    pub(super) loopback: &'static str,
    pub(super) pod: &'static str,
    pub(super) pods: &'static str,
    /// The ranges of this node's pods, and of the node itself.
    pub(super) own: [&'static str; 2],
    pub(super) router: &'static str,
    pub(super) clients: &'static str,
}

pub(super) const V4: Addresses = Addresses {
    family: "IPv4",
    client: "198.51.100.7:3000",
    other: "198.51.100.8:3000",
    third: "198.51.100.9:3000",
    client_ip: "198.51.100.7",
    near_pod: "10.244.0.5:3000",
    far_pod: "10.244.9.5:3000",
    near_backend: "10.244.0.7:8080",
    other_vip: "10.96.0.11:80",
    vip: "10.96.0.10:80",
    node_port: "192.0.2.1:30080",
    balancer: "203.0.113.10:80",
    as_node: "192.0.2.1:3000",
    node_ip: "192.0.2.1",
    ssh: "192.0.2.1:22",
    not_this_node: "192.0.2.2:30080",
    other_ssh: "192.0.2.2:22",
    other_node: "192.0.2.2/32",
    loopback: "127.0.0.1:30080",
    pod: "10.244.1.7:8080",
    pods: "10.244.0.0/16",
    own: ["10.244.0.0/24", "192.0.2.1/32"],
    router: "192.0.2.254",
    clients: "198.51.100.7/32",
};
pub(super) const V6: Addresses = Addresses {
    family: "IPv6",
    client: "[2001:db8::7]:3000",
    other: "[2001:db8::8]:3000",
    third: "[2001:db8::9]:3000",
    client_ip: "2001:db8::7",
    near_pod: "[fd00:10:244::5]:3000",
    far_pod: "[fd00:10:244:9::5]:3000",
    near_backend: "[fd00:10:244::7]:8080",
    other_vip: "[fd00:10:96::b]:80",
    vip: "[fd00:10:96::a]:80",
    node_port: "[fd00:c0::1]:30080",
    balancer: "[2001:db8:1::a]:80",
    as_node: "[fd00:c0::1]:3000",
    node_ip: "fd00:c0::1",
    ssh: "[fd00:c0::1]:22",
    not_this_node: "[fd00:c0::2]:30080",
    other_ssh: "[fd00:c0::2]:22",
    other_node: "fd00:c0::2/128",
    loopback: "[::1]:30080",
    pod: "[fd00:10:244:1::7]:8080",
    pods: "fd00:10:244::/48",
    own: ["fd00:10:244::/64", "fd00:c0::1/128"],
    router: "fd00:c0::fe",
    clients: "2001:db8::7/128",
};

impl Addresses {
    /// A service of TCP and UDP with a node port and a load balancer, by the policy Cluster or Local.
    pub(super) fn world(&self, outside: ServiceFlags) -> World {
        let world = service(&format!("{}/tcp", self.vip), &[self.pod])
            .and(&format!("{}/udp", self.vip), &[self.pod])
            .inside(self.pods, Inside::Pods)
            .node(self.node_ip);
        let flags = [MASQUERADE, outside];
        ["tcp", "udp"].iter().fold(world, |world, protocol| {
            let vip = format!("{}/{protocol}", self.vip);
            let world =
                world.towards_outside(&format!("{}/{protocol}", self.node_port), &vip, flags);
            world.towards_outside(&format!("{}/{protocol}", self.balancer), &vip, flags)
        })
    }

    pub(super) fn case(&self, name: &str, rules: &'static str, world: World) -> Case {
        let name = Box::leak(format!("{name} ({})", self.family).into());
        case(name, rules, world)
    }

    fn cases(&self) -> Vec<Case> {
        let themes = [
            self.masqueraded(),
            self.guarded(),
            self.elsewhere(),
            self.crowded(),
            self.half_lost(),
            self.spoofed(),
        ];
        themes.into_iter().flatten().collect()
    }

    fn masqueraded(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            node_port,
            balancer,
            as_node,
            pod,
            router,
            ..
        } = *self;
        let cluster = || self.world(MASQUERADE);
        let node_ip = self.node_ip;
        let ip = |port| {
            if node_ip.contains(':') {
                format!("[{node_ip}]:{port}")
            } else {
                format!("{node_ip}:{port}")
            }
        };
        let chosen = ip(first_chosen_masquerade_port());
        vec![
            self.case(
                "a client of a node port has the node's address at the backend",
                "E2 E8 C11",
                cluster(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .comes_in(
                &tcp(pod, as_node).syn().ack(),
                HIDDEN,
                &tcp(pod, client).syn().ack(),
            )
            .leaves(
                &tcp(pod, client).syn().ack(),
                REPLY,
                &tcp(node_port, client).syn().ack(),
            )
            .comes_in(
                &tcp(client, node_port).ack(),
                REQUEST,
                &tcp(client, pod).ack(),
            )
            .leaves(&tcp(client, pod).ack(), HIDDEN, &tcp(as_node, pod).ack()),
            self.case("a backend of this node answers likewise", "E2", cluster())
                .comes_in(&tcp(client, balancer).syn(), NEW, &tcp(client, pod).syn())
                .receives(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
                .sends(
                    &tcp(pod, as_node).syn().ack(),
                    HIDDEN,
                    &tcp(pod, client).syn().ack(),
                )
                .leaves(
                    &tcp(pod, client).syn().ack(),
                    REPLY,
                    &tcp(balancer, client).syn().ack(),
                ),
            self.case(
                "datagrams go the same way, as long as they come",
                "E2",
                cluster(),
            )
            .comes_in(&udp(client, node_port), NEW, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(as_node, pod))
            .comes_in(&udp(pod, as_node), HIDDEN, &udp(pod, client))
            .leaves(&udp(pod, client), REPLY, &udp(node_port, client))
            .later(100)
            .comes_in(&udp(client, node_port), REQUEST, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(as_node, pod))
            .later(100)
            .comes_in(&udp(pod, as_node), HIDDEN, &udp(pod, client))
            .leaves(&udp(pod, client), REPLY, &udp(node_port, client)),
            self.case(
                "two clients with one port: the second gets another one of the node",
                "E8",
                cluster(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .comes_in(&tcp(other, node_port).syn(), NEW, &tcp(other, pod).syn())
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .leaves(&tcp(other, pod).syn(), HIDDEN, &tcp(&chosen, pod).syn())
            .only_on_host("the kernel's chance is its own"),
            self.case(
                "a retransmitted SYN keeps backend and port",
                "C2 E8",
                cluster(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .comes_in(
                &tcp(client, node_port).syn(),
                REQUEST,
                &tcp(client, pod).syn(),
            )
            .leaves(&tcp(client, pod).syn(), HIDDEN, &tcp(as_node, pod).syn()),
            self.case(
                "path MTU discovery works through a node port",
                "D7 E2",
                cluster(),
            )
            .comes_in(&udp(client, node_port), NEW, &udp(client, pod))
            .leaves(&udp(client, pod), HIDDEN, &udp(as_node, pod))
            // A router between the nodes, then this node itself, about what the client sends.
            .comes_in(
                &too_big(router, &udp(as_node, pod).payload([7; 64]), 64),
                ERROR,
                &too_big(router, &udp(client, pod).payload([7; 64]), 64),
            )
            .leaves(
                &too_big(router, &udp(client, pod).payload([7; 64]), 64),
                ERROR,
                &too_big(router, &udp(client, node_port).payload([7; 64]), 64),
            )
            // A router before the client, about what the backend sends.
            .comes_in(
                &too_big(router, &udp(node_port, client).payload([7; 64]), 64),
                ERROR,
                &too_big(router, &udp(pod, client).payload([7; 64]), 64),
            )
            .leaves(
                &too_big(router, &udp(pod, client).payload([7; 64]), 64),
                ERROR,
                &too_big(router, &udp(pod, as_node).payload([7; 64]), 64),
            ),
            self.case(
                "a backend that is taken away: no answer of it reaches the client",
                "C10 C11",
                cluster(),
            )
            .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
            .then(|world| world.change(0, |backend| backend.generation += 1))
            .comes_in_untouched(
                &tcp(pod, as_node).syn().ack(),
                Verdict::Drop(Outcome::StaleReply),
            ),
            self.case(
                "without an address of the node nobody is served under the client's own",
                "C6 E2",
                {
                    let mut world = cluster();
                    world.tables.node.clear();
                    world
                },
            )
            .comes_in_untouched(
                &tcp(client, node_port).syn(),
                Verdict::Drop(Outcome::NoNodeAddress),
            ),
            self.case("a local policy keeps the client", "E2", self.world(KEEP))
                .comes_in(&tcp(client, node_port).syn(), NEW, &tcp(client, pod).syn())
                .receives_untouched(&tcp(client, pod).syn(), NOT_OURS)
                .sends_untouched(&tcp(pod, client).syn().ack(), NOT_OURS)
                .leaves(
                    &tcp(pod, client).syn().ack(),
                    REPLY,
                    &tcp(node_port, client).syn().ack(),
                ),
        ]
    }

    fn guarded(&self) -> Vec<Case> {
        let Self {
            client,
            other,
            vip,
            near_pod,
            node_port,
            balancer,
            pod,
            clients,
            ..
        } = *self;
        let guarded = || {
            let vip = format!("{vip}/tcp");
            let flags = [MASQUERADE.and(ServiceFlags::GUARDED); 2];
            self.world(MASQUERADE)
                .towards_outside(&format!("{balancer}/tcp"), &vip, flags)
                .admits(&vip, clients)
        };
        let refused = Verdict::Drop(Outcome::SourceRange);
        vec![
            self.case("source ranges guard the load balancer", "E4", guarded())
                .comes_in(&tcp(client, balancer).syn(), NEW, &tcp(client, pod).syn())
                .comes_in_untouched(&tcp(other, balancer).syn(), refused)
                .sends_untouched(&tcp(near_pod, balancer).syn(), refused),
            self.case("and nothing else", "E4", guarded())
                .comes_in(&tcp(other, node_port).syn(), NEW, &tcp(other, pod).syn())
                .sends(&tcp(near_pod, vip).syn(), NEW, &tcp(near_pod, pod).syn()),
        ]
    }

    fn elsewhere(&self) -> Vec<Case> {
        let Self {
            client,
            client_ip,
            near_pod,
            far_pod,
            vip,
            node_port,
            balancer,
            as_node,
            node_ip,
            ssh,
            not_this_node,
            loopback,
            pod,
            ..
        } = *self;
        let cluster = || self.world(MASQUERADE);
        let empty = |flags: ServiceFlags| {
            cluster().heads(move |head| {
                head.slot_count = 0;
                head.flags = flags;
            })
        };
        let none = Verdict::Reply(Outcome::NoEndpoint);
        vec![
            self.case(
                "a node port is the node's own, and no other number is taken",
                "E6",
                cluster(),
            )
            .comes_in_untouched(&tcp(client, not_this_node).syn(), NOT_OURS)
            .comes_in_untouched(&tcp(client, loopback).syn(), NOT_OURS)
            .sends_untouched(&tcp(near_pod, loopback).syn(), NOT_OURS)
            .comes_in_untouched(&tcp(client, ssh).syn(), NOT_OURS)
            .comes_in_untouched(&tcp(client, as_node).ack(), NOT_OURS)
            .comes_in_untouched(&ping(client_ip, node_ip, true), NOT_OURS)
            .comes_in_untouched(&port_unreachable(&udp(as_node, client)).turned(), NOT_OURS),
            self.case("and a ClusterIP stays refused", "E1", cluster())
                .comes_in_untouched(&tcp(client, vip).syn(), Verdict::Drop(Outcome::FromOutside)),
            self.case(
                "no endpoint anywhere is said at once",
                "B7 B8",
                empty(MASQUERADE),
            )
            .comes_in(
                &udp(client, node_port),
                none,
                &port_unreachable(&udp(client, node_port)),
            ),
            self.case(
                "none on this node is not said",
                "B8",
                empty(ServiceFlags::LOCAL),
            )
            .comes_in_untouched(
                &tcp(client, node_port).syn(),
                Verdict::Drop(Outcome::NoLocalEndpoint),
            ),
            self.case(
                "a pod is short-circuited, and keeps its address",
                "E3 C11",
                cluster(),
            )
            .sends(
                &tcp(near_pod, balancer).syn(),
                NEW,
                &tcp(near_pod, pod).syn(),
            )
            .receives_untouched(&tcp(near_pod, pod).syn(), NOT_OURS)
            .receives(
                &tcp(pod, near_pod).syn().ack(),
                REPLY,
                &tcp(balancer, near_pod).syn().ack(),
            ),
            self.case(
                "a pod of another node is answered by way of this one",
                "E3",
                self.world(KEEP),
            )
            .comes_in(
                &tcp(far_pod, node_port).syn(),
                NEW,
                &tcp(far_pod, pod).syn(),
            )
            .leaves(&tcp(far_pod, pod).syn(), HIDDEN, &tcp(as_node, pod).syn())
            .comes_in(
                &tcp(pod, as_node).syn().ack(),
                HIDDEN,
                &tcp(pod, far_pod).syn().ack(),
            )
            .leaves(
                &tcp(pod, far_pod).syn().ack(),
                REPLY,
                &tcp(node_port, far_pod).syn().ack(),
            ),
        ]
    }
}

pub(super) fn cases() -> Vec<Case> {
    [V4, V6].iter().flat_map(Addresses::cases).collect()
}
