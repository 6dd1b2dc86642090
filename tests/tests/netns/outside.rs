//! Clients from outside the cluster, at a node port and at a load balancer's address: one node with an agent, a second one with a
//! backend, and a machine outside.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{Caller, Outside, caller, client, lab, require_root, wait};

use crate::stage::{
    MODES, SOME, SOON, Stage, TCP_PORT, UDP_PORT, balancers, in_both_modes, node_ports,
};

/// E1
#[test]
fn e2_the_cluster_policy_reaches_all_and_hides_the_client() -> Result<()> {
    require_root!();
    in_both_modes("", &[], cluster_policy)
}

fn cluster_policy(stage: &Stage) -> Result<()> {
    let both = ["web-11", "web-21"];
    let nodes = Outside::node_addresses(1);
    let before = stage.sent_at_drivers();
    for (to, node) in node_ports(TCP_PORT).into_iter().zip(nodes) {
        stage.is_served(to, &both, node)?;
    }
    for (to, node) in balancers(80).into_iter().zip(nodes) {
        stage.is_served(to, &both, node)?;
    }
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        stage.answers_datagrams(to, &both)?;
    }
    stage.went_by_drivers(before)?;
    // E1: that is no way to the address inside.
    for to in lab::tcp(10) {
        stage.is_dropped(to, "from-outside")?;
    }
    Ok(())
}

/// E3
#[test]
fn e2_b8_the_local_policy_keeps_the_client_and_to_its_own_pods() -> Result<()> {
    require_root!();
    in_both_modes("  externalTrafficPolicy: Local\n", &[], local_policy)
}

fn local_policy(stage: &Stage) -> Result<()> {
    let clients = stage.outside.addresses();
    for ways in [node_ports(TCP_PORT), balancers(80)] {
        for (to, client) in ways.into_iter().zip(clients) {
            stage.is_served(to, &["web-11"], client)?;
        }
    }
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        stage.answers_datagrams(to, &["web-11"])?;
    }
    // E3: a pod reaches all of them by the same addresses.
    for to in node_ports(TCP_PORT).into_iter().chain(balancers(80)) {
        wait::until("a pod reaches both", || {
            let answers = (0..SOME).map(|_| Some(stage.lab.client.get(to).ok()?.pod));
            let pods: BTreeSet<String> = answers.collect::<Option<_>>()?;
            pods.iter().eq(["web-11", "web-21"]).then_some(())
        })?;
    }
    stage.lab.ready("web-11", false)?;
    for to in node_ports(TCP_PORT) {
        stage.is_dropped(to, "no-local-endpoint")?;
    }
    Ok(())
}

#[test]
fn e4_source_ranges_guard_the_load_balancer_alone() -> Result<()> {
    require_root!();
    let ranges = "  loadBalancerSourceRanges: [\"198.51.100.0/24\", \"2001:db8:51::/48\"]\n";
    in_both_modes(ranges, &[], source_ranges)
}

fn source_ranges(stage: &Stage) -> Result<()> {
    let both = ["web-11", "web-21"];
    for (to, node) in node_ports(TCP_PORT)
        .into_iter()
        .zip(Outside::node_addresses(1))
    {
        stage.is_served(to, &both, node)?;
    }
    for to in balancers(80) {
        stage.is_dropped(to, "source-range")?;
        // For pods as well.
        stage
            .lab
            .client
            .run(|| TcpStream::connect_timeout(&to, SOON))
            .expect_err("a pod is none of the clients");
    }
    let [v4, v6] = stage.outside.addresses();
    stage.service(&format!(
        "  loadBalancerSourceRanges: [\"{v4}/32\", \"{v6}/128\"]\n"
    ))?;
    for (to, node) in balancers(80).into_iter().zip(Outside::node_addresses(1)) {
        stage.is_served(to, &both, node)?;
    }
    Ok(())
}

/// E7
#[test]
fn e7_a_load_balancer_is_told_how_many_endpoints_the_node_has() -> Result<()> {
    require_root!();
    let spec = "  externalTrafficPolicy: Local\n  healthCheckNodePort: 30500\n";
    in_both_modes(spec, &[], health_checks)
}

