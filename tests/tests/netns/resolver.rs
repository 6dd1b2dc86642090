//! The resolver and those who mean no good: strangers, slow clients, and what is no question.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::Result;
use clusterip_tests::{
    Namespace,
    lab::{self, Lab},
    manifests::NODE,
    names::dig,
    node::NODE_V4,
    require_root,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};

const VIP: &str = "10.96.0.10";
const WEB: &str = "web.default.svc.cluster.local";
/// Connections of one client, and all together; see the server.
const MOST_OF_ONE: usize = 64;
/// Longer than anything a client may make the server wait for; used up by a failure only.
const PATIENCE: Duration = Duration::from_secs(30);

fn lab(more: &[&str]) -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 20)?;
    lab.backend("web", 11)?;
    let listen = format!("{NODE_V4}:53");
    let own = ["--node-name", NODE, "--dns-listen", &listen];
    lab.start_with(&[&own[..], more].concat())?;
    Ok(lab)
}

fn connect() -> io::Result<TcpStream> {
    let vip: IpAddr = VIP.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&SocketAddr::new(vip, 53), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether the server has ended a connection, whichever way.
fn is_ended(stream: &mut TcpStream) -> io::Result<bool> {
    match stream.read(&mut [0; 1]) {
        Ok(length) => Ok(length == 0),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error),
    }
}

/// What is said, in one line.
fn said(from: &Namespace, options: &str, name: &str, kind: &str) -> Result<String> {
    Ok(dig(from, options, name, kind)?.join(" "))
}

/// The agent is no open resolver.
#[test]
fn strangers_are_refused_until_they_are_let_in() -> Result<()> {
    require_root!();
    let mut lab = lab(&[])?;
    let server = format!("@{VIP} +time=5");
    let stranger = said(lab.client.namespace(), &server, WEB, "A")?;
    assert_eq!(stranger, "REFUSED", "nobody says that this is a pod");
    let known = lab.pod("web-11")?.namespace();
    let wanted = format!("NOERROR aa answer {WEB}. 5 IN A {}", lab::vips(20)[0]);
    assert_eq!(said(known, &server, WEB, "A")?, wanted, "a Pod object does");
    let node = format!("@{NODE_V4} +time=5");
    let itself = said(lab.node.namespace(), &node, WEB, "A")?;
    assert_eq!(itself, wanted, "the node itself");
    for (options, kind, wanted) in [
        ("+opcode=NOTIFY", "SOA", "NOTIMP"),
        ("-c CH", "TXT", "REFUSED"),
        ("", "AXFR", "REFUSED"),
        ("", "IXFR=1", "REFUSED"),
    ] {
        let options = format!("{server} {options}");
        assert_eq!(
            said(known, &options, "cluster.local", kind)?,
            wanted,
            "{options}"
        );
    }

    lab.agent()?.stop()?;
    let listen = format!("{NODE_V4}:53");
    let own = ["--node-name", NODE, "--dns-listen", &listen];
    lab.start_with(&[&own[..], &["--dns-allow", "10.244.0.2/32"]].concat())?;
    assert_eq!(said(lab.client.namespace(), &server, WEB, "A")?, wanted);
    Ok(())
}

#[test]
fn slow_clients_are_few_and_end_and_keep_nobody_waiting() -> Result<()> {
    require_root!();
    let lab = lab(&["--dns-allow", "10.244.0.2/32"])?;
    let mut slow = lab.client.run(|| {
        let slow = (0..MOST_OF_ONE).map(|_| {
            let mut stream = connect()?;
            // A message of 100 bytes, of which there is one.
            stream.write_all(&[0, 100, 7])?;
            Ok(stream)
        });
        slow.collect::<io::Result<Vec<_>>>()
    })?;
    let mut more = lab.client.run(connect)?;
    assert!(
        is_ended(&mut more)?,
        "one client has its number of connections"
    );
    let other = lab.pod("web-11")?.namespace();
    for options in ["+tcp", "+notcp"] {
        let said = dig(other, &format!("@{VIP} +time=5 {options}"), WEB, "A")?;
        assert_eq!(said[0], "NOERROR aa", "others have theirs");
    }
    for stream in &mut slow {
        assert!(is_ended(stream)?, "who does not go on is not waited for");
    }
    let again = dig(
        lab.client.namespace(),
        &format!("@{VIP} +time=5 +tcp"),
        WEB,
        "A",
    )?;
    assert_eq!(again[0], "NOERROR aa", "and there is room again");
    Ok(())
}

#[test]
fn questions_in_one_go_are_answered_in_their_order() -> Result<()> {
    require_root!();
    let lab = lab(&["--dns-allow", "10.244.0.2/32"])?;
    let mut all = Vec::new();
    for id in 0..50 {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii(WEB)?, RecordType::A));
        let bytes = message.to_vec()?;
        all.push(0);
        all.push(u8::try_from(bytes.len())?);
        all.extend(bytes);
    }
    let mut stream = lab.client.run(connect)?;
    stream.write_all(&all)?;
    for id in 0..50 {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; length[1].into()];
        stream.read_exact(&mut bytes)?;
        assert_eq!(Message::from_vec(&bytes)?.metadata.id, id);
    }
    // What is no question ends the connection: there is no telling where the next one would begin.
    stream.write_all(&[0, 3, 1, 2, 3])?;
    assert!(is_ended(&mut stream)?);
    Ok(())
}
