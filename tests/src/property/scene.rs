//! Services, and frames that may concern them: few addresses and ports, so that they meet.

use bytes::Bytes;
use clusterip_agent::model::inside::Inside;
use clusterip_common::{
    abi::{Algorithm, BackendState, ServiceFlags},
    packet::Link,
};

use super::choices::Choices;
use crate::{
    case::Hook,
    packet::{self, Packet, other, ping, port_unreachable, sctp, tcp, too_big, udp},
    world::{World, nothing},
};

/// One family's addresses. The last service address belongs to nobody; the last client is a backend too.
struct Addresses {
    clients: [&'static str; 3],
    vips: [&'static str; 3],
    backends: [&'static str; 3],
    elsewhere: &'static str,
}

const V4: Addresses = Addresses {
    clients: ["10.244.0.5", "10.244.0.6", "10.244.1.1"],
    vips: ["10.96.0.10", "10.96.0.11", "10.96.0.99"],
    backends: ["10.244.1.1", "10.244.1.2", "10.244.1.3"],
    elsewhere: "192.0.2.1",
};
const V6: Addresses = Addresses {
    clients: ["[fd00:10:244::5]", "[fd00:10:244::6]", "[fd00:10:244:1::1]"],
    vips: ["[fd00:10:96::a]", "[fd00:10:96::b]", "[fd00:10:96::99]"],
    backends: [
        "[fd00:10:244:1::1]",
        "[fd00:10:244:1::2]",
        "[fd00:10:244:1::3]",
    ],
    elsewhere: "[2001:db8::1]",
};
const CLIENT_PORTS: [u16; 3] = [31_337, 31_338, 8080];
const PORTS: [u16; 2] = [80, 53];
const OTHER_PORT: u16 = 81;
const TARGET_PORTS: [u16; 2] = [8080, 53];

/// Services of both families, protocols and some ports, as an agent would write them.
pub(super) fn world(choices: &mut Choices<'_>) -> World {
    let mut world = nothing();
    for addresses in [&V4, &V6] {
        let [first, second, _] = addresses.vips;
        for (vip, port) in [first, second].into_iter().zip(PORTS) {
            for protocol in ["tcp", "udp", "sctp"] {
                let backends: Vec<String> = (0..choices.below(4))
                    .map(|number| {
                        let address = addresses.backends[number % 3];
                        format!("{address}:{}", choices.pick(&TARGET_PORTS))
                    })
                    .collect();
                let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
                world = world.and(&format!("{vip}:{port}/{protocol}"), &backends);
            }
        }
    }
    for range in ["10.244.0.0/16", "fd00:10:244::/48"] {
        if choices.once_in(2) {
            world = world.inside(range, choices.pick(&[Inside::Pods, Inside::Node]));
        }
    }
    for head in world.tables.services.values_mut() {
        head.algorithm = choices.pick(&[
            Algorithm::ROUND_ROBIN,
            Algorithm::RANDOM,
            Algorithm::MAGLEV,
            Algorithm::LEAST_CONNECTIONS,
        ]);
        head.affinity = choices.pick(&[0, 100]);
        head.flags = choices.pick(&[ServiceFlags::default(), ServiceFlags::LOCAL]);
    }
    world
}

/// A backend becomes something else, as an agent would have it: another endpoint is another generation.
pub(super) fn change(choices: &mut Choices<'_>, world: &mut World) {
    let count = world.tables.backends.len();
    let which = choices.below(count);
    let state = choices.pick(&[
        BackendState::ACTIVE,
        BackendState::DRAINING,
        BackendState::GONE,
        BackendState::FREE,
    ]);
    let is_another = choices.once_in(4);
    if let Some(backend) = world.tables.backends.values_mut().nth(which) {
        backend.state = state;
        backend.generation += u32::from(is_another || state == BackendState::FREE);
    }
}

/// A hook.
pub(super) fn hook(choices: &mut Choices<'_>) -> Hook {
    choices.pick(&[
        Hook::FromPod,
        Hook::FromPod,
        Hook::ToPod,
        Hook::FromUplink,
        Hook::ToUplink,
    ])
}

/// Any frame: a packet that makes sense, the same with scars, or bytes that never made any; and the device's kind.
pub(super) fn frame(choices: &mut Choices<'_>) -> (Bytes, Link) {
    if choices.once_in(8) {
        let kind = choices.pick(&[[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]]);
        let rest = choices.take(160);
        let bytes = [&packet::NODE_MAC[..], &packet::POD_MAC, &kind, rest].concat();
        return (bytes.into(), Link::Ethernet);
    }
    let packet = packet(choices);
    let packet = match choices.below(16) {
        0 => packet.bare(),
        1 => packet.tagged(0x8100, 5),
        2 => packet.tagged(0x88a8, 7).tagged(0x8100, 5),
        3 => packet.tagged(0x8100, 5).tagged(0x8100, 6).tagged(0x8100, 7),
        _ => packet,
    };
    let bytes = match choices.below(4) {
        0 => scarred(choices, &packet.bytes()),
        _ => packet.bytes(),
    };
    (bytes, packet.link())
}

/// With some bytes changed, and perhaps an end that is missing.
pub(super) fn scarred(choices: &mut Choices<'_>, frame: &[u8]) -> Bytes {
    let mut frame = frame.to_vec();
    for _ in 0..choices.below(4) {
        // A choice is below 256, and so are the headers.
        let (at, byte) = (choices.below(frame.len().min(256)), choices.byte());
        frame[at] = byte;
    }
    if choices.once_in(4) {
        frame.truncate(choices.below(frame.len().min(256)));
    }
    frame.into()
}

/// A packet that makes sense.
fn packet(choices: &mut Choices<'_>) -> Packet {
    let addresses = choices.pick(&[&V4, &V6]);
    let client = format!(
        "{}:{}",
        choices.pick(&addresses.clients),
        choices.pick(&CLIENT_PORTS)
    );
    let service = match choices.below(10) {
        0 => format!("{}:{OTHER_PORT}", choices.pick(&addresses.vips)),
        1 => format!("{}:80", addresses.elsewhere),
        2 => format!("{}:80", choices.pick(&addresses.vips)),
        number => format!("{}:{}", addresses.vips[number % 2], PORTS[number % 2]),
    };
    let backend = format!(
        "{}:{}",
        choices.pick(&addresses.backends),
        choices.pick(&TARGET_PORTS)
    );
    let outside = format!("{}:4000", addresses.elsewhere);
    let (from, to) = match choices.below(6) {
        2 => (&outside, &service),
        0 => (&backend, &client),
        1 => (&client, &backend),
        _ => (&client, &service),
    };
    match choices.below(16) {
        0 => ping(host(from), host(to), choices.once_in(2)),
        1 => other(choices.byte() | 0x80, host(from), host(to)),
        2 => {
            let quoted = segment(choices, to, from);
            too_big(host(addresses.elsewhere), &quoted, 8 + choices.below(24))
        }
        3 => port_unreachable(&segment(choices, to, from)).turned(),
        _ => {
            let segment = segment(choices, from, to);
            shaped(choices, segment, addresses.clients[0].starts_with('['))
        }
    }
}

/// The address without its port.
fn host(endpoint: &str) -> &str {
    match endpoint.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => endpoint.split(':').next().unwrap_or(endpoint),
    }
}

/// TCP, UDP or SCTP.
pub(super) fn segment(choices: &mut Choices<'_>, from: &str, to: &str) -> Packet {
    let payload = [0xa5; 255];
    let payload = &payload[..choices.below(64)];
    if choices.once_in(8) {
        // DATA, INIT, INIT ACK, ABORT, COOKIE ECHO, SHUTDOWN COMPLETE.
        let chunk = choices.pick(&[1, 1, 0, 2, 6, 10, 14]);
        let packet = sctp(from, to, chunk).payload(payload);
        return if choices.once_in(8) {
            packet.without_checksum()
        } else {
            packet
        };
    }
    if choices.once_in(2) {
        let datagram = udp(from, to).payload(payload);
        return if choices.once_in(8) {
            datagram.without_checksum()
        } else {
            datagram
        };
    }
    let segment = tcp(from, to).payload(payload);
    match choices.below(8) {
        0 => segment.syn().ack(),
        1 => segment.ack(),
        2 => segment.fin().ack(),
        3 => segment.rst(),
        4 => segment,
        _ => segment.syn(),
    }
}

/// With options, extension headers, or in pieces.
fn shaped(choices: &mut Choices<'_>, packet: Packet, is_v6: bool) -> Packet {
    match choices.below(8) {
        0 if !is_v6 => packet.options(&[1; 40][..choices.below(11) * 4]),
        0 => {
            let mut packet = packet;
            for _ in 0..choices.below(6) {
                let number = choices.pick(&[0, 43, 44, 60, 60, 135]);
                // A fragment header has no length.
                let units = if number == 44 {
                    0
                } else {
                    choices.pick(&[0, 0, 1, 2, 255])
                };
                let mut rest = vec![0; usize::from(units) * 8 + 7];
                rest[0] = units;
                packet = packet.extension(number, &rest);
            }
            packet
        }
        // Pieces of one packet, when it is the same choices that made them.
        1 => packet.payload([7; 96]).piece(0, 40, true),
        2 => packet.payload([7; 96]).piece(40, 96, choices.once_in(2)),
        _ => packet,
    }
}
