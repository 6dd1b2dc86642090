//! The rules of clients outside, broken on purpose.

use super::breach::{Breach, breach};

const DIRECT_RETURN: &str = "clusterip-common/src/packet/direct_return.rs";
const DRIVER: &str = "clusterip-common/src/packet/driver.rs";
const MASQUERADE: &str = "clusterip-common/src/packet/masquerade.rs";
const SELECT: &str = "clusterip-common/src/packet/select.rs";
const UPLINK: &str = "clusterip-common/src/packet/uplink.rs";
const WAY: &str = "clusterip-common/src/packet/way.rs";

/// All of them, by rule.
pub(super) const OUTSIDE: &[Breach] = &[
    breach(
        "E1",
        "from outside services are reached",
        UPLINK,
        (
            "        Inside::NONE if is_cluster && env.settings().expose_cluster_ips == 0 => {",
            "        Inside::NONE if is_cluster && env.settings().expose_cluster_ips == 1 => {",
        ),
    ),
    breach(
        "E1",
        "what comes from the cluster is refused too",
        UPLINK,
        (
            "        _ => Ok(Origin::Inside),",
            "        _ => Err(Verdict::Drop(Outcome::FromOutside)),",
        ),
    ),
    breach(
        "E1",
        "who has a pod's address is one, wherever it comes in",
        UPLINK,
        (
            "        Inside::OWN if is_called => Err(Verdict::Drop(Outcome::Spoofed)),",
            "        Inside::OWN if is_called => Ok(Origin::Inside),",
        ),
    ),
    breach(
        "E2",
        "clients keep their address",
        MASQUERADE,
        (
            "        .is_some_and(|head| head.flags.has(ServiceFlags::MASQUERADE))",
            "        .is_some_and(|head| head.flags.has(ServiceFlags::GUARDED))",
        ),
    ),
    breach(
        "C11",
        "who answers a client that another node forwarded answers under its own address",
        DIRECT_RETURN,
        (
            "    if flow.direction != Direction::RETURN {",
            "    if flow.direction != Direction::REPLY {",
        ),
    ),
    breach(
        "C12",
        "two calls of one client that a backend cannot tell apart are both forwarded to it",
        DIRECT_RETURN,
        (
            "            let is_same = flow.address.is(address) && flow.port == port;",
            "            let is_same = port == port;",
        ),
    ),
    breach(
        "D7",
        "a note makes a packet too long",
        DIRECT_RETURN,
        (
            "        && payload <= LONGEST - A::HEADER - A::NOTE",
            "        && payload <= LONGEST",
        ),
    ),
    breach(
        "E8",
        "who loses a race for a port of the node is dropped",
        WAY,
        (
            "        return Next::Taken;",
            "        return Next::Verdict(decision.action.verdict(decision.outcome));",
        ),
    ),
    breach(
        "E2",
        "another node's clients are answered in anybody's name",
        DIRECT_RETURN,
        (
            "    if !is_served(env, packet, (address, port)) {",
            "    if !packet.opens() {",
        ),
    ),
    breach(
        "C14",
        "a client whose hiding was forgotten leaves under its own address",
        MASQUERADE,
        (
            "    if flow.direction != Direction::REPLY || !is_port(flow.node_port) {",
            "    if flow.direction != Direction::DIRECT || !is_port(flow.node_port) {",
        ),
    ),
    breach(
        "C11",
        "a backend's answer whose service was forgotten leaves under its own address",
        MASQUERADE,
        (
            "    if flow.direction == Direction::MASQUERADE {",
            "    if flow.direction == Direction::DIRECT {",
        ),
    ),
    breach(
        "E8",
        "a port that somebody else has got is taken back",
        MASQUERADE,
        (
            "        && !env.is_frontend(node, node_port)\n        && is_free(env, &mut key, &mine);",
            "        && !env.is_frontend(node, node_port);",
        ),
    ),
    breach(
        "E3",
        "pods are clients from outside",
        UPLINK,
        (
            "            Self::Pod | Self::Inside => Scope::INSIDE,",
            "            Self::Pod | Self::Inside => Scope::OUTSIDE,",
        ),
    ),
    breach(
        "E4",
        "source ranges guard nothing",
        SELECT,
        (
            "    if service.flags.has(ServiceFlags::GUARDED) && !env.admits(service.id, from) {",
            "    if service.flags.has(ServiceFlags::GUARDED) && env.admits(service.id, from) {",
        ),
    ),
    breach(
        "E8",
        "a port that another client has is taken",
        MASQUERADE,
        (
            "        && is_free(env, &mut key, &mine)\n        && !frame.has_socket(&key)",
            "        && (true || is_free(env, &mut key, &mine))\n        && !frame.has_socket(&key)",
        ),
    ),
    breach(
        "E8",
        "a port that a socket of the node has is taken",
        MASQUERADE,
        (
            "        && !frame.has_socket(&key)",
            "        && (true || !frame.has_socket(&key))",
        ),
    ),
    breach(
        "E8",
        "when all ports are taken the client keeps its own",
        MASQUERADE,
        (
            "        Err(Outcome::PortsExhausted)\n    }\n}\n\n/// Whether a client gets",
            "        Ok(Tried::Port(packet.key.source_port))\n    }\n}\n\n/// Whether a client gets",
        ),
    ),
    breach(
        "D2",
        "a checksum that is only begun is changed at a driver",
        DRIVER,
        (
            "    if first & TO_SEVERAL != 0 || packet.is_sctp() || is_begun::<A, F>(frame, &packet)? {",
            "    if first & TO_SEVERAL != 0 || packet.is_sctp() {",
        ),
    ),
    breach(
        "C10",
        "a driver goes on with the answers of a backend that was taken away",
        DRIVER,
        (
            "    let stands = flow::backend(env, &flow).is_some();",
            "    let stands = true;",
        ),
    ),
];
