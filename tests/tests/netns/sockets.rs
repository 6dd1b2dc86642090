//! The node's own processes: real sockets in a cgroup of the test's, translated in their calls.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::programs::links::{FdLink, PinnedLink};
use clusterip_tests::{
    Caller, Cgroup,
    agent::BPFFS,
    caller,
    lab::{self, Lab},
    manifests::{NODE, Service},
    metrics::ServicePort,
    require_root,
    server::Protocol,
    wait,
};

use crate::spread::{assert_even, tally};

/// The program that makes the calls.
fn program() -> OsString {
    caller::program(env!("CARGO_BIN_EXE_caller"))
}

/// A lab with its cgroup, which goes last.
struct Sockets {
    lab: Lab,
    cgroup: Cgroup,
}

impl Sockets {
    /// A service `web` with some backends; the agent runs with `--socket-lb MODE` for the cgroup.
    fn new(mode: &str, backends: u8) -> Result<Self> {
        let mut lab = Lab::new()?;
        lab.service("web", 10)?;
        for number in 0..backends {
            lab.backend("web", 11 + number)?;
        }
        let cgroup = Cgroup::new()?;
        let path = cgroup.path().display().to_string();
        let mut sockets = Self { lab, cgroup };
        sockets.start(mode, &path)?;
        Ok(sockets)
    }

    /// Starts the agent.
    fn start(&mut self, mode: &str, cgroup: &str) -> Result<()> {
        let arguments = ["--node-name", NODE, "--socket-lb", mode, "--cgroup", cgroup];
        self.lab.start_with(&arguments)
    }

    /// A process of the node itself.
    fn host(&self) -> Result<Caller> {
        Caller::start(program(), self.lab.node.namespace(), &self.cgroup)
    }

    /// A process of a pod.
    fn pod(&self) -> Result<Caller> {
        Caller::start(program(), self.lab.client.namespace(), &self.cgroup)
    }

    /// How many calls chose a backend.
    fn chosen(&mut self) -> Result<u64> {
        Ok(self.lab.agent()?.metrics()?.outcome("socket-new-flow"))
    }
}

/// An IPv4 address as a socket of IPv6 has it.
fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddrV6::new(ip.to_ipv6_mapped(), address.port(), 0, 0).into(),
        IpAddr::V6(_) => address,
    }
}

/// Both families, and IPv4 on a socket of IPv6.
fn ways(both: [SocketAddr; 2]) -> [SocketAddr; 3] {
    let [v4, v6] = both;
    [v4, v6, mapped(v4)]
}

#[test]
fn b1_connections_of_the_node_are_spread_exactly_and_counted() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 3)?;
    let mut host = sockets.host()?;
    let port = ServicePort::new("web", &Service::port_name(Protocol::Tcp, 80), "TCP");
    for to in ways(lab::tcp(10)) {
        let before = sockets.lab.agent()?.metrics()?;
        let spread = tally(100, || Ok(host.tcp(to)?.pod)).with_context(|| to.to_string())?;
        let after = sockets.lab.agent()?.metrics()?;
        assert_even(&spread, 3);
        let flows = after.service_flows(&port) - before.service_flows(&port);
        assert_eq!(flows, 100, "{to}");
        let calls = after.outcome("socket-new-flow") - before.outcome("socket-new-flow");
        assert_eq!(calls, 100, "{to}");
        let (before, after) = (before.backend_flows(&port), after.backend_flows(&port));
        let counted: u64 = after.values().sum::<u64>() - before.values().sum::<u64>();
        assert_eq!(counted, 100, "{to}");
    }
    Ok(())
}

#[test]
fn c11_a_socket_is_shown_the_service_and_never_a_pod() -> Result<()> {
    require_root!();
    let sockets = Sockets::new("host", 2)?;
    let mut host = sockets.host()?;
    for to in ways(lab::tcp(10)) {
        assert_eq!(host.tcp(to)?.peer, to, "the peer of a TCP socket");
    }
    for to in ways(lab::udp(10)) {
        assert_eq!(host.connect(to)?, to, "the peer of a UDP socket");
        assert!(host.ask()?.starts_with("web-"));
        host.open(to)?;
        let (pod, from) = host.send(to)?;
        assert!(pod.starts_with("web-"), "{pod}");
        assert_eq!(from, to, "the sender of a datagram");
    }
    Ok(())
}

