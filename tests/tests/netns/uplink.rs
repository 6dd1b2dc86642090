//! E1: a service address answers inside the cluster and nowhere else. By TC alone, and with XDP before it.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Outside,
    agent::BPFFS,
    client::{self, Connection},
    lab::{self, Lab},
    manifests, require_root, wait,
};
use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect,
        sendto, socket,
    },
};

use crate::lifecycle::attached_to;

/// The node's device to the outside.
const UPLINK: &str = "up0";
/// The values of `--uplink-mode` that guard.
const MODES: [&str; 2] = ["tc", "auto"];
/// How long a connection that may be refused is waited for, before it is tried again.
const SOON: Duration = Duration::from_millis(200);
/// Echo requests; the kernel computes the checksum of the second itself.
const PING_V4: [u8; 8] = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
const PING_V6: [u8; 8] = [128, 0, 0, 0, 0, 1, 0, 1];

/// A service `web` at 10 with a backend, a service `none` at 20 without one, a machine outside, and the agent.
fn stage(mode: &str, arguments: &[&str]) -> Result<(Lab, Outside)> {
    let mut lab = Lab::new()?;
    let outside = Outside::join(&lab.node, UPLINK, 1)?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.service("none", 20)?;
    let always = ["--node-name", manifests::NODE, "--uplink-mode", mode];
    lab.start_with(&[&always, arguments].concat())?;
    is_attached(&lab, UPLINK, "uplink")?;
    Ok((lab, outside))
}

const fn named() -> [&'static str; 2] {
    ["--uplinks", "up*"]
}

/// Whether a device has hooks in this role, and whether its driver has one, as the metrics tell.
fn attachment(lab: &Lab, link: &str, role: &str) -> Option<bool> {
    let metrics = lab.agent.as_ref()?.metrics().ok()?;
    let mut devices = metrics.named("clusterip_interface_info");
    let device = devices.find(|sample| {
        let has = |label: &str, value: &str| sample.labels.get(label).is_some_and(|it| it == value);
        has("interface", link) && has("role", role)
    })?;
    Some(
        device
            .labels
            .get("driver")
            .is_some_and(|driver| driver == "xdp"),
    )
}

fn is_attached(lab: &Lab, link: &str, role: &str) -> Result<bool> {
    wait::until(&format!("{link} has the hooks of {role}"), || {
        attachment(lab, link, role)
    })
}

fn is_detached(lab: &Lab, link: &str) -> Result<()> {
    wait::until(&format!("{link} has no hooks"), || {
        attachment(lab, link, "uplink").is_none().then_some(())
    })
}

/// The kernel takes a program from a device a moment after its pin has gone.
fn nothing_is_left(lab: &Lab, link: &str) -> Result<()> {
    wait::until(&format!("nothing is attached to {link}"), || {
        let is_free = attached_to(lab, link).ok()?.is_empty() && !has_xdp(lab).ok()?;
        is_free.then_some(())
    })
}

fn refused(lab: &Lab) -> Result<u64> {
    let agent = lab.agent.as_ref().context("no agent")?;
    Ok(agent.metrics()?.outcome("from-outside"))
}

/// Waits until `send` has made the counter of packets from outside rise.
fn is_refused<T: Send>(
    lab: &Lab,
    outside: &Outside,
    what: &str,
    send: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T> {
    let before = refused(lab)?;
    let socket = outside
        .namespace()
        .run(send)
        .with_context(|| what.to_owned())?;
    wait::until(&format!("{what} is refused"), || {
        (refused(lab).ok()? > before).then_some(())
    })?;
    Ok(socket)
}

/// A SYN, and nobody waits for the answer.
fn begin(to: SocketAddr) -> io::Result<std::os::fd::OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

fn datagram(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = client::udp_flow(to)?;
    socket.set_nonblocking(true)?;
    socket.send(b"hello")?;
    Ok(socket)
}

fn ping(to: IpAddr) -> io::Result<std::os::fd::OwnedFd> {
    let (family, protocol, bytes) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, PING_V4),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, PING_V6),
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol)?;
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &bytes, &to, MsgFlags::empty())?;
    Ok(socket)
}

