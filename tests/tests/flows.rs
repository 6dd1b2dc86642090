//! What a packet case cannot say of flows: choices by chance and by a hash, entries that are lost, and a clock that goes
//! round.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::collections::{BTreeMap, BTreeSet};

use clusterip_common::{
    abi::{Algorithm, BackendId, Direction, Outcome},
    packet::{Link, Verdict},
};
use clusterip_tests::{
    case::{Hook, Seen},
    host::{HostEnv, Passage as _},
    packet::{Packet, tcp, udp},
    world::{World, service, settings},
};

const NEW: Verdict = Verdict::Translated(Outcome::NewFlow);
const REQUEST: Verdict = Verdict::Translated(Outcome::Request);
const REPLY: Verdict = Verdict::Translated(Outcome::Reply);

const CLIENT: &str = "10.244.0.5:31337";
const VIP: &str = "10.96.0.10:80";
const POD: &str = "10.244.1.7:8080";

fn env(world: &World) -> HostEnv {
    HostEnv::new(world.tables.clone(), settings())
}

fn web(protocol: &str) -> HostEnv {
    env(&service(&format!("10.96.0.10:80/{protocol}"), &[POD]))
}

fn sends(env: &HostEnv, packet: &Packet) -> Seen<Verdict> {
    env.pass(Hook::FromPod, Link::Ethernet, &packet.bytes())
}

fn receives(env: &HostEnv, packet: &Packet) -> Seen<Verdict> {
    env.pass(Hook::ToPod, Link::Ethernet, &packet.bytes())
}

fn later(env: &HostEnv, seconds: u64) {
    let now = env.clock.get().wrapping_add(seconds * 1_000_000_000);
    env.clock.set(now);
}

/// A handshake of the client with the VIP.
fn shakes_hands(env: &HostEnv) {
    assert_eq!(sends(env, &tcp(CLIENT, VIP).syn()).verdict, NEW);
    let answer = receives(env, &tcp(POD, CLIENT).syn().ack());
    assert_eq!(answer.verdict, REPLY);
    assert_eq!(sends(env, &tcp(CLIENT, VIP).ack()).verdict, REQUEST);
}

/// The source port of a frame without options.
fn source_port(frame: &[u8]) -> u16 {
    u16::from(frame[34]) << 8 | u16::from(frame[35])
}

#[test]
fn c12_one_client_port_to_two_services_with_one_backend_is_two_flows() {
    let other = "10.96.0.11:80";
    for (client, vips, pod) in [
        (CLIENT, [VIP, other], POD),
        (
            "[fd00:10:244::5]:31337",
            ["[fd00:10:96::a]:80", "[fd00:10:96::b]:80"],
            "[fd00:10:244:1::7]:8080",
        ),
    ] {
        let [first, second] = vips.map(|vip| format!("{vip}/udp"));
        let env = env(&service(&first, &[pod]).and(&second, &[pod]));
        let [first, second] = vips;
        let seen = sends(&env, &udp(client, first));
        assert_eq!(seen.bytes, udp(client, pod).bytes(), "its own port");

        let seen = sends(&env, &udp(client, second));
        assert_eq!(seen.verdict, NEW);
        let at = if client.starts_with('[') { 54 } else { 34 };
        let port = u16::from(seen.bytes[at]) << 8 | u16::from(seen.bytes[at + 1]);
        assert_ne!(port, 31_337, "the backend could not tell the flows apart");
        let changed = client.replace("31337", &port.to_string());
        assert_eq!(seen.bytes, udp(&changed, pod).bytes());

        // Each answer goes back to the flow that it belongs to.
        let seen = receives(&env, &udp(pod, &changed));
        assert_eq!(seen.bytes, udp(second, client).bytes());
        let seen = receives(&env, &udp(pod, client));
        assert_eq!(seen.bytes, udp(first, client).bytes());
        // And the next request takes the same way.
        let seen = sends(&env, &udp(client, second));
        assert_eq!(seen.bytes, udp(&changed, pod).bytes());
    }
}

#[test]
fn c12_a_tuple_whose_flow_has_ended_is_free_again() {
    let env = env(&service("10.96.0.10:80/tcp", &[POD]).and("10.96.0.11:80/tcp", &[POD]));
    shakes_hands(&env);
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).rst()).verdict, REQUEST);
    let other = tcp(CLIENT, "10.96.0.11:80").syn();
    later(&env, 9);
    let port = source_port(&sends(&env, &other).bytes);
    assert_ne!(port, 31_337, "C5: the last packets are still on their way");

    let env = self::env(&service("10.96.0.10:80/tcp", &[POD]).and("10.96.0.11:80/tcp", &[POD]));
    shakes_hands(&env);
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).rst()).verdict, REQUEST);
    later(&env, 11);
    assert_eq!(sends(&env, &other).bytes, tcp(CLIENT, POD).syn().bytes());
}

#[test]
fn c14_a_side_that_was_lost_comes_back_with_the_other() {
    for lost in [Direction::REQUEST, Direction::REPLY] {
        let env = web("tcp");
        shakes_hands(&env);
        assert_eq!(env.flows.borrow().len(), 2);
        env.flows
            .borrow_mut()
            .retain(|_, flow| flow.direction != lost);
        later(&env, 2);
        let request = tcp(CLIENT, VIP).ack();
        let reply = tcp(POD, CLIENT).ack();
        if lost == Direction::REPLY {
            assert_eq!(sends(&env, &request).verdict, REQUEST);
        } else {
            assert_eq!(receives(&env, &reply).verdict, REPLY);
        }
        assert_eq!(env.flows.borrow().len(), 2, "{lost:?} is there again");
        assert_eq!(receives(&env, &reply).bytes, tcp(VIP, CLIENT).ack().bytes());
        assert_eq!(sends(&env, &request).bytes, tcp(CLIENT, POD).ack().bytes());
    }
}