#[test]
fn b1_datagrams_of_one_socket_stay_together_and_sockets_are_spread_exactly() -> Result<()> {
    require_root!();
    let sockets = Sockets::new("host", 3)?;
    let mut host = sockets.host()?;
    for to in ways(lab::udp(10)) {
        let mut spread = BTreeMap::<String, usize>::new();
        for _ in 0..30 {
            host.open(to)?;
            let (pod, _from) = host.send(to)?;
            for _ in 0..3 {
                assert_eq!(host.send(to)?.0, pod);
            }
            *spread.entry(pod).or_default() += 1;
        }
        assert_even(&spread, 3);
        let connected = || {
            host.connect(to)?;
            host.ask()
        };
        assert_even(&tally(30, connected)?, 3);
    }
    Ok(())
}

#[test]
fn b7_a_service_without_endpoints_refuses_the_call_and_c9_serves_as_soon_as_it_can() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 0)?;
    let mut host = sockets.host()?;
    let refused = |result: io::Error| {
        assert_eq!(result.kind(), io::ErrorKind::ConnectionRefused, "{result}");
    };
    for to in ways(lab::tcp(10)) {
        refused(host.tcp(to).unwrap_err());
    }
    for to in ways(lab::udp(10)) {
        refused(host.connect(to).unwrap_err());
        host.open(to)?;
        refused(host.send(to).unwrap_err());
    }
    let metrics = sockets.lab.agent()?.metrics()?;
    assert_eq!(metrics.outcome("socket-no-endpoint"), 9);
    sockets.lab.backend("web", 11)?;
    for to in ways(lab::udp(10)) {
        host.open(to)?;
        wait::until("the socket is served", || host.send(to).ok())?;
    }
    Ok(())
}

#[test]
fn c8_datagrams_leave_a_backend_that_no_longer_serves() -> Result<()> {
    require_root!();
    let sockets = Sockets::new("host", 2)?;
    let mut host = sockets.host()?;
    let [to, _] = lab::udp(10);
    host.open(to)?;
    let (first, _from) = host.send(to)?;
    sockets.lab.ready(&first, false)?;
    let moved = wait::until("the datagrams go elsewhere", || {
        host.send(to).ok().filter(|(pod, _)| *pod != first)
    })?;
    assert_eq!(moved.1, to);
    // C1: an established connection would stay; a new one goes to who is ready.
    for to in ways(lab::tcp(10)) {
        assert_eq!(host.tcp(to)?.pod, moved.0);
    }
    Ok(())
}

