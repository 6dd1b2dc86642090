//! The laboratory without an agent: what the other tests stand on.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::Result;
use clusterip_common::wire::Be16;
use clusterip_tests::{
    Namespace, Node, Server,
    client::{self, Connection},
    lab::{Lab, PORTS, spec},
    node, require_root,
};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, socket};

/// Enough for several segments and GSO frames.
const SOME: u64 = 3_000_000;

/// The servers of a pod by its own addresses.
fn direct(pod: &clusterip_tests::Pod, port: u16) -> Vec<SocketAddr> {
    pod.addresses()
        .iter()
        .map(|address| SocketAddr::new(*address, port))
        .collect()
}

#[test]
fn pods_reach_each_other_by_their_own_addresses_over_tcp_and_udp() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let (a, b) = (node.pod(&spec("a", 11))?, node.pod(&spec("b", 12))?);
    let _server = Server::start(&b, &PORTS)?;
    for to in direct(&b, 8080) {
        let answer = a.get(to)?;
        assert_eq!(answer.pod, "b");
        assert!(a.addresses().contains(&answer.client.ip()), "{answer:?}");
        let said = a.run(|| client::ask(to, "PING"))?;
        assert_eq!(said, "b PONG");
        let said = node.namespace().run(|| client::ask(to, "SELECT 1"))?;
        assert_eq!(said, "b 1");
    }
    for to in direct(&b, 5353) {
        let pod = a.run(|| client::udp_ask(&client::udp_flow(to)?, "hello"))?;
        assert_eq!(pod, "b");
        let (answer, from) = a.run(|| client::udp_from(to, "hello"))?;
        assert_eq!((answer.as_str(), from), ("b hello", to));
    }
    Ok(())
}

#[test]
fn a_connection_is_kept_between_requests() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let (a, b) = (node.pod(&spec("a", 11))?, node.pod(&spec("b", 12))?);
    let _server = Server::start(&b, &PORTS)?;
    for to in direct(&b, 8080) {
        let mut connection = a.run(|| Connection::open(to))?;
        let local = connection.local()?;
        for _ in 0..3 {
            // A socket stays in the namespace where it was made.
            assert_eq!(connection.get()?.client, local);
        }
        assert_eq!(connection.ask("PING")?, "b PONG");
    }
    Ok(())
}

#[test]
fn bulk_data_arrives_whole_with_and_without_offloads() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let (a, b) = (node.pod(&spec("a", 11))?, node.pod(&spec("b", 12))?);
    let _server = Server::start(&b, &PORTS)?;
    for offloads in [true, false] {
        a.set_offloads(offloads)?;
        b.set_offloads(offloads)?;
        for to in direct(&b, 8080) {
            a.run(|| Connection::open(to)?.upload(SOME))?;
            a.run(|| Connection::open(to)?.download(SOME))?;
        }
    }
    Ok(())
}

/// The first UDP datagram of IPv4 to `port` that comes in through a device of the calling namespace: its addresses and
/// what follows the IPv4 header.
fn first_datagram(tap: &OwnedFd, port: u16) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut buffer = [0; 2048];
    loop {
        let length = nix::sys::socket::recv(tap.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        // Ethernet, IPv4 without options, UDP.
        let range = |range| buffer.get(..length).and_then(|frame| frame.get(range));
        let (kind, protocol, to) = (range(12..14), range(23..24), range(36..38));
        if (kind, protocol, to) == (Some(&[8, 0]), Some(&[17]), Some(&Be16::new(port).0)) {
            let bytes = |at| range(at).map(<[u8]>::to_vec).unwrap_or_default();
            return Ok((bytes(26..34), bytes(34..length)));
        }
    }
}

/// Whether the UDP checksum is complete and right: then everything it covers adds up to ffff.
fn is_checksum_right(addresses: &[u8], datagram: &[u8]) -> bool {
    let sum = |bytes: &[u8]| -> usize {
        let number = |pair: &[u8]| match *pair {
            [high, low] => Be16([high, low]).get(),
            [high] => Be16([high, 0]).get(),
            _ => 0,
        };
        bytes.chunks(2).map(|pair| usize::from(number(pair))).sum()
    };
    let mut sum = sum(addresses) + 17 + datagram.len() + sum(datagram);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

#[test]
fn checksums_are_complete_on_the_wire_without_offloads_only() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let (a, b) = (node.pod(&spec("a", 11))?, node.pod(&spec("b", 12))?);
    let _server = Server::start(&b, &PORTS)?;
    let to = SocketAddr::new(b.addresses()[0], 5353);
    for offloads in [true, false] {
        a.set_offloads(offloads)?;
        b.set_offloads(offloads)?;
        let tap = b.run(|| {
            let all = SockProtocol::EthAll;
            Ok(socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                all,
            )?)
        })?;
        a.run(|| client::udp_ask(&client::udp_flow(to)?, "an odd one"))?;
        let (addresses, datagram) = first_datagram(&tap, to.port())?;
        let right = is_checksum_right(&addresses, &datagram);
        assert_eq!(right, !offloads, "offloads {offloads}: {datagram:02x?}");
    }
    Ok(())
}