fn health_checks(stage: &Stage) -> Result<()> {
    let asked = |to: SocketAddr, status: u16, count: usize| {
        wait::until(&format!("{to} says {status} with {count}"), || {
            let ask = || client::Connection::open(to)?.http("/");
            let answer = stage.outside.namespace().run(ask).ok()?;
            let body: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
            let weight = answer.header("x-load-balancing-endpoint-weight")?;
            let is_it = answer.status == status
                && weight == count.to_string()
                && body.pointer("/localEndpoints")? == count
                && body.pointer("/service/name")? == "web"
                && body.pointer("/serviceProxyHealthy")? == true;
            is_it.then_some(())
        })
    };
    for to in node_ports(30_500) {
        asked(to, 200, 1)?;
    }
    stage.lab.ready("web-11", false)?;
    for to in node_ports(30_500) {
        asked(to, 503, 0)?;
    }
    stage.service("")?;
    for to in node_ports(30_500) {
        wait::until("the port is closed", || {
            let error = stage.outside.namespace().run(|| client::get(to)).err()?;
            (error.kind() == io::ErrorKind::ConnectionRefused).then_some(())
        })?;
    }
    Ok(())
}

/// The program that makes the calls.
fn program() -> OsString {
    caller::program(env!("CARGO_BIN_EXE_caller"))
}

#[test]
fn e3_e6_the_nodes_own_processes_reach_node_ports_by_every_address_of_the_node() -> Result<()> {
    require_root!();
    in_both_modes("  externalTrafficPolicy: Local\n", &[], own_processes)
}

fn own_processes(stage: &Stage) -> Result<()> {
    let mut host = Caller::start(program(), stage.lab.node.namespace(), &stage.cgroup)?;
    let loopback = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| ip.parse().expect("an address"));
    let ways = loopback
        .into_iter()
        .chain(Outside::node_addresses(1))
        .map(|ip| SocketAddr::new(ip, TCP_PORT));
    for to in ways.chain(balancers(80)) {
        let mut found = BTreeSet::new();
        for _ in 0..SOME {
            let called = host
                .tcp(to)
                .with_context(|| format!("a process calls {to}"))?;
            found.insert(called.pod);
        }
        ensure!(found.iter().eq(["web-11", "web-21"]), "{to}: {found:?}");
    }
    // E6: from elsewhere nobody has that address.
    for ip in loopback {
        let to = SocketAddr::new(ip, TCP_PORT);
        let error = stage.lab.client.get(to).expect_err("a pod's own loopback");
        ensure!(
            error.kind() == io::ErrorKind::ConnectionRefused,
            "{to}: {error}"
        );
    }
    Ok(())
}

#[test]
fn e2_f4_connections_from_outside_survive_the_agent() -> Result<()> {
    require_root!();
    for mode in MODES {
        let stage = Stage::with("", &["--uplink-mode", mode])?;
        survival(stage).with_context(|| format!("--uplink-mode {mode}"))?;
    }
    Ok(())
}

fn survival(mut stage: Stage) -> Result<()> {
    let mut open = Vec::new();
    for to in node_ports(TCP_PORT).into_iter().chain(balancers(80)) {
        stage.is_served(
            to,
            &["web-11", "web-21"],
            match to.ip() {
                IpAddr::V4(_) => Outside::node_addresses(1)[0],
                IpAddr::V6(_) => Outside::node_addresses(1)[1],
            },
        )?;
        for _ in 0..2 {
            let connect = || {
                let mut connection = client::Connection::open(to)?;
                let pod = connection.get()?.pod;
                Ok((connection, pod))
            };
            open.push(stage.outside.namespace().run(connect)?);
        }
    }
    stage.lab.agent()?.kill();
    for (connection, pod) in &mut open {
        ensure!(connection.get()?.pod == *pod);
    }
    let new = || client::get(node_ports(TCP_PORT)[0]);
    stage.outside.namespace().run(new)?;
    stage.lab.agent()?.resume()?;
    for (connection, pod) in &mut open {
        ensure!(connection.get()?.pod == *pod);
    }
    stage.outside.namespace().run(new)?;
    Ok(())
}
