//! `clusterip monitor`: real packets and calls, and what listeners hear of them.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Caller, Cgroup, Listener, Outside, caller,
    client::Connection,
    lab::{self, Lab},
    listener::is,
    manifests::NODE,
    require_root, wait,
};
use serde_json::Value;

/// A service `web` at 10 with a backend, a service `none` at 20 without one.
pub(crate) fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.service("none", 20)?;
    lab.start()?;
    Ok(lab)
}

pub(crate) fn listen(lab: &Lab, arguments: &[&str]) -> Result<Listener> {
    let json = [&["-o", "json"], arguments].concat();
    Listener::start(lab.node.namespace(), &json)
}

fn end(line: &Value, field: &str) -> Option<SocketAddr> {
    line.get(field)?.as_str()?.parse().ok()
}

#[test]
fn every_kind_of_event_is_told_with_names() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let listener = listen(&lab, &["--sample", "1"])?;
    for (to, backend) in lab::tcp(10)
        .into_iter()
        .zip(["10.244.0.11:8080", "[fd00:10:244::b]:8080"])
    {
        let of = |line: &Value| end(line, "frontend") == Some(to);
        let local = {
            let mut connection = lab.client.run(|| Connection::open(to))?;
            connection.get()?;
            connection.local()?
        };
        let opened = listener.await_event("opened", "new-flow", of)?;
        assert_eq!(end(&opened, "client"), Some(local), "{opened}");
        assert_eq!(end(&opened, "backend"), backend.parse().ok(), "{opened}");
        for (field, text) in [
            ("namespace", "default"),
            ("service", "web"),
            ("portName", "tcp-80"),
            ("backendPod", "default/web-11"),
            ("protocol", "TCP"),
            ("hook", "from-pod"),
            ("device", lab.client.link()),
        ] {
            assert!(is(&opened, field, text), "{field} is {text}: {opened}");
        }
        listener.await_event("translated", "request", of)?;
        let reply = listener.await_event("translated", "reply", of)?;
        assert_eq!(end(&reply, "client"), Some(local), "{reply}");
        assert_eq!(end(&reply, "backend"), backend.parse().ok(), "{reply}");
        let mine = |line: &Value| end(line, "client") == Some(local);
        let both = ["request", "reply"];
        wait::until("the flow is closed", || {
            let lines = listener.lines().ok()?;
            let closed = lines
                .iter()
                .filter(|line| is(line, "kind", "closed") && mine(line));
            let closed: Vec<&Value> = closed.collect();
            match closed.as_slice() {
                [] => None,
                [one] => both.iter().any(|it| is(one, "outcome", it)).then_some(()),
                more => panic!("closed once: {more:?}"),
            }
        })?;
    }
    // B7, B9: refused, and dropped.
    for to in lab::tcp(20) {
        let refused = lab.client.run(|| Ok(TcpStream::connect(to).is_err()))?;
        assert!(refused, "nobody is there");
        let line = listener.await_event("rejected", "no-endpoint", |line| {
            end(line, "frontend") == Some(to)
        })?;
        assert!(
            is(&line, "service", "none") && is(&line, "portName", "tcp-80"),
            "{line}"
        );
        assert_eq!(line.get("backend"), Some(&Value::Null), "{line}");
    }
    let closed: SocketAddr = "10.96.0.10:81".parse()?;
    assert!(lab.client.run(|| Ok(TcpStream::connect(closed).is_err()))?);
    let line = listener.await_event("rejected", "no-service", |_| true)?;
    assert!(
        is(&line, "service", "web") && is(&line, "portName", ""),
        "{line}"
    );
    let nobody: SocketAddr = "10.96.77.77:53".parse()?;
    lab.client
        .run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(b"x", nobody))?;
    let line = listener.await_event("dropped", "unallocated", |_| true)?;
    assert_eq!(end(&line, "frontend"), Some(nobody), "{line}");
    assert!(is(&line, "service", ""), "{line}");
    Ok(())
}