/// Nothing gets in: not to an address, and no answer that tells what there is.
fn all_is_refused(lab: &Lab, outside: &Outside) -> Result<()> {
    for (name, number) in [("a service", 10), ("no endpoints", 20), ("nobody", 77)] {
        for to in lab::tcp(number) {
            let socket = is_refused(lab, outside, &format!("TCP to {name}, {to}"), || begin(to))?;
            let error =
                nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::SocketError)?;
            ensure!(error == 0, "{to} answered: error {error}");
        }
        for to in lab::udp(number) {
            let socket = is_refused(lab, outside, &format!("UDP to {name}, {to}"), || {
                datagram(to)
            })?;
            let error = socket.recv(&mut [0; 64]).expect_err("no answer");
            ensure!(
                error.kind() == io::ErrorKind::WouldBlock,
                "{to} answered: {error}"
            );
        }
        for to in lab::vips(number) {
            is_refused(lab, outside, &format!("a ping to {name}, {to}"), || {
                ping(to)
            })?;
        }
    }
    Ok(())
}

/// A machine reaches the services, and each answers in its own name.
fn is_served(outside: &Outside) -> Result<()> {
    for to in lab::tcp(10) {
        let (answer, local) = outside.namespace().run(|| {
            let mut connection = Connection::open(to)?;
            Ok((connection.get()?, connection.local()?))
        })?;
        ensure!(
            answer.pod == "web-11" && answer.client == local,
            "{answer:?}"
        );
    }
    for to in lab::udp(10) {
        let (answer, from) = outside.namespace().run(|| client::udp_from(to, "hello"))?;
        ensure!(
            answer == "web-11 hello" && from == to,
            "{answer} from {from}"
        );
    }
    for to in lab::tcp(20) {
        let error = outside.namespace().run(|| client::get(to));
        let error = error.expect_err("nobody is there");
        ensure!(
            error.kind() == io::ErrorKind::ConnectionRefused,
            "{to}: {error}"
        );
    }
    Ok(())
}

#[test]
fn e1_from_outside_a_service_is_neither_reached_nor_seen() -> Result<()> {
    require_root!();
    for mode in MODES {
        let (lab, outside) = stage(mode, &named())?;
        let at_driver = is_attached(&lab, UPLINK, "uplink")?;
        ensure!(
            at_driver == (mode == "auto"),
            "{mode}: at the driver: {at_driver}"
        );
        all_is_refused(&lab, &outside).with_context(|| mode.to_owned())?;
        // What is for the node or for a pod is none of ours.
        for address in Outside::node_addresses(1) {
            let to = SocketAddr::new(address, 10_256);
            if address.is_ipv4() {
                let open = || Connection::open(to)?.http("/healthz");
                ensure!(outside.namespace().run(open)?.status == 200, "{to}");
            }
        }
        for address in lab.pod("web-11")?.addresses() {
            let to = SocketAddr::new(*address, 8080);
            ensure!(outside.namespace().run(|| client::get(to))?.pod == "web-11");
        }
        // And pods reach what they always did.
        for to in lab::tcp(10) {
            ensure!(lab.client.get(to)?.pod == "web-11");
        }
    }
    Ok(())
}