/// The process makes no call but to send and to receive: the kernel asks no program then.
#[test]
fn c8_a_connected_socket_leaves_a_backend_that_no_longer_serves() -> Result<()> {
    require_root!();
    for mode in ["host", "all"] {
        let sockets = Sockets::new(mode, 2)?;
        for to in ways(lab::udp(10)) {
            let mut caller = if mode == "host" {
                sockets.host()?
            } else {
                sockets.pod()?
            };
            assert_eq!(caller.connect(to)?, to);
            let first = caller.ask()?;
            sockets.lab.ready(&first, false)?;
            let second = wait::until("the socket has another backend", || {
                caller.ask().ok().filter(|pod| *pod != first)
            })
            .with_context(|| format!("{mode} {to}"))?;
            assert_eq!(caller.ask()?, second);
            assert_eq!(caller.peer()?, to, "and is still shown the service");
            sockets.lab.ready(&first, true)?;
            wait::until("the first backend serves again", || {
                let served = caller.open(to).and_then(|()| caller.send(to)).ok()?;
                (served.0 == first).then_some(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn c9_a_connected_socket_waits_for_a_service_that_has_no_endpoint() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 1)?;
    let mut host = sockets.host()?;
    let [to, _] = lab::udp(10);
    host.connect(to)?;
    assert_eq!(host.ask()?, "web-11");
    let mut other = sockets.host()?;
    sockets.lab.ready("web-11", false)?;
    wait::until("new sockets are refused", || other.connect(to).err())?;
    sockets.lab.backend("web", 12)?;
    wait::until("the socket is served again", || {
        host.ask().ok().filter(|pod| pod == "web-12")
    })?;
    Ok(())
}

#[test]
fn a_pods_socket_is_left_alone_unless_all_are_wanted() -> Result<()> {
    require_root!();
    for (mode, translated) in [("host", false), ("all", true)] {
        let mut sockets = Sockets::new(mode, 2)?;
        let mut pod = sockets.pod()?;
        for to in ways(lab::tcp(10)) {
            let before = sockets.chosen()?;
            assert_eq!(pod.tcp(to)?.peer, to, "{mode}: served either way");
            assert_eq!(sockets.chosen()? - before, u64::from(translated), "{mode}");
        }
        for to in ways(lab::udp(10)) {
            let before = sockets.chosen()?;
            pod.open(to)?;
            assert_eq!(pod.send(to)?.1, to, "{mode}: served either way");
            assert_eq!(sockets.chosen()? - before, u64::from(translated), "{mode}");
        }
        // The node's own are served in both.
        let mut host = sockets.host()?;
        for to in ways(lab::tcp(10)) {
            host.tcp(to)?;
        }
    }
    Ok(())
}

#[test]
fn what_is_no_service_is_reached_as_ever() -> Result<()> {
    require_root!();
    let sockets = Sockets::new("host", 1)?;
    let mut host = sockets.host()?;
    for address in sockets.lab.pod("web-11")?.addresses() {
        let to = SocketAddr::new(*address, 8080);
        assert_eq!(host.tcp(to)?.peer, to);
        let to = SocketAddr::new(*address, 5353);
        host.open(to)?;
        assert_eq!(host.send(to)?.1, to);
    }
    // A socket that speaks with the service and with its backend.
    let [vip, _] = lab::udp(10);
    let pod = SocketAddr::new(sockets.lab.pod("web-11")?.addresses()[0], 5353);
    host.open(vip)?;
    for to in [vip, pod, vip, pod] {
        assert_eq!(host.send(to)?.1, to, "C12");
    }
    Ok(())
}

// The kernel takes an unpinned link away a moment later, which is why some tests wait.

/// The links on sockets: pin and number of the link.
fn links(lab: &Lab) -> Result<BTreeMap<String, u32>> {
    let pins = lab.node.pins(Path::new(BPFFS))?;
    let of_cgroup = pins.into_iter().filter(|pin| pin.contains("/cgroup_"));
    let number = |pin: &str| -> Result<u32> {
        let link: FdLink = PinnedLink::from_pin(pin)?.into();
        Ok(link.info()?.id())
    };
    of_cgroup
        .map(|pin| {
            let found = lab
                .node
                .namespace()
                .run(|| number(&pin).map_err(io::Error::other));
            Ok((pin, found?))
        })
        .collect()
}

#[test]
fn f4_the_links_outlive_the_agent_and_the_next_one_adopts_them() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 2)?;
    let mut host = sockets.host()?;
    let before = links(&sockets.lab)?;
    assert_eq!(before.len(), 8, "{before:?}");
    for crash in [false, true] {
        let agent = sockets.lab.agent()?;
        if crash {
            agent.kill();
        } else {
            agent.stop()?;
        }
        for to in ways(lab::tcp(10)) {
            assert_eq!(host.tcp(to).context("without an agent")?.peer, to);
        }
        sockets.lab.agent()?.resume()?;
        assert_eq!(links(&sockets.lab)?, before, "the links are the same");
        for to in ways(lab::udp(10)) {
            host.open(to)?;
            assert_eq!(host.send(to)?.1, to);
        }
    }
    Ok(())
}

/// F4: other programs, and maps of another size: no call of the node's processes fails, whoever was connected stays so, and nothing
/// is attached twice.
#[test]
fn f4_other_programs_and_maps_take_over_the_calls_of_the_node() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 2)?;
    let cgroup = sockets.cgroup.path().display().to_string();
    let (mut host, mut connected) = (sockets.host()?, sockets.host()?);
    let [to, _] = lab::udp(10);
    connected.open(to)?;
    let pod = connected.send(to)?.0;
    for more in [
        &["-vv"][..],
        &[],
        &["--max-flows", "65536", "--max-backends", "1024"],
        &[],
    ] {
        let always = [
            "--node-name",
            NODE,
            "--socket-lb",
            "host",
            "--cgroup",
            &cgroup,
        ];
        let agent = sockets.lab.agent()?;
        agent.kill();
        agent.set_arguments(&[&always, more].concat());
        let resumed = std::thread::scope(|scope| -> Result<()> {
            let resumed = scope.spawn(|| agent.resume());
            // All the time while the next one takes over.
            while !resumed.is_finished() {
                for to in ways(lab::tcp(10)) {
                    let answer = host.tcp(to).with_context(|| format!("{more:?}"))?;
                    assert_eq!(answer.peer, to);
                }
            }
            resumed
                .join()
                .map_err(|_panic| anyhow::anyhow!("it panicked"))?
        });
        resumed.with_context(|| format!("{more:?}"))?;
        assert_eq!(links(&sockets.lab)?.len(), 8, "{more:?}");
        let (answer, from) = connected.send(to)?;
        assert_eq!((answer, from), (pod.clone(), to), "{more:?}");
        assert_eq!(host.tcp(lab::tcp(10)[0])?.peer, lab::tcp(10)[0]);
    }
    Ok(())
}

