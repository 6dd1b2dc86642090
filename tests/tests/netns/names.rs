//! J: names, asked from pods through the service address of the resolver, with the programs that pods have.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Pod, client,
    lab::{self, Lab},
    manifests::{NODE, Service},
    names::{dig, table},
    node::{NODE_V4, NODE_V6},
    require_root, resolv, schema, wait,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RecordType},
};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/names");
/// Where the resolver is a service.
const VIPS: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

/// A lab whose agent answers names at the node's addresses.
fn start(lab: &mut Lab, more: &[&str]) -> Result<()> {
    let listen = format!("{NODE_V4}:53,[{NODE_V6}]:53");
    let own = ["--node-name", NODE, "--dns-listen", &listen];
    let pods = ["--pod-cidr", "10.244.0.0/24,fd00:10:244::/64"];
    lab.start_with(&[&own[..], &pods, more].concat())?;
    let servers = VIPS.map(|vip| vip.parse().expect("an address"));
    let conf = resolv::conf(&servers, "default", "cluster.local");
    lab.client.set_resolv_conf(&conf)
}

fn code(lab: &Lab, options: &str, name: &str, kind: &str) -> Result<String> {
    let said = dig(lab.client.namespace(), options, name, kind)?;
    Ok(said.first().cloned().unwrap_or_default())
}

/// J1, J2, J3, J4, J5 on the wire: UDP and TCP.
#[test]
fn the_table_is_answered_on_the_wire() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let read = |name: &str| std::fs::read_to_string(Path::new(FOLDER).join(name));
    lab.manifests.put("objects.yaml", &read("objects.yaml")?)?;
    let listen = format!("{NODE_V4}:53");
    lab.start_with(&["--node-name", NODE, "--dns-listen", &listen])?;
    let exchanges = table(&read("table.txt")?)?;
    ensure!(exchanges.len() > 80, "the table is whole");
    let from = lab.client.namespace();
    for exchange in exchanges.iter().filter(|it| !it.is_elsewhere()) {
        for options in ["+notcp", "+tcp"] {
            let options = format!("@{} +time=5 {options}", VIPS[0]);
            let said = dig(from, &options, &exchange.name, &exchange.kind)?;
            let (name, kind) = (&exchange.name, &exchange.kind);
            assert_eq!(said, exchange.said, "{options} {name} {kind}");
        }
    }
    Ok(())
}

/// J8, J3: by the system's own resolver, with the search list of a pod, over both families.
#[test]
fn partial_names_are_found_through_the_search_list() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 20)?;
    lab.backend("web", 11)?;
    start(&mut lab, &[])?;
    let from = lab.client.namespace();
    let [v4, v6] = lab::vips(20);
    for name in [
        "web",
        "web.default",
        "web.default.svc",
        "web.default.svc.cluster.local",
        "web.default.svc.cluster.local.",
    ] {
        for (database, wanted) in [("ahostsv4", v4), ("ahostsv6", v6)] {
            let output = from.command("getent").args([database, name]).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            let found = said.split_whitespace().next();
            assert_eq!(
                found,
                Some(wanted.to_string().as_str()),
                "{database} {name}"
            );
        }
        let found = lab.client.run(|| (name, 80).to_socket_addrs())?;
        let found: Vec<IpAddr> = found.map(|it| it.ip()).collect();
        assert!(
            found.contains(&v4) && found.contains(&v6),
            "{name}: {found:?}"
        );
        // As musl does it: each name of the list in turn.
        let said = dig(from, "+search +ndots=5", name, "A")?;
        let wanted = format!("answer web.default.svc.cluster.local. 5 IN A {v4}");
        assert!(said.contains(&wanted), "{name}: {said:?}");
    }
    let absent = from
        .command("getent")
        .args(["ahosts", "web.absent"])
        .status()?;
    assert_eq!(absent.code(), Some(2), "not found");
    for vip in VIPS {
        let said = code(
            &lab,
            &format!("@{vip} +time=5"),
            "web.default.svc.cluster.local",
            "A",
        )?;
        assert_eq!(said, "NOERROR aa", "{vip}");
    }
    // And what the name leads to answers.
    assert_eq!(lab.client.get((v4, 80).into())?.pod, "web-11");
    Ok(())
}

