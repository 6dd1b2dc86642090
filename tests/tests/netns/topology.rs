//! The laboratory without an agent: what the other tests stand on.

use std::{io, net::SocketAddr, path::Path};

use anyhow::Result;
use clusterip_tests::{
    Namespace, Node, Server,
    client::{self, Connection},
    lab::{Lab, PORTS, spec},
    node, require_root,
};

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
fn a_client_is_refused_where_nobody_listens() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let to = SocketAddr::new(node::NODE_V4.into(), 1);
    let error = lab.client.get(to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}