#[test]
fn e1_what_an_uplink_drops_is_told_by_tc_and_by_the_driver() -> Result<()> {
    require_root!();
    // A veth has a driver that takes programs.
    for (mode, hook) in [("tc", "from-uplink"), ("auto", "driver")] {
        let mut lab = Lab::new()?;
        let outside = Outside::join(&lab.node, "up0", 1)?;
        lab.service("web", 10)?;
        lab.start_with(&[
            "--node-name",
            NODE,
            "--uplink-mode",
            mode,
            "--uplinks",
            "up*",
        ])?;
        let listener = listen(&lab, &["--outcome", "from-outside"])?;
        for to in lab::udp(10) {
            let line = wait::until("what comes from outside is told", || {
                let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
                    .parse()
                    .ok()?;
                outside
                    .namespace()
                    .run(|| UdpSocket::bind(any)?.send_to(b"x", to))
                    .ok()?;
                let lines = listener.lines().ok()?;
                lines
                    .into_iter()
                    .find(|line| end(line, "frontend") == Some(to))
            })?;
            assert!(
                is(&line, "kind", "dropped") && is(&line, "service", "web"),
                "{line}"
            );
            assert!(is(&line, "hook", hook), "{mode}: {line}");
            let from = end(&line, "client").map(|end| end.ip());
            assert!(
                outside.addresses().iter().any(|it| Some(*it) == from),
                "{line}"
            );
        }
    }
    Ok(())
}

#[test]
fn calls_of_the_nodes_own_processes_are_told() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.service("none", 20)?;
    let cgroup = Cgroup::new()?;
    let path = cgroup.path().display().to_string();
    lab.start_with(&[
        "--node-name",
        NODE,
        "--socket-lb",
        "host",
        "--cgroup",
        &path,
    ])?;
    let listener = listen(&lab, &[])?;
    let program = caller::program(env!("CARGO_BIN_EXE_caller"));
    let mut host = Caller::start(program, lab.node.namespace(), &cgroup)?;
    for (to, none) in lab::tcp(10).into_iter().zip(lab::tcp(20)) {
        host.tcp(to)?;
        let of = |line: &Value| end(line, "frontend") == Some(to);
        let line = listener.await_event("opened", "socket-new-flow", of)?;
        assert!(
            is(&line, "service", "web") && is(&line, "hook", "socket"),
            "{line}"
        );
        assert!(is(&line, "backendPod", "default/web-11"), "{line}");
        assert_eq!(line.get("client"), Some(&Value::Null), "{line}");
        assert!(host.tcp(none).is_err(), "nobody is there");
        let of = |line: &Value| end(line, "frontend") == Some(none);
        let line = listener.await_event("rejected", "socket-no-endpoint", of)?;
        assert!(is(&line, "service", "none"), "{line}");
    }
    Ok(())
}

#[test]
fn each_listener_hears_what_it_asked_for_alone() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let [web, _] = lab::tcp(10);
    let [none, _] = lab::tcp(20);
    let all = listen(&lab, &[])?;
    let filtered = [
        (listen(&lab, &["--service", "web"])?, "opened closed"),
        (listen(&lab, &["--service", "none"])?, "rejected"),
        (listen(&lab, &["--outcome", "no-endpoint"])?, "rejected"),
        (listen(&lab, &["--outcome", "closed"])?, "closed"),
        (listen(&lab, &["--to", "10.96.0.20"])?, "rejected"),
        (
            listen(&lab, &["--to", "10.244.0.11:8080"])?,
            "opened closed",
        ),
        (
            listen(&lab, &["--from", "10.244.0.2", "--outcome", "opened"])?,
            "opened",
        ),
        (listen(&lab, &["--from", "10.244.0.3"])?, ""),
        (listen(&lab, &["-n", "shop"])?, ""),
    ];
    lab.client.get(web)?;
    assert!(lab.client.run(|| Ok(TcpStream::connect(none).is_err()))?);
    for kind in ["opened", "closed", "rejected"] {
        wait::until(kind, || (all.count(kind).ok()? == 1).then_some(()))?;
    }
    for (listener, wanted) in &filtered {
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let heard = || -> Result<Vec<String>> {
            let lines = listener.lines()?;
            let kinds = lines.iter().filter_map(|line| line.get("kind")?.as_str());
            Ok(kinds.skip(1).map(str::to_owned).collect())
        };
        wait::until("all of it is heard", || {
            (heard().ok()?.len() >= wanted.len()).then_some(())
        })
        .with_context(|| format!("{wanted:?} of {}", listener.text()))?;
        assert_eq!(heard()?, wanted, "{}", all.text());
    }
    // A table for people has the same.
    let table = Listener::start(lab.node.namespace(), &[])?;
    lab.client.get(web)?;
    let text = wait::until("the table has it", || {
        let text = table.text();
        text.contains("closed").then_some(text)
    })?;
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines
            .first()
            .is_some_and(|it| it.starts_with("TIME          KIND        PROTO  CLIENT")),
        "{text}"
    );
    assert!(
        text.contains(
            "default/web:tcp-80    10.96.0.10:80       10.244.0.11:8080 (default/web-11)"
        ),
        "{text}"
    );
    Ok(())
}