#[test]
fn ten_pods_have_links_of_their_own() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let long = "a-very-long-name-of-a-pod";
    let pods: Vec<_> = (11..21)
        .map(|number| node.pod(&spec(&format!("{long}-{number}"), number)))
        .collect::<Result<_>>()?;
    let mut links: Vec<_> = pods.iter().map(|pod| pod.link().to_owned()).collect();
    links.sort();
    links.dedup();
    assert_eq!(links.len(), pods.len());
    for link in links {
        assert!(link.len() < 16 && link.starts_with("veth"), "{link}");
    }
    Ok(())
}

#[test]
fn a_pod_that_is_dropped_takes_its_link_along() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let pod = node.pod(&spec("a", 11))?;
    let link = pod.link().to_owned();
    let shown = || {
        let output = node
            .namespace()
            .command("ip")
            .args(["-br", "link"])
            .output()?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert!(shown()?.contains(&link), "{}", shown()?);
    drop(pod);
    assert!(!shown()?.contains(&link), "{}", shown()?);
    Ok(())
}

#[test]
fn a_bpffs_belongs_to_its_node_alone() -> Result<()> {
    require_root!();
    let (one, two) = (Node::anonymous()?, Node::anonymous()?);
    let folder = Path::new("/sys/fs/bpf/clusterip");
    one.namespace().run(|| std::fs::create_dir(folder))?;
    one.namespace()
        .run(|| std::fs::create_dir(folder.join("v1")))?;
    assert_eq!(one.pins(folder)?, ["/sys/fs/bpf/clusterip/v1"]);
    assert!(two.pins(folder)?.is_empty());
    assert!(
        !folder.exists(),
        "the machine's own mount namespace is untouched"
    );
    Ok(())
}

#[test]
fn a_named_namespace_is_seen_by_ip_and_goes_with_its_value() -> Result<()> {
    require_root!();
    let name = format!("clusterip-test-{}", std::process::id());
    let path = Path::new("/run/netns").join(&name);
    let namespace = Namespace::named(&name)?;
    let mut inside = std::process::Command::new("ip");
    inside.args(["netns", "exec", &name, "ip", "-o", "link", "show", "lo"]);
    let output = inside.output()?;
    assert!(output.status.success(), "{output:?}");
    // A second owner is refused while the first one lives.
    let error = Namespace::named(&name).unwrap_err();
    assert!(error.to_string().contains("still running"), "{error:#}");
    drop(namespace);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_name_that_a_dead_owner_left_is_taken_over() -> Result<()> {
    require_root!();
    let name = format!("clusterip-left-{}", std::process::id());
    let owned = Namespace::named(&name)?;
    // What death does: the lock goes, the name stays.
    owned.abandon();
    let again = Namespace::named(&name)?;
    assert_eq!(again.name(), Some(name.as_str()));
    drop(again);
    assert!(!Path::new("/run/netns").join(&name).exists());
    Ok(())
}

#[test]
fn a_name_that_somebody_else_uses_is_refused() -> Result<()> {
    require_root!();
    let name = format!("clusterip-theirs-{}", std::process::id());
    // `ip` finds the folder of names made, and so does not leave it behind.
    let _ours = Namespace::named(&format!("clusterip-ours-{}", std::process::id()))?;
    let ip = |verb: &str| {
        std::process::Command::new("ip")
            .args(["netns", verb, &name])
            .status()
    };
    assert!(ip("add")?.success());
    let refused = Namespace::named(&name);
    assert!(ip("delete")?.success());
    let error = refused.unwrap_err();
    assert!(error.to_string().contains("not ours"), "{error:#}");
    Ok(())
}

#[test]
fn a_client_is_refused_where_nobody_listens() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let to = SocketAddr::new(node::NODE_V4.into(), 1);
    let error = lab.client.get(to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}
