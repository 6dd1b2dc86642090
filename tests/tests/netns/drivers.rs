//! Clients outside whose packets go on at an uplink's driver (docs/adr/0017-at-the-driver.md), beside the same by TC.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    client::{self, Connection},
    require_root, wait,
};

use crate::stage::{BETWEEN, MODES, Stage, TCP_PORT, UDP_PORT, UPLINK, in_both_modes, node_ports};

/// The backend on the other node.
const FAR: &str = "web-21";
/// Exchanges that are counted.
const SOME: u64 = 20;
/// More than a window.
const MUCH: u64 = 2_000_000;

/// A flow of datagrams to the other node's backend, which has been answered.
fn datagrams(stage: &Stage, to: SocketAddr) -> Result<UdpSocket> {
    wait::until(&format!("{to} answers from {FAR}"), || {
        stage
            .outside
            .namespace()
            .run(|| {
                let socket = client::udp_flow(to)?;
                let answer = client::udp_ask(&socket, "hello")?;
                Ok((answer == FAR).then_some(socket))
            })
            .ok()?
    })
}

/// A connection to the other node's backend.
fn connection(stage: &Stage, to: SocketAddr) -> Result<Connection> {
    wait::until(&format!("{to} is {FAR}"), || {
        let open = || {
            let mut connection = Connection::open(to)?;
            Ok((connection.get()?.pod == FAR).then_some(connection))
        };
        stage.outside.namespace().run(open).ok()?
    })
}

fn exchange(socket: &UdpSocket, times: u64) -> Result<()> {
    for number in 0..times {
        let answer = client::udp_ask(socket, &number.to_string())?;
        ensure!(answer == FAR, "{answer}");
    }
    Ok(())
}

/// C11, E2: each packet of a flow has the same outcomes, whether it goes by TC or by drivers.
#[test]
fn e2_c11_a_packet_that_goes_on_at_a_driver_is_counted_as_by_tc() -> Result<()> {
    require_root!();
    in_both_modes("", &[], |stage| {
        for to in node_ports(UDP_PORT) {
            let socket = datagrams(stage, to)?;
            let names = ["new-flow", "request", "reply", "masqueraded"];
            let count = || names.map(|name| stage.outcome(name));
            let (before, sent) = (count(), stage.sent_at_drivers());
            exchange(&socket, SOME)?;
            let after = count();
            let counted: Vec<u64> = after.iter().zip(before).map(|(b, a)| b - a).collect();
            ensure!(
                counted == [0, SOME, SOME, 2 * SOME],
                "{to}: {names:?} {counted:?}"
            );
            // One of either direction may take the stack, for the neighbours' sake.
            let sent = stage.sent_at_drivers() - sent;
            let wanted = if stage.at_driver {
                2 * SOME - 2..=2 * SOME
            } else {
                0..=0
            };
            ensure!(wanted.contains(&sent), "{to}: {sent} at drivers");
        }
        Ok(())
    })
}

/// D2: whole bytes, both ways, in segments of the full size.
#[test]
fn e2_d2_much_goes_both_ways_unharmed() -> Result<()> {
    require_root!();
    in_both_modes("", &[], |stage| {
        for to in node_ports(TCP_PORT) {
            let before = stage.sent_at_drivers();
            connection(stage, to)?.upload(MUCH)?;
            connection(stage, to)?.download(MUCH)?;
            stage.went_by_drivers(before)?;
        }
        Ok(())
    })
}

