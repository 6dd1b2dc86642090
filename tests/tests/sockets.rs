//! The socket functions on the host: the very ones that the kernel runs at `connect`, `sendmsg`, `recvmsg` and
//! `getpeername`, over memory. The kernel has no test-run for them; netns has real sockets.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::collections::BTreeMap;

use clusterip_common::{
    abi::{BackendId, BackendState, Outcome, ServiceId},
    packet::socket::{self, SocketVerdict},
    wire::Proto,
};
use clusterip_tests::{
    call::HostSocket,
    host::HostEnv,
    world::{World, nothing, service, settings},
};

const VIP: &str = "10.96.0.10:80";
const VIP_V6: &str = "[fd00:10:96::a]:80";
const NEW: SocketVerdict = SocketVerdict::Translated(Outcome::SocketNewFlow);
const FOLLOWS: SocketVerdict = SocketVerdict::Translated(Outcome::SocketRequest);
const REPLY: SocketVerdict = SocketVerdict::Translated(Outcome::SocketReply);
const PASS: SocketVerdict = SocketVerdict::Pass(Outcome::NotOurs);

fn web() -> World {
    let v4 = ["10.244.1.7:8080", "10.244.1.8:8080", "10.244.1.9:8080"];
    let v6 = ["[fd00:10:244::7]:8080", "[fd00:10:244::8]:8080"];
    service("10.96.0.10:80/tcp", &v4)
        .and("10.96.0.10:80/udp", &v4)
        .and("[fd00:10:96::a]:80/udp", &v6)
        .and("10.96.0.11:80/tcp", &[])
        .and("10.96.0.11:80/udp", &[])
}

fn env(world: &World) -> HostEnv {
    HostEnv::new(world.tables.clone(), settings())
}

/// A call: what became of it, and the address afterwards.
type Call = fn(&mut HostSocket, &HostEnv) -> SocketVerdict;

fn call(function: Call, env: &HostEnv, socket: HostSocket, peer: &str) -> (SocketVerdict, String) {
    let mut socket = socket.at(peer);
    let verdict = function(&mut socket, env);
    (verdict, socket.shown())
}

fn connect(env: &HostEnv, socket: HostSocket, peer: &str) -> (SocketVerdict, String) {
    call(socket::connect, env, socket, peer)
}

fn sendmsg(env: &HostEnv, socket: HostSocket, peer: &str) -> (SocketVerdict, String) {
    call(socket::sendmsg, env, socket, peer)
}

fn reveal(env: &HostEnv, socket: HostSocket, peer: &str) -> (SocketVerdict, String) {
    call(socket::reveal, env, socket, peer)
}

const fn tcp(cookie: u64) -> HostSocket {
    HostSocket::new(Proto::TCP, cookie)
}

const fn udp(cookie: u64) -> HostSocket {
    HostSocket::new(Proto::UDP, cookie)
}

#[test]
fn b1_connections_are_spread_exactly_and_counted() {
    let env = env(&web());
    let mut spread = BTreeMap::<String, u64>::new();
    for cookie in 0..31 {
        let (verdict, backend) = connect(&env, tcp(cookie), VIP);
        assert_eq!(verdict, NEW);
        *spread.entry(backend).or_default() += 1;
    }
    assert_eq!(spread.into_values().collect::<Vec<_>>(), [11, 10, 10]);
    assert_eq!(env.services.borrow()[&ServiceId(0)].flows, 31);
    assert_eq!(env.backends.borrow()[&BackendId(0)].flows, 11);
}

#[test]
fn b7_a_service_without_endpoints_refuses_and_c9_works_as_soon_as_there_is_one() {
    let env = env(&web());
    let refused = SocketVerdict::Refuse(Outcome::SocketNoEndpoint);
    let empty = "10.96.0.11:80";
    assert_eq!(connect(&env, tcp(1), empty), (refused, empty.to_owned()));
    assert_eq!(sendmsg(&env, udp(2), empty), (refused, empty.to_owned()));
    let better = nothing().and("10.96.0.11:80/udp", &["10.244.1.7:53"]);
    env.tables.replace(better.tables);
    assert_eq!(
        sendmsg(&env, udp(2), empty),
        (NEW, "10.244.1.7:53".to_owned())
    );
}

#[test]
fn what_is_no_service_passes_untouched() {
    let env = env(&web());
    for other in ["10.96.0.99:80", "192.0.2.1:80", "[::1]:80"] {
        assert_eq!(connect(&env, tcp(1), other), (PASS, other.to_owned()));
        assert_eq!(sendmsg(&env, udp(2), other), (PASS, other.to_owned()));
        assert_eq!(reveal(&env, udp(2), other), (PASS, other.to_owned()));
    }
    assert!(env.sockets.borrow().is_empty());
}

#[test]
fn b9_a_port_that_the_service_does_not_have_refuses() {
    let env = env(&web());
    let refused = SocketVerdict::Refuse(Outcome::NoService);
    let other = "10.96.0.10:81";
    assert_eq!(connect(&env, tcp(1), other), (refused, other.to_owned()));
    assert_eq!(sendmsg(&env, udp(2), other), (refused, other.to_owned()));
}