#[test]
fn frames_of_what_is_rejected_or_dropped_go_into_a_file_that_others_read() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("dropped.pcap");
    let file = path.display().to_string();
    let listener = listen(&lab, &["--write-pcap", &file])?;
    let [none, none6] = lab::tcp(20);
    for to in [none, none6] {
        assert!(lab.client.run(|| Ok(TcpStream::connect(to).is_err()))?);
    }
    let nobody: SocketAddr = "10.96.77.77:53".parse()?;
    lab.client
        .run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(&[7; 500], nobody))?;
    listener.await_event("dropped", "unallocated", |_| true)?;
    for to in [none, none6] {
        let line = listener.await_event("rejected", "no-endpoint", |line| {
            end(line, "frontend") == Some(to)
        })?;
        assert!(is(&line, "link", "ethernet"), "{line}");
    }
    let bytes = std::fs::read(&path)?;
    let frames = packets(&bytes).context("a file of libpcap")?;
    assert_eq!(frames.len(), 3, "two SYNs, a datagram");
    for (frame, length) in &frames {
        let longest = frame.len() == 128 && *length == 14 + 20 + 8 + 500;
        ensure!(
            longest || frame.len() == *length,
            "{} of {length} bytes",
            frame.len()
        );
    }
    // As it came, and not the answer that was made of it.
    let (syn, _) = &frames[0];
    let destination = syn.get(30..34).context("an IPv4 header")?;
    assert_eq!(destination, [10, 96, 0, 20]);
    let output = Command::new("tcpdump").args(["-n", "-r", &file]).output();
    let output = output.context("run tcpdump (Debian package tcpdump)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    for part in [
        "> 10.96.0.20.80: Flags [S]",
        "> fd00:10:96::14.80: Flags [S]",
        "> 10.96.77.77.53:",
    ] {
        ensure!(
            text.contains(part),
            "{part} is not in\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// The frames of a file of libpcap, with the length each had.
fn packets(file: &[u8]) -> Option<Vec<(&[u8], usize)>> {
    // In the order of this machine's bytes, as who wrote it.
    let word = |at: usize| {
        let bytes: [u8; 4] = file.get(at..at + 4)?.try_into().ok()?;
        let number = u32::read(bytes);
        usize::try_from(number).ok()
    };
    if word(0)? != 0xa1b2_c3d4 || word(20)? != 1 {
        return None;
    }
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let (captured, length) = (word(at + 8)?, word(at + 12)?);
        packets.push((file.get(at + 16..at + 16 + captured)?, length));
        at += 16 + captured;
    }
    Some(packets)
}

trait Read4 {
    fn read(bytes: [u8; 4]) -> Self;
}

impl Read4 for u32 {
    #[expect(clippy::host_endian_bytes, reason = "the file says which order it has")]
    fn read(bytes: [u8; 4]) -> Self {
        Self::from_ne_bytes(bytes)
    }
}
