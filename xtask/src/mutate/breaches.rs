//! Each rule, broken on purpose.

use super::breach::{Breach, breach, in_namespaces};

const DECIDE: &str = "clusterip-common/src/packet/decide.rs";
const FAMILY: &str = "clusterip-common/src/packet/family.rs";
const FLOW: &str = "clusterip-common/src/packet/flow.rs";
const OPEN: &str = "clusterip-common/src/packet/open.rs";
const FRAGMENT: &str = "clusterip-common/src/packet/fragment.rs";
const ICMP: &str = "clusterip-common/src/packet/icmp.rs";
const LINK: &str = "clusterip-common/src/packet/link.rs";
const WAY: &str = "clusterip-common/src/packet/way.rs";
const PARSE: &str = "clusterip-common/src/packet/parse.rs";
const REJECT: &str = "clusterip-common/src/packet/reject.rs";
const SELECT: &str = "clusterip-common/src/packet/select.rs";
const TRANSLATE: &str = "clusterip-common/src/packet/translate.rs";

/// All of them but those of clients outside, by rule. C9 is not among them: what is refused leaves nothing behind, and no line makes it so.
pub(super) const ALL: &[Breach] = &[
    breach(
        "A1",
        "a service is its address and port, whatever the protocol",
        PARSE,
        (
            "ServiceKey::new(key.destination, key.destination_port, key.protocol).seen(self.scope)",
            "ServiceKey::new(key.destination, key.destination_port, Proto::TCP).seen(self.scope)",
        ),
    ),
    breach(
        "B1",
        "chance instead of turns",
        SELECT,
        (
            "        _ => env.turn(service.id)?,",
            "        _ => u64::from(env.random()),",
        ),
    ),
    breach(
        "B2",
        "Maglev takes turns",
        SELECT,
        (
            "Algorithm::MAGLEV => hash(key, service.affinity != 0),",
            "Algorithm::MAGLEV => env.turn(service.id)?,",
        ),
    ),
    breach(
        "B2",
        "the busier of two is taken",
        SELECT,
        (
            "env.live_flows(other) < env.live_flows(id)",
            "env.live_flows(other) > env.live_flows(id)",
        ),
    ),
    breach(
        "B2",
        "random takes turns",
        SELECT,
        (
            "Algorithm::RANDOM | Algorithm::LEAST_CONNECTIONS => u64::from(env.random()),",
            "Algorithm::LEAST_CONNECTIONS => u64::from(env.random()),",
        ),
    ),
    breach(
        "B3",
        "affinity lasts to its timeout and at it",
        SELECT,
        (
            "idle >= u64::from(service.affinity) * SECOND",
            "idle > u64::from(service.affinity) * SECOND",
        ),
    ),
    breach(
        "B3",
        "affinity counts from the first flow on",
        SELECT,
        (
            "        last_used: env.now(),",
            "        last_used: env.affinity(&client).map_or(env.now(), |known| known.last_used),",
        ),
    ),
    breach(
        "B4",
        "a client keeps a backend that takes no new flows",
        SELECT,
        (
            "(is_same && choice.backend.state == BackendState::ACTIVE).then_some(choice)",
            "is_same.then_some(choice)",
        ),
    ),
    breach(
        "B4",
        "an affine backend that is gone is a drop",
        SELECT,
        (
            "        .or_else(|| pick(env, &service, key))\n        .or_else(|| again(env, vip))",
            "        .or_else(|| env.affinity(&client).is_none().then(|| pick(env, &service, key)).flatten())",
        ),
    ),
    breach(
        "B5",
        "affinity that was switched off counts",
        SELECT,
        (
            "    if service.affinity == 0 {",
            "    let service = Service { affinity: service.affinity.max(100), ..service };\n    if service.affinity == 0 {",
        ),
    ),
    breach(
        "B6",
        "with affinity the hash has the source port in it",
        SELECT,
        (
            "    let port = if whole_client {",
            "    let port = if whole_client && false {",
        ),
    ),
    breach(
        "B7",
        "no endpoint is a drop",
        DECIDE,
        (
            "Outcome::NoEndpoint | Outcome::NoService",
            "Outcome::NoService",
        ),
    ),
    breach(
        "B8",
        "a Local policy without endpoints rejects",
        SELECT,
        (
            "if service.flags.has(ServiceFlags::LOCAL) {",
            "if service.flags.has(ServiceFlags(u32::MAX)) {",
        ),
    ),
    breach(
        "B9",
        "a wrong port of a live address is a drop",
        DECIDE,
        (
            "Outcome::NoEndpoint | Outcome::NoService",
            "Outcome::NoEndpoint",
        ),
    ),
    breach(
        "B9",
        "an address of nobody is answered",
        SELECT,
        (
            "        Outcome::Unallocated\n    } else {",
            "        Outcome::NoService\n    } else {",
        ),
    ),
    breach(
        "B10",
        "no ping is answered",
        ICMP,
        (
            "    if select::absent(env, &ServiceKey::address(vip)) != Outcome::NoService {",
            "    if select::absent(env, &ServiceKey::address(vip)) == Outcome::NoService {",
        ),
    ),
    breach(
        "B10",
        "another protocol goes on",
        WAY,
        (
            "        Read::Other => Err(stop(Outcome::OtherProtocol)),",
            "        Read::Other => Err(Stop::Verdict(Verdict::Pass(Outcome::OtherProtocol))),",
        ),
    ),
    breach(
        "C1",
        "an established flow dies with its backend's readiness",
        FLOW,
        (
            "    // C3, C8; but C1 for what goes on.",
            "    if !packet.opens() && backend.state == BackendState::GONE {\n        return Standing::Dead;\n    }",
        ),
    ),
    breach(
        "C2",
        "a retransmitted SYN chooses",
        FLOW,
        (
            "    // C3, C8; but C1 for what goes on.",
            "    if packet.is_tcp() && packet.opens() {\n        return Standing::Anew;\n    }",
        ),
    ),
    breach(
        "C2",
        "what is no SYN chooses",
        DECIDE,
        ("    } else if !packet.opens() {", "    } else if false {"),
    ),
    breach(
        "C3",
        "a SYN keeps a backend that is gone",
        FLOW,
        (
            "    if packet.opens() && backend.state == BackendState::GONE {",
            "    if packet.opens() && !packet.is_tcp() && backend.state == BackendState::GONE {",
        ),
    ),
    breach(
        "C4",
        "a SYN on a flow that has ended keeps the backend for ever",
        FLOW,
        (
            "> env.settings().closing_reuse",
            "> u64::MAX - env.settings().closing_reuse",
        ),
    ),
    breach(
        "C5",
        "late packets prolong a flow that has ended",
        FLOW,
        (
            "    if flow.state == FlowState::CLOSING && state == FlowState::CLOSING {",
            "    if flow.state == FlowState::CLOSING && state == FlowState::OPENING {",
        ),
    ),
    breach(
        "C6",
        "what no entry can be made for goes on",
        OPEN,
        (
            "        Err(FlowError::Full) => return Err(Outcome::FlowTableFull),",
            "        Err(FlowError::Full) => return Ok(true),",
        ),
    ),
    breach(
        "C7",
        "the loser of a race goes its own way",
        OPEN,
        (
            "            *flow = winner.get();",
            "            let _ = winner.get();",
        ),
    ),
    breach(
        "C8",
        "a UDP flow keeps a backend that left",
        FLOW,
        (
            "    if packet.opens() && backend.state == BackendState::GONE {",
            "    if packet.opens() && packet.is_tcp() && backend.state == BackendState::GONE {",
        ),
    ),
    breach(
        "C8",
        "a UDP flow moves though its backend serves",
        FLOW,
        (
            "    if packet.opens() && backend.state == BackendState::GONE {",
            "    if packet.opens() && backend.state != BackendState::ACTIVE {",
        ),
    ),
    breach(
        "C10",
        "an entry does not know whose the backend's id is",
        FLOW,
        (
            "(backend.generation == flow.generation && backend.state != BackendState::FREE)",
            "(backend.state != BackendState::FREE)",
        ),
    ),
    breach(
        "C11",
        "a reply goes on with the pod's address",
        DECIDE,
        (
            "    Decision::translate(flow, Outcome::Reply)",
            "    Decision::plain(Action::Pass, Outcome::Reply)",
        ),
    ),
    breach(
        "C12",
        "two flows may look the same to the backend",
        OPEN,
        (
            "    let is_mine = other.address == mine.address",
            "    let is_mine = true || other.address == mine.address",
        ),
    ),
    breach(
        "C12",
        "a flow past services is not known",
        DECIDE,
        (
            "    if !begins || !env.is_endpoint(destination, destination_port) {",
            "    if begins || !env.is_endpoint(destination, destination_port) {",
        ),
    ),
    breach(
        "C13",
        "a flow needs no answer to be among those that talk",
        DECIDE,
        (
            "        && flow.state == FlowState::OPENING\n        && !packet",
            "        && flow.state == FlowState::OPENING\n        && true\n        || packet",
        ),
    ),
    breach(
        "C14",
        "a side that was lost stays lost",
        FLOW,
        (
            "            let _result = env.put_flow(table, &key, &other);",
            "                let _result = other;",
        ),
    ),
    breach(
        "C15",
        "a clock that has gone round ends affinity",
        SELECT,
        (
            "env.now().wrapping_sub(affinity.last_used)",
            "env.now().abs_diff(affinity.last_used)",
        ),
    ),
    breach(
        "D1",
        "UDP without a checksum gets one",
        TRANSLATE,
        (
            "            zero_is_none: !is_tcp,",
            "            zero_is_none: false && !is_tcp,",
        ),
    ),
    breach(
        "D2",
        "the pseudo header is left out",
        TRANSLATE,
        (
            "            addresses,\n            ports:",
            "            addresses: { let _ = addresses; Sum::ZERO },\n            ports:",
        ),
    ),
    breach(
        "D3",
        "SCTP keeps its CRC though a port changes",
        TRANSLATE,
        (
            "        keeps_ports || sctp::fix(",
            "        keeps_ports || true || sctp::fix(",
        ),
    ),
    breach(
        "D4",
        "a header may be shorter than it is",
        FAMILY,
        (
            "        if header < Ipv4Hdr::LEN || ip.vihl >> 4 != 4 {",
            "        if ip.vihl >> 4 != 4 {",
        ),
    ),
    breach(
        "D4",
        "a packet may be longer than its frame",
        PARSE,
        (
            "        frame.network() + self.length <= frame.len()",
            "        frame.network() + self.length <= frame.len() + 9_000",
        ),
    ),
    breach(
        "D5",
        "no extension header is stepped over",
        FAMILY,
        (
            "const MOST_EXTENSIONS: usize = 4;",
            "const MOST_EXTENSIONS: usize = 0;",
        ),
    ),
    breach(
        "D6",
        "a later piece is one of port 0",
        FRAGMENT,
        (
            "        packet.key.destination_port = first.destination_port;",
            "        let _ = first.destination_port;",
        ),
    ),
    breach(
        "D7",
        "the sum of an error does not know what is quoted in it",
        ICMP,
        (
            "    payload = payload.and(changed);",
            "    payload = payload.and(Sum::ZERO);",
        ),
    ),
    breach(
        "D8",
        "whatever has a source is answered",
        REJECT,
        (
            "    if is_reset || packet.piece == Piece::Later || !A::is_host(packet.key.source) {",
            "    if is_reset || packet.piece == Piece::Later {",
        ),
    ),
    breach(
        "D9",
        "a SYN is not counted in what a RST acknowledges",
        REJECT,
        (
            "u32::from(flags.any(TcpFlags::SYN)) + u32::from(flags.any(TcpFlags::FIN))",
            "u32::from(flags.any(TcpFlags::FIN))",
        ),
    ),
    breach(
        "D9",
        "a RST is answered with a RST",
        REJECT,
        (
            "    if is_reset || packet.piece == Piece::Later || !A::is_host(packet.key.source) {",
            "    if is_reset && false || packet.piece == Piece::Later || !A::is_host(packet.key.source) {",
        ),
    ),
    breach(
        "D10",
        "a packet that the stack forwards has a hop less",
        FAMILY,
        (
            "        *field = to.to_ne_bytes();\n        ip.check = change.fix(ip.check);",
            "        *field = to.to_ne_bytes();\n        ip.ttl = ip.ttl.wrapping_sub(1);\n        ip.check = change.fix(ip.check);",
        ),
    ),
    breach(
        "D10",
        "a packet past the stack keeps its hops",
        FAMILY,
        ("ip.ttl.wrapping_sub(1)", "ip.ttl.wrapping_sub(0)"),
    ),
    breach(
        "D11",
        "what has a VLAN tag is nothing of ours",
        LINK,
        ("const MOST_TAGS: usize = 2;", "const MOST_TAGS: usize = 0;"),
    ),
    breach(
        "D12",
        "mapped addresses are let in",
        WAY,
        (
            "    if A::has_mapped_address(ip) {",
            "    if A::has_mapped_address(ip) && false {",
        ),
    ),
    breach(
        "D13",
        "a pod that calls itself sees itself",
        DECIDE,
        (
            "    if key.source != key.destination || !is_reply(env, &key) {",
            "    if key.source == key.destination || !is_reply(env, &key) {",
        ),
    ),
    in_namespaces(
        breach(
            "C13",
            "all flows share one table with those of a flood",
            "clusterip-ebpf/src/env.rs",
            ("Table::Talking => &FLOWS", "Table::Talking => &HALF_OPEN"),
        ),
        "c13_",
    ),
];