#[test]
fn c14_both_sides_go_when_a_flow_chooses_anew() {
    let mut world = service("10.96.0.10:80/udp", &[POD]);
    let env = env(&world);
    assert_eq!(sends(&env, &udp(CLIENT, VIP)).verdict, NEW);
    assert_eq!(receives(&env, &udp(POD, CLIENT)).verdict, REPLY);
    world.change(0, |backend| backend.generation += 1);
    env.tables.replace(world.tables.clone());
    assert_eq!(sends(&env, &udp(CLIENT, VIP)).verdict, NEW);
    assert!(env.flows.borrow().is_empty(), "{:?}", env.flows);
    assert_eq!(env.half_open.borrow().len(), 2);
}

#[test]
fn c13_a_flow_is_among_the_half_open_ones_until_both_sides_have_spoken() {
    let env = web("tcp");
    let count = || (env.half_open.borrow().len(), env.flows.borrow().len());
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).syn()).verdict, NEW);
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).syn()).verdict, REQUEST);
    assert_eq!(count(), (2, 0));
    assert_eq!(receives(&env, &tcp(POD, CLIENT).syn().ack()).verdict, REPLY);
    assert_eq!(count(), (2, 0), "no flood of SYNs can bring itself here");
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).ack()).verdict, REQUEST);
    assert_eq!(count(), (0, 2));
}

#[test]
fn c15_a_clock_that_goes_round_ends_no_flow_and_no_affinity() {
    let world = service("10.96.0.10:80/tcp", &[POD, "10.244.1.8:8080"]);
    let env = env(&world.heads(|head| head.affinity = 100));
    env.clock.set(u64::MAX - 1_000_000_000);
    shakes_hands(&env);
    later(&env, 5);
    assert!(env.clock.get() < u64::MAX / 2, "it has gone round");
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).ack()).verdict, REQUEST);
    let another = "10.244.0.5:31338";
    let seen = sends(&env, &tcp(another, VIP).syn());
    assert_eq!(seen.bytes, tcp(another, POD).syn().bytes(), "B3: affinity");
    // A SYN soon after the end keeps its backend (C4).
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).fin().ack()).verdict, REQUEST);
    later(&env, 20);
    assert_eq!(sends(&env, &tcp(CLIENT, VIP).syn()).verdict, REQUEST);
}

const PODS: [&str; 3] = ["10.244.1.1:8080", "10.244.1.2:8080", "10.244.1.3:8080"];

/// A service with three backends that chooses in this way.
fn by(algorithm: Algorithm, affinity: u32) -> HostEnv {
    let world = service("10.96.0.10:80/udp", &PODS);
    env(&world.heads(|head| {
        head.algorithm = algorithm;
        head.affinity = affinity;
    }))
}

/// The backend that a datagram from this port of the client gets.
fn chosen(env: &HostEnv, port: u16) -> String {
    let client = format!("10.244.0.5:{port}");
    let seen = sends(env, &udp(&client, VIP));
    assert_eq!(seen.verdict, NEW);
    let pod = PODS
        .iter()
        .find(|pod| seen.bytes == udp(&client, pod).bytes());
    (*pod.expect("one of the backends")).to_owned()
}

#[test]
fn b2_maglev_gives_a_flow_the_same_backend_on_every_node_and_flows_all_of_them() {
    let backends: BTreeSet<String> = (1_000..1_050)
        .map(|port| {
            let [here, there] = [(); 2].map(|()| by(Algorithm::MAGLEV, 0));
            // What another node balanced before does not matter.
            let _before = chosen(&there, port + 1);
            let backend = chosen(&here, port);
            assert_eq!(chosen(&there, port), backend);
            backend
        })
        .collect();
    assert_eq!(backends.len(), 3);
}

#[test]
fn b6_maglev_with_affinity_leaves_the_source_port_out_of_the_hash() {
    // Each time a node that remembers nothing.
    let backends: BTreeSet<String> = (1_000..1_050)
        .map(|port| chosen(&by(Algorithm::MAGLEV, 100), port))
        .collect();
    assert_eq!(backends.len(), 1, "{backends:?}");
}

#[test]
fn b2_least_connections_takes_the_better_of_two() {
    let env = by(Algorithm::LEAST_CONNECTIONS, 0);
    env.live.borrow_mut().insert(BackendId(0), 1_000);
    let mut flows = BTreeMap::<String, usize>::new();
    for port in 1_000..1_300 {
        *flows.entry(chosen(&env, port)).or_default() += 1;
    }
    let [busy, ..] = PODS;
    let share = flows.get(busy).copied().unwrap_or_default();
    // Only where both of the two are the busy one: one time in nine.
    assert!((10..60).contains(&share), "{flows:?}");
}

#[test]
fn b2_random_takes_no_turns() {
    let env = by(Algorithm::RANDOM, 0);
    let backends: BTreeSet<String> = (1_000..1_050).map(|port| chosen(&env, port)).collect();
    assert_eq!(backends.len(), 3);
    assert!(env.cursors.borrow().is_empty(), "B1 is another algorithm");
}

#[test]
fn b1_new_flows_are_spread_exactly() {
    let env = by(Algorithm::ROUND_ROBIN, 0);
    let mut flows = BTreeMap::<String, usize>::new();
    for port in 1_000..1_100 {
        *flows.entry(chosen(&env, port)).or_default() += 1;
    }
    let counts: Vec<usize> = flows.into_values().collect();
    assert_eq!(counts, [34, 33, 33]);
}