#[test]
fn cleanup_detaches_from_sockets() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 1)?;
    let mut host = sockets.host()?;
    let [to, _] = lab::tcp(10);
    host.tcp(to)?;
    sockets.lab.agent()?.stop()?;
    sockets.lab.agent()?.cleanup()?;
    assert!(links(&sockets.lab)?.is_empty());
    wait::until("nobody translates any more", || host.tcp(to).err())?;
    Ok(())
}

#[test]
fn an_agent_that_is_told_to_leave_sockets_alone_takes_away_what_an_earlier_one_attached()
-> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 1)?;
    let mut host = sockets.host()?;
    let [to, _] = lab::tcp(10);
    host.tcp(to)?;
    sockets.lab.agent()?.stop()?;
    sockets.lab.start()?;
    assert!(links(&sockets.lab)?.is_empty());
    wait::until("nobody translates any more", || host.tcp(to).err())?;
    Ok(())
}

#[test]
fn another_cgroup_gets_the_programs_of_an_earlier_one() -> Result<()> {
    require_root!();
    let mut sockets = Sockets::new("host", 1)?;
    let mut host = sockets.host()?;
    let [to, _] = lab::tcp(10);
    host.tcp(to)?;
    sockets.lab.agent()?.stop()?;
    let other = Cgroup::new()?;
    let path = other.path().display().to_string();
    sockets.start("host", &path)?;
    wait::until("the cgroup of before is left alone", || host.tcp(to).err())?;
    let mut host = Caller::start(program(), sockets.lab.node.namespace(), &other)?;
    assert_eq!(host.tcp(to)?.peer, to);
    drop(host);
    // The cgroup may go before the agent does.
    drop(sockets);
    Ok(())
}

#[test]
fn a_directory_that_is_no_cgroup_stops_the_agent_with_the_remedy() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let error = lab
        .start_with(&[
            "--node-name",
            NODE,
            "--socket-lb",
            "host",
            "--cgroup",
            "/tmp",
        ])
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("/tmp is no cgroup of version 2"), "{text}");
    assert!(text.contains("--cgroup"), "{text}");
    Ok(())
}