#[test]
fn e1_a_node_of_the_cluster_is_served_until_it_leaves() -> Result<()> {
    require_root!();
    for mode in MODES {
        let (lab, far) = stage(mode, &named())?;
        for to in lab::udp(10) {
            is_refused(&lab, &far, &format!("UDP to {to}"), || datagram(to))?;
        }
        lab.manifests.put("node-b.yaml", &far.node_yaml("node-b"))?;
        wait::until("the node belongs to the cluster", || {
            lab::tcp(10).iter().try_for_each(|to| {
                let open = || std::net::TcpStream::connect_timeout(to, SOON);
                far.namespace().run(open).ok().map(drop)
            })
        })?;
        is_served(&far).with_context(|| mode.to_owned())?;
        lab.manifests.remove("node-b.yaml")?;
        for to in lab::udp(10) {
            let refused_before = refused(&lab)?;
            wait::until("the node has left", || {
                far.namespace().run(|| datagram(to)).ok()?;
                (refused(&lab).ok()? > refused_before).then_some(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn e1_what_pod_cidr_says_is_inside() -> Result<()> {
    require_root!();
    for mode in MODES {
        let cidrs = ["--pod-cidr", "172.20.1.0/24,fd00:c0:1::/64"];
        let (_lab, far) = stage(mode, &[&named()[..], &cidrs].concat())?;
        is_served(&far).with_context(|| mode.to_owned())?;
    }
    Ok(())
}

#[test]
fn e1_f4_uplinks_are_guarded_while_the_agent_is_away_and_taken_over() -> Result<()> {
    require_root!();
    for mode in MODES {
        let (mut lab, outside) = stage(mode, &named())?;
        let before = (lab.node.pins(Path::new(BPFFS))?, attached_to(&lab, UPLINK)?);
        let counted = refused(&lab)?;
        lab.agent()?.kill();
        for to in lab::udp(10) {
            outside.namespace().run(|| datagram(to))?;
        }
        lab.agent()?.resume()?;
        let after = refused(&lab)?;
        ensure!(after >= counted + 2, "{mode}: {counted}, then {after}");
        is_attached(&lab, UPLINK, "uplink")?;
        let now = (lab.node.pins(Path::new(BPFFS))?, attached_to(&lab, UPLINK)?);
        ensure!(now == before, "{mode}: {before:?}, then {now:?}");
        for to in lab::udp(10) {
            is_refused(&lab, &outside, &format!("UDP to {to}"), || datagram(to))?;
        }
    }
    Ok(())
}

/// F4, E1: other programs, and maps of another size: nothing of the inside is reached meanwhile, who is served stays connected, and
/// each device has its programs once.
#[test]
fn e1_f4_other_programs_and_maps_take_over_uplinks() -> Result<()> {
    require_root!();
    for mode in MODES {
        let outside = ["--pod-cidr", "172.20.1.0/24,fd00:c0:1::/64"];
        let (mut lab, machine) = stage(mode, &[&named()[..], &outside].concat())?;
        let to = lab::tcp(10)[0];
        let open = || Connection::open(to);
        let mut connection = machine.namespace().run(open)?;
        let first = connection.get()?.pod;
        for more in [&["-vv"][..], &[], &["--max-flows", "65536"], &[]] {
            let always = ["--node-name", manifests::NODE, "--uplink-mode", mode];
            let agent = lab.agent()?;
            agent.kill();
            agent.set_arguments(&[&always, &named()[..], &outside, more].concat());
            agent.resume()?;
            ensure!(is_attached(&lab, UPLINK, "uplink")? == (mode == "auto"));
            ensure!(connection.get()?.pod == first, "{mode} {more:?}");
            ensure!(has_xdp(&lab)? == (mode == "auto"), "{mode} {more:?}");
            ensure!(attached_to(&lab, UPLINK)?.len() == 2, "{mode} {more:?}");
        }
        // Who is no longer inside is refused by the last of them.
        let agent = lab.agent()?;
        agent.stop()?;
        let always = ["--node-name", manifests::NODE, "--uplink-mode", mode];
        agent.set_arguments(&[&always[..], &named()].concat());
        agent.resume()?;
        is_attached(&lab, UPLINK, "uplink")?;
        is_refused(&lab, &machine, mode, || datagram(lab::udp(10)[0]))?;
    }
    Ok(())
}

/// Whether a device has an XDP program.
fn has_xdp(lab: &Lab) -> Result<bool> {
    let mut ip = lab.node.namespace().command("ip");
    let output = ip.args(["-details", "link", "show", UPLINK]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains(UPLINK), "ip link show {UPLINK}: {text}");
    Ok(text.contains("prog/xdp"))
}

#[test]
fn e1_another_mode_at_the_next_start_leaves_nothing_of_the_last_one() -> Result<()> {
    require_root!();
    let (mut lab, outside) = stage("auto", &named())?;
    ensure!(has_xdp(&lab)?);
    for (mode, guarded) in [("tc", true), ("off", false)] {
        lab.agent = None;
        lab.start_with(&["--node-name", manifests::NODE, "--uplink-mode", mode])?;
        if guarded {
            // The uplink is not named any more, and has no default route.
            is_detached(&lab, UPLINK)?;
        }
        nothing_is_left(&lab, UPLINK).with_context(|| mode.to_owned())?;
    }
    drop(outside);
    Ok(())
}

#[test]
fn cleanup_takes_the_hooks_from_uplinks_too() -> Result<()> {
    require_root!();
    for mode in MODES {
        let (mut lab, _outside) = stage(mode, &named())?;
        ensure!(!attached_to(&lab, UPLINK)?.is_empty());
        ensure!(has_xdp(&lab)? == (mode == "auto"));
        let agent = lab.agent()?;
        agent.stop()?;
        agent.cleanup()?;
        nothing_is_left(&lab, UPLINK)?;
    }
    Ok(())
}

#[test]
fn e1_uplinks_are_the_devices_with_a_default_route_as_they_come_and_go() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let (one, two) = (
        Outside::join(&lab.node, UPLINK, 1)?,
        Outside::join(&lab.node, "up1", 2)?,
    );
    let ip = |lines: &str| lab.node.namespace().ip(lines);
    let [v4, _] = one.addresses();
    ip(&format!("route add default via {v4}\n"))?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start_with(&["--node-name", manifests::NODE])?;
    let ip = |lines: &str| lab.node.namespace().ip(lines);
    is_attached(&lab, UPLINK, "uplink")?;
    ensure!(attachment(&lab, "up1", "uplink").is_none());
    let [_, v6] = two.addresses();
    ip(&format!("route add default via {v6}\n"))?;
    is_attached(&lab, "up1", "uplink")?;
    // What was taken over from an earlier agent is let go of as well.
    let agent = lab.agent()?;
    agent.stop()?;
    agent.resume()?;
    let ip = |lines: &str| lab.node.namespace().ip(lines);
    is_attached(&lab, UPLINK, "uplink")?;
    ip(&format!("route delete default via {v4}\n"))?;
    is_detached(&lab, UPLINK)?;
    nothing_is_left(&lab, UPLINK)?;
    // It goes, and another one of its name comes.
    ip("link delete dev up1\n")?;
    is_detached(&lab, "up1")?;
    two.wire()?;
    ip(&format!("route add default via {v6}\n"))?;
    is_attached(&lab, "up1", "uplink")?;
    two.namespace().ip(&format!(
        "route replace default via {}\nroute replace default via {}\n",
        Outside::node_addresses(2)[0],
        Outside::node_addresses(2)[1],
    ))?;
    for to in lab::udp(10) {
        is_refused(&lab, &two, &format!("UDP to {to}"), || datagram(to))?;
    }
    Ok(())
}

#[test]
fn a_device_that_would_be_both_is_a_pods() -> Result<()> {
    require_root!();
    let (mut lab, _outside) = stage("tc", &["--uplinks", "*"])?;
    let link = lab.client.link().to_owned();
    is_attached(&lab, &link, "pod")?;
    ensure!(attachment(&lab, &link, "uplink").is_none());
    ensure!(attachment(&lab, "lo", "uplink").is_none());
    for to in lab::tcp(10) {
        ensure!(lab.client.get(to)?.pod == "web-11");
    }
    let log = lab.agent()?.log();
    ensure!(
        log.contains("taken for a pod's") && log.contains(&link),
        "{log}"
    );
    Ok(())
}