/// F4, C1: TC and drivers have one memory of flows.
#[test]
fn c1_f4_an_uplink_whose_mode_changes_keeps_its_connections() -> Result<()> {
    require_root!();
    let mut stage = Stage::with("", &["--uplink-mode", "auto"])?;
    let mut open = Vec::new();
    for (tcp, udp) in node_ports(TCP_PORT).into_iter().zip(node_ports(UDP_PORT)) {
        open.push((connection(&stage, tcp)?, datagrams(&stage, udp)?));
    }
    for mode in MODES {
        let mut arguments = stage.arguments.clone();
        let place = arguments.iter().position(|it| it == "--uplink-mode");
        let value = place.and_then(|place| arguments.get_mut(place + 1));
        mode.clone_into(value.context("the stage has a mode")?);
        let agent = stage.lab.agent()?;
        agent.stop()?;
        agent.set_arguments(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        agent.resume()?;
        stage.at_driver = mode == "auto";
        stage.is_attached()?;
        let before = stage.sent_at_drivers();
        for (connection, socket) in &mut open {
            for _ in 0..3 {
                ensure!(connection.get()?.pod == FAR, "{mode}");
            }
            exchange(socket, 3)?;
        }
        stage.went_by_drivers(before)?;
        // And what begins now ends well.
        connection(&stage, node_ports(TCP_PORT)[0])?;
    }
    Ok(())
}

/// D2: of a packet whose checksum is left to a device, a driver cannot make a whole one.
#[test]
fn d2_checksums_that_are_only_begun_are_left_to_tc() -> Result<()> {
    require_root!();
    let stage = Stage::with("", &["--uplink-mode", "auto"])?;
    stage.outside.set_checksums(true)?;
    for (tcp, udp) in node_ports(TCP_PORT).into_iter().zip(node_ports(UDP_PORT)) {
        let before = stage.sent_at_drivers();
        let mut open = connection(&stage, tcp)?;
        let socket = datagrams(&stage, udp)?;
        for _ in 0..3 {
            ensure!(open.get()?.pod == FAR);
        }
        exchange(&socket, SOME)?;
        // What the client sends is begun, what comes from the other node is whole.
        let sent = stage.sent_at_drivers() - before;
        ensure!(sent >= SOME - 1, "the answers go on at drivers: {sent}");
        stage.outside.set_checksums(false)?;
        let socket = datagrams(&stage, udp)?;
        let before = stage.sent_at_drivers();
        exchange(&socket, SOME)?;
        let both = stage.sent_at_drivers() - before;
        ensure!(both >= 2 * SOME - 2, "now both do: {both}");
        stage.outside.set_checksums(true)?;
    }
    Ok(())
}

/// Where the other end of a pair takes no frames of programs, nothing is sent there, and `get interfaces` says so; as soon as it does,
/// it is.
#[test]
fn e2_a_driver_that_does_not_send_leaves_all_to_tc() -> Result<()> {
    require_root!();
    let mut stage = Stage::with("", &["--uplink-mode", "auto"])?;
    stage.outside.set_receive_offload(false)?;
    let agent = stage.lab.agent()?;
    agent.stop()?;
    agent.resume()?;
    let of_uplink = |stage: &Stage| {
        let agent = stage.lab.agent.as_ref()?;
        let said = agent.ask(&["get", "interfaces", UPLINK]).ok()?;
        Some(said.out)
    };
    wait::until("the driver does not send", || {
        of_uplink(&stage)?.contains("guards: ").then_some(())
    })?;
    let status = stage.lab.agent()?.ask(&["status"])?.out;
    ensure!(
        status.contains(&format!("{UPLINK} xdp+")) && status.contains("at the driver guards: "),
        "{status}"
    );
    let to = node_ports(UDP_PORT)[0];
    let socket = datagrams(&stage, to)?;
    let before = stage.sent_at_drivers();
    exchange(&socket, SOME)?;
    let sent = stage.sent_at_drivers() - before;
    ensure!(sent <= SOME, "to the client by TC alone: {sent}");
    stage.outside.set_receive_offload(true)?;
    stage.is_attached()?;
    wait::until("both ways go by drivers", || {
        let before = stage.sent_at_drivers();
        exchange(&socket, SOME).ok()?;
        (stage.sent_at_drivers() - before >= 2 * SOME - 2).then_some(())
    })
}

/// A neighbour that is forgotten, and one that has another address: the next packet asks the stack, and none is lost.
#[test]
fn d10_a_neighbour_that_changes_costs_nothing_but_the_stack() -> Result<()> {
    require_root!();
    let stage = Stage::with("", &["--uplink-mode", "auto"])?;
    let node = stage.lab.node.namespace();
    for (to, family) in node_ports(UDP_PORT).into_iter().zip(["-4", "-6"]) {
        let socket = datagrams(&stage, to)?;
        for (number, device) in [(1, BETWEEN), (2, UPLINK)] {
            exchange(&socket, 3)?;
            let status = node
                .command("ip")
                .args([family, "neigh", "flush", "dev", device])
                .status()?;
            ensure!(status.success(), "ip neigh flush dev {device}");
            exchange(&socket, 3)?;
            let (machine, link) = if device == BETWEEN {
                (stage.far.namespace(), "up0".to_owned())
            } else {
                (stage.outside.namespace(), stage.outside.device())
            };
            machine.ip(&format!(
                "link set dev {link} address 02:00:00:00:0{number}:99\n"
            ))?;
            let flush = node
                .command("ip")
                .args(["neigh", "flush", "dev", device])
                .status()?;
            ensure!(flush.success());
            exchange(&socket, 3)?;
        }
        let before = stage.sent_at_drivers();
        exchange(&socket, 3)?;
        stage.went_by_drivers(before)?;
    }
    Ok(())
}
