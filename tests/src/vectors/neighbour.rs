//! Neighbours on an uplink's link that ask for a link address (docs/adr/0016-announcing-the-pool.md).

use std::net::{Ipv4Addr, Ipv6Addr};

use bytes::{BufMut as _, Bytes, BytesMut};
use clusterip_common::{abi::Outcome, packet::Verdict};

use crate::{
    case::{Case, case},
    packet::checksum,
    world::{World, nothing},
};

const ANSWERED: Verdict = Verdict::Reply(Outcome::Announced);
const NOT_OURS: Verdict = Verdict::Pass(Outcome::NotOurs);

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const EVERYBODY: [u8; 6] = [0xff; 6];
const NOBODY: [u8; 6] = [0; 6];

const POOLED: &str = "203.0.113.64";
const OTHER: &str = "203.0.113.65";
const CLIENT_IP: &str = "198.51.100.7";
const POOLED6: &str = "2001:db8:113:64::1:203";
const OTHER6: &str = "2001:db8:113:64::1:204";
const CLIENT_IP6: &str = "fe80::7";
const GROUP: &str = "ff02::1:ff01:203";
const GROUP_MAC: [u8; 6] = [0x33, 0x33, 0xff, 1, 2, 3];
const ALL_NODES: &str = "ff02::1";
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

fn world() -> World {
    nothing().announces(POOLED, OWN).announces(POOLED6, OWN)
}

/// A frame of ARP: to whom and from whom, what it is, the sender's two addresses and the target's.
fn arp(
    macs: ([u8; 6], [u8; 6]),
    operation: u16,
    sender: ([u8; 6], &str),
    target: ([u8; 6], &str),
) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_slice(&macs.0);
    frame.put_slice(&macs.1);
    for word in [0x0806, 1, 0x0800, 0x0604, operation] {
        frame.put_u16(word);
    }
    for (mac, ip) in [sender, target] {
        frame.put_slice(&mac);
        let ip: Ipv4Addr = ip.parse().expect("an address");
        frame.put_slice(&ip.octets());
    }
    frame
}

fn question(of: &str) -> BytesMut {
    arp((EVERYBODY, CLIENT), 1, (CLIENT, CLIENT_IP), (NOBODY, of))
}

fn answer() -> BytesMut {
    arp((CLIENT, OWN), 2, (OWN, POOLED), (CLIENT, CLIENT_IP))
}

/// As Ethernet's shortest frame has it.
fn padded(mut frame: BytesMut) -> Bytes {
    frame.resize(60, 0);
    frame.freeze()
}

/// A frame of neighbour discovery.
fn discovery(
    macs: ([u8; 6], [u8; 6]),
    (source, destination): (&str, &str),
    hops: u8,
    (kind, flags): (u8, u8),
    target: &str,
    option: &[u8],
) -> Bytes {
    let octets = |ip: &str| ip.parse::<Ipv6Addr>().expect("an address").octets();
    let mut body = BytesMut::new();
    body.put_slice(&[flags, 0, 0, 0]);
    body.put_slice(&octets(target));
    body.put_slice(option);
    let length = u16::try_from(4 + body.len()).expect("a few bytes");
    let mut pseudo = BytesMut::new();
    pseudo.put_slice(&octets(source));
    pseudo.put_slice(&octets(destination));
    pseudo.put_u32(length.into());
    pseudo.put_u32(58);
    let sum = checksum(&[&pseudo, &[kind, 0], &body]);
    let mut frame = BytesMut::new();
    frame.put_slice(&macs.0);
    frame.put_slice(&macs.1);
    frame.put_u16(0x86dd);
    frame.put_u32(0x6000_0000);
    frame.put_u16(length);
    frame.put_slice(&[58, hops]);
    frame.put_slice(&octets(source));
    frame.put_slice(&octets(destination));
    frame.put_slice(&[kind, 0]);
    frame.put_slice(&sum);
    frame.put(body);
    frame.freeze()
}

fn link(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// To the group of the address, with the client's link address.
fn solicitation(target: &str, hops: u8) -> Bytes {
    let ends = (CLIENT_IP6, GROUP);
    discovery(
        (GROUP_MAC, CLIENT),
        ends,
        hops,
        (135, 0),
        target,
        &link(1, CLIENT),
    )
}

/// Solicited, and in the place of what the client knew.
fn advertisement() -> Bytes {
    let ends = (POOLED6, CLIENT_IP6);
    discovery(
        (CLIENT, OWN),
        ends,
        255,
        (136, 0x60),
        POOLED6,
        &link(2, OWN),
    )
}

pub(super) fn cases() -> Vec<Case> {
    let reply = arp((OWN, CLIENT), 2, (CLIENT, POOLED), (OWN, CLIENT_IP));
    let own = arp((EVERYBODY, CLIENT), 1, (CLIENT, POOLED), (NOBODY, POOLED));
    let probe = arp(
        (EVERYBODY, CLIENT),
        1,
        (CLIENT, "0.0.0.0"),
        (NOBODY, POOLED),
    );
    let told = arp((CLIENT, OWN), 2, (OWN, POOLED), (CLIENT, "0.0.0.0"));
    // A neighbour that has known the address asks it alone, and may leave out who it is.
    let ends = (CLIENT_IP6, POOLED6);
    let unicast = discovery((OWN, CLIENT), ends, 255, (135, 0), POOLED6, &[]);
    let ends = ("::", GROUP);
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let duplicate = discovery((GROUP_MAC, CLIENT), ends, 255, (135, 0), POOLED6, &nonce);
    let ends = (POOLED6, ALL_NODES);
    let defence = discovery(
        (ALL_NODES_MAC, OWN),
        ends,
        255,
        (136, 0x20),
        POOLED6,
        &link(2, OWN),
    );
    let ends = (CLIENT_IP6, POOLED6);
    let long = [link(1, CLIENT), nonce.to_vec()].concat();
    let long = discovery((OWN, CLIENT), ends, 255, (135, 0), POOLED6, &long);
    vec![
        case(
            "who asks for an address of the pool by ARP is told this node's link address",
            "",
            world(),
        )
        .comes_in_as(question(POOLED).freeze(), ANSWERED, answer().freeze())
        .comes_in_as(padded(question(POOLED)), ANSWERED, padded(answer()))
        .comes_in_as(probe.freeze(), ANSWERED, told.freeze()),
        case(
            "what is not announced here, or no question, is the stack's",
            "",
            world(),
        )
        .comes_in_as_it_is(question(OTHER).freeze(), NOT_OURS)
        .comes_in_as_it_is(reply.freeze(), NOT_OURS)
        .comes_in_as_it_is(question(POOLED).split_to(41).freeze(), NOT_OURS),
        case(
            "who says that the address is its own is left to the agent",
            "",
            world(),
        )
        .comes_in_as_it_is(own.freeze(), NOT_OURS),
        case(
            "who solicits an address of the pool is told this node's link address",
            "",
            world(),
        )
        .comes_in_as(solicitation(POOLED6, 255), ANSWERED, advertisement())
        .comes_in_as(unicast, ANSWERED, advertisement())
        .comes_in_as(long, ANSWERED, advertisement()),
        case(
            "who is about to take an address of the pool is told that it is taken",
            "",
            world(),
        )
        .comes_in_as(duplicate, ANSWERED, defence),
        case(
            "a solicitation that a router has passed on, or for another address, is the stack's",
            "",
            world(),
        )
        .comes_in_as_it_is(solicitation(POOLED6, 254), NOT_OURS)
        .comes_in_as_it_is(solicitation(OTHER6, 255), NOT_OURS),
    ]
}