/// J7
#[test]
fn what_is_too_long_for_a_datagram_comes_by_tcp() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let endpoints: Vec<String> = (1..=100)
        .map(|number| format!("  - addresses: [192.0.2.{number}]\n"))
        .collect();
    let endpoints = endpoints.concat();
    let many = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: many}}\nspec: {{clusterIP: None}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: many, labels: {{kubernetes.io/service-name: many}}}}\n\
         addressType: IPv4\nports: []\nendpoints:\n{endpoints}"
    );
    lab.manifests.put("many.yaml", &many)?;
    start(&mut lab, &[])?;
    let from = lab.client.namespace();
    let ask = |options: &str| {
        let options = format!("@{} +time=5 {options}", VIPS[0]);
        dig(from, &options, "many.default.svc.cluster.local", "A")
    };
    let cut = ask("+noedns +ignore")?;
    assert_eq!(cut[0], "NOERROR aa tc");
    assert!(cut.len() > 20, "what fits is there: {}", cut.len());
    for whole in ["+noedns", "+bufsize=4096 +ignore", "+tcp"] {
        let said = ask(whole)?;
        assert_eq!(
            (said[0].as_str(), said.len()),
            ("NOERROR aa", 101),
            "{whole}"
        );
    }
    Ok(())
}

/// The figures of the agent are a port of the service where pods reach them.
#[test]
fn the_resolver_is_a_service_with_figures() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    start(&mut lab, &["--metrics-bind-address", "0.0.0.0:10249"])?;
    for vip in VIPS {
        let to: SocketAddr = (vip.parse::<IpAddr>()?, 9153).into();
        let ask = || client::Connection::open(to)?.http("/metrics");
        // The IPv6 address of the service has no endpoint for figures that are on IPv4 alone.
        if to.is_ipv4() {
            assert!(lab.client.run(ask)?.body.contains("clusterip_"));
        }
    }
    Ok(())
}

fn question(name: &str, id: u16) -> Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    Ok(message.to_vec()?)
}

/// One question in one datagram, without a second try.
fn ask_once(pod: &Pod, name: &str, patience: Duration) -> Result<Option<Message>> {
    let bytes = question(name, 77)?;
    let to: SocketAddr = (VIPS[0].parse::<IpAddr>()?, 53).into();
    let answer = pod.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(patience))?;
        let mut answer = vec![0; 4096];
        // Nobody answers, or nobody listens: the name is as unknown as before.
        let length = socket.send(&bytes).and_then(|_| socket.recv(&mut answer));
        answer.truncate(length.unwrap_or_default());
        Ok(answer)
    })?;
    Ok(Message::from_vec(&answer).ok())
}

/// Questions after a restart before nobody is thought to be there.
const PATIENCE: u32 = 200;