#[test]
fn b3_with_affinity_the_processes_of_one_network_namespace_are_one_client() {
    const SECOND: u64 = 1_000_000_000;
    let mut world = web();
    for service in world.tables.services.values_mut() {
        service.affinity = 60;
    }
    let env = env(&world);
    let (_, first) = connect(&env, tcp(1), VIP);
    for cookie in 2..6 {
        assert_eq!(connect(&env, tcp(cookie), VIP), (NEW, first.clone()));
    }
    let mut pod = tcp(7);
    pod.netns = 2;
    let (_, other) = connect(&env, pod, VIP);
    assert_ne!(other, first, "another client takes the next turn");
    env.clock.set(env.clock.get() + 60 * SECOND);
    assert_ne!(connect(&env, tcp(8), VIP).1, first, "expired");
}

#[test]
fn c11_the_peer_is_shown_as_the_service_to_the_socket_that_called_it_alone() {
    let env = env(&web());
    let (_, backend) = connect(&env, tcp(1), VIP);
    assert_eq!(reveal(&env, tcp(1), &backend), (REPLY, VIP.to_owned()));
    assert_eq!(reveal(&env, tcp(2), &backend), (PASS, backend));
    for vip in [VIP, VIP_V6] {
        let (_, backend) = sendmsg(&env, udp(3), vip);
        assert_eq!(reveal(&env, udp(3), &backend), (REPLY, vip.to_owned()));
    }
}

#[test]
fn c8_datagrams_of_a_socket_stay_with_a_backend_that_serves() {
    let mut world = web();
    let env = env(&world);
    let (verdict, first) = sendmsg(&env, udp(1), VIP);
    assert_eq!(verdict, NEW);
    let (_, second) = sendmsg(&env, udp(2), VIP);
    assert_ne!(first, second);
    let served = (FOLLOWS, first.clone());
    assert_eq!(sendmsg(&env, udp(1), VIP), served);
    // The UDP service's backends come after the three of TCP.
    world.change(3, |backend| backend.state = BackendState::DRAINING);
    env.tables.replace(world.tables.clone());
    assert_eq!(sendmsg(&env, udp(1), VIP), served);
    world.change(3, |backend| backend.state = BackendState::GONE);
    world.tables.slots.retain(|_, id| *id != BackendId(3));
    env.tables.replace(world.tables);
    let (verdict, moved) = sendmsg(&env, udp(1), VIP);
    assert_eq!(verdict, NEW);
    assert_ne!(moved, first);
    assert_eq!(env.services.borrow()[&ServiceId(1)].flows, 3);
}

#[test]
fn c10_an_id_that_was_given_to_another_endpoint_is_chosen_anew() {
    let mut world = service("10.96.0.10:80/udp", &["10.244.1.7:53"]);
    let env = env(&world);
    sendmsg(&env, udp(1), VIP).1.clear();
    world.change(0, |backend| {
        backend.generation += 1;
        backend.port = clusterip_common::wire::Be16::new(5353);
    });
    env.tables.replace(world.tables);
    assert_eq!(
        sendmsg(&env, udp(1), VIP),
        (NEW, "10.244.1.7:5353".to_owned())
    );
}

#[test]
fn c12_a_socket_that_turns_to_the_backend_itself_sees_its_own_address() {
    let env = env(&web());
    let (_, backend) = sendmsg(&env, udp(1), VIP);
    assert_eq!(sendmsg(&env, udp(1), &backend), (PASS, backend.clone()));
    assert_eq!(reveal(&env, udp(1), &backend), (PASS, backend.clone()));
    // And back to the service: it is that again.
    let (_, backend) = sendmsg(&env, udp(1), VIP);
    assert_eq!(reveal(&env, udp(1), &backend), (REPLY, VIP.to_owned()));
    connect(&env, udp(1), &backend).1.clear();
    assert_eq!(reveal(&env, udp(1), &backend), (PASS, backend));
}

#[test]
fn a_connected_datagram_socket_that_names_the_service_follows_its_connection() {
    let env = env(&web());
    let (_, backend) = connect(&env, udp(1), VIP);
    assert_eq!(sendmsg(&env, udp(1), VIP), (FOLLOWS, backend));
}

/// The kernel gives a connected socket of IPv6 with a peer of IPv4 to `sendmsg` with that peer.
#[test]
fn c11_a_datagram_to_the_peer_that_it_has_anyway_leaves_the_socket_as_it_is() {
    let env = env(&web());
    let mut socket = udp(1);
    let (_, backend) = connect(&env, socket, VIP);
    socket.connected = true;
    assert_eq!(sendmsg(&env, socket, &backend), (PASS, backend.clone()));
    assert_eq!(reveal(&env, socket, &backend), (REPLY, VIP.to_owned()));
}

#[test]
fn c6_without_room_the_call_fails_and_nothing_is_left() {
    for room in [0, 1] {
        let mut env = env(&web());
        env.capacity = room;
        let full = SocketVerdict::Deny(Outcome::FlowTableFull);
        assert_eq!(sendmsg(&env, udp(1), VIP), (full, VIP.to_owned()));
        assert!(env.sockets.borrow().is_empty());
        assert!(env.services.borrow().is_empty(), "no flow is counted");
    }
}

#[test]
fn only_sockets_of_the_wanted_network_namespace_are_translated() {
    let mut env = env(&web());
    env.settings.socket_netns = 1;
    let mut pod = tcp(1);
    pod.netns = 2;
    assert_eq!(connect(&env, pod, VIP), (PASS, VIP.to_owned()));
    assert_eq!(connect(&env, tcp(2), VIP).0, NEW);
    env.settings.socket_netns = 0;
    assert_eq!(connect(&env, pod, VIP).0, NEW);
}