/// J6, F4
#[test]
fn names_survive_a_restart_and_nothing_is_ever_absent() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 20)?;
    lab.backend("web", 11)?;
    start(&mut lab, &[])?;
    let asker = lab.node.pod(&lab::spec("asker", 9))?;
    let name = "web.default.svc.cluster.local.";
    for crash in [true, false] {
        let done = AtomicBool::new(false);
        let agent = lab.agent.as_mut().context("no agent")?;
        thread::scope(|scope| -> Result<()> {
            let asking = scope.spawn(|| -> Result<(u32, u32)> {
                let (mut answered, mut not, mut late) = (0, 0, 0);
                // The other asker may be answered first: this one must be, too, and not much later.
                while !done.load(Ordering::Relaxed) || answered == 0 && late < PATIENCE {
                    late += u32::from(done.load(Ordering::Relaxed));
                    match ask_once(&asker, name, Duration::from_millis(50))? {
                        Some(answer) => match answer.metadata.response_code {
                            ResponseCode::NoError if !answer.answers.is_empty() => answered += 1,
                            ResponseCode::ServFail => not += 1,
                            code => anyhow::bail!("{code} {answer:?}"),
                        },
                        None => not += 1,
                    }
                }
                Ok((answered, not))
            });
            let mut restart = || -> Result<Duration> {
                if crash {
                    agent.kill();
                } else {
                    agent.stop()?;
                }
                agent.resume()?;
                let ready = Instant::now();
                wait::until("the name is known again", || {
                    let answer = ask_once(&lab.client, name, Duration::from_millis(200));
                    let answer = answer.ok().flatten()?;
                    (answer.metadata.response_code == ResponseCode::NoError).then_some(())
                })?;
                Ok(ready.elapsed())
            };
            let took = restart();
            done.store(true, Ordering::Relaxed);
            let tally = asking.join().expect("no panic")?;
            assert!(took? < Duration::from_secs(1));
            assert!(tally.0 > 0, "{tally:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// J1, J2: the command asks the resolver of an agent that has no socket for names, too.
#[test]
fn a_query_by_the_agents_socket_is_answered_as_the_nodes_own() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 20)?;
    lab.backend("web", 11)?;
    lab.start()?;
    let name = "web.default.svc.cluster.local";
    let [v4, _] = lab::vips(20);
    let said = lab.agent()?.ask(&["dns", "query", name])?;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.starts_with("NOERROR, authoritative, "), "{said:?}");
    let line = format!("answer   {name}.  5    A     {v4}\n");
    assert!(said.out.ends_with(&line), "{said:?}");

    let service = format!("_tcp-80._tcp.{name}.");
    for (name, kind, code, data) in [
        (name, "a", "NOERROR", Some(v4.to_string())),
        (
            &service,
            "SRV",
            "NOERROR",
            Some(format!("0 100 80 {name}.")),
        ),
        ("absent.default.svc.cluster.local", "A", "NXDOMAIN", None),
    ] {
        let arguments = ["dns", "query", name, kind, "-o", "json"];
        let said = lab.agent()?.ask(&arguments)?;
        let exit = i32::from(code != "NOERROR");
        assert_eq!(said.code, Some(exit), "{said:?}");
        let document = serde_json::from_str(&said.out)?;
        schema::check(&schema::read("lookup")?, &document)?;
        assert_eq!(document["rcode"], code, "{document}");
        let found = document
            .pointer("/answers/0/data")
            .and_then(|it| it.as_str());
        assert_eq!(found, data.as_deref(), "{document}");
    }
    for wrong in [["a..b", "A"], [name, "NONSENSE"]] {
        let said = lab
            .agent()?
            .ask(&[&["dns", "query"], &wrong[..]].concat())?;
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    Ok(())
}

/// A name never leads to an address that does not answer yet.
#[test]
fn what_a_name_leads_to_answers() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.backend("web", 11)?;
    start(&mut lab, &[])?;
    for number in 30..50 {
        let name = format!("web-{number}");
        let vips = lab::vips(number);
        let service = Service::new("web", &vips).tcp(80, 8080).yaml();
        let service = service.replacen("name: web", &format!("name: {name}"), 1);
        lab.manifests.put(&format!("{name}.yaml"), &service)?;
        let name = format!("{name}.default.svc.cluster.local.");
        wait::until("the name is known", || {
            let answer = ask_once(&lab.client, &name, Duration::from_secs(1));
            (!answer.ok().flatten()?.answers.is_empty()).then_some(())
        })?;
        let pod = lab.client.get((vips[0], 80).into());
        assert_eq!(pod.with_context(|| name)?.pod, "web-11");
    }
    Ok(())
}
