//! The agent's API and the commands that read it, with a running agent.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    agent::Said,
    client::Connection,
    lab::{self, Lab},
    require_root, schema, wait,
};
use serde_json::Value;

/// Where the agent listens, in the node's own `/run`.
const SOCKET: &str = "/run/clusterip/agent.sock";

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    Ok(lab)
}

fn ask(lab: &mut Lab, arguments: &[&str]) -> Result<Said> {
    lab.agent()?.ask(arguments)
}

/// A table that the command prints; it must end well.
fn table(lab: &mut Lab, arguments: &[&str]) -> Result<String> {
    let said = ask(lab, arguments)?;
    assert_eq!(said.code, Some(0), "{arguments:?}: {said:?}");
    assert_eq!(said.error, "", "{arguments:?}");
    Ok(said.out)
}

/// The document that the command prints as JSON, which is what its schema says.
fn document(lab: &mut Lab, schema: &str, arguments: &[&str]) -> Result<Value> {
    let text = table(lab, &[arguments, &["-o", "json"]].concat())?;
    let document = serde_json::from_str(&text).with_context(|| text.clone())?;
    schema::check(&schema::read(schema)?, &document).with_context(|| text)?;
    Ok(document)
}

/// Words of each line, without those that change from run to run.
fn words(text: &str, columns: &[usize]) -> Vec<String> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kept = columns.iter().filter_map(|column| words.get(*column));
        kept.copied().collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect()
}

#[test]
fn every_table_and_document_tells_what_is_programmed() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let mut open = Vec::new();
    for to in lab::tcp(10) {
        for _ in 0..4 {
            let mut connection = lab.client.run(|| Connection::open(to))?;
            connection.get()?;
            open.push(connection);
        }
    }

    let text = table(&mut lab, &["get", "services"])?;
    assert_eq!(
        words(&text, &[0, 1, 2, 3, 4]),
        [
            "NAME TYPE CLUSTER-IP PORT(S) ENDPOINTS",
            "web ClusterIP 10.96.0.10,fd00:10:96::a 80/TCP,53/UDP 2/2"
        ]
    );
    let document_of = document(&mut lab, "services", &["get", "services", "web"])?;
    let flows = document_of.pointer("/services/0/traffic/flows");
    assert_eq!(flows, Some(&Value::from(8)), "{document_of}");
    let text = table(&mut lab, &["get", "svc", "-A", "-o", "wide"])?;
    assert!(text.contains("round-robin"), "{text}");
    let text = table(&mut lab, &["get", "services", "-o", "yaml"])?;
    assert!(text.contains("name: web"), "{text}");

    let text = table(&mut lab, &["get", "services", "--ipvs"])?;
    for line in [
        "TCP  10.96.0.10:80 wrr\n  -> 10.244.0.11:8080             Masq    1      2          0\n",
        "  -> 10.244.0.12:8080             Masq    1      2          0\n",
        "TCP  [fd00:10:96::a]:80 wrr\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    let text = table(&mut lab, &["get", "endpoints"])?;
    let wanted = "web tcp-80/TCP 10.244.0.11:8080 active - 1 2 0".to_owned();
    let lines = words(&text, &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(lines.contains(&wanted), "{text}");
    document(&mut lab, "endpoints", &["get", "endpoints", "-A"])?;

    let text = table(&mut lab, &["get", "flows", "--service", "web"])?;
    assert!(text.contains("default/web:tcp-80"), "{text}");
    assert!(text.contains("(default/web-11)"), "the pod's name\n{text}");
    let flows = document(&mut lab, "flows", &["get", "flows", "--limit", "3"])?;
    assert_eq!(flows.pointer("/total"), Some(&Value::from(8)), "{flows}");
    let listed = flows.pointer("/flows").and_then(Value::as_array);
    assert_eq!(listed.map(Vec::len), Some(3), "{flows}");

    let text = table(&mut lab, &["get", "interfaces"])?;
    assert_eq!(text.lines().count(), 4, "three pods\n{text}");
    document(&mut lab, "interfaces", &["get", "interfaces"])?;

    let text = table(&mut lab, &["get", "allocations"])?;
    assert_eq!(
        words(&text, &[0, 1, 2, 4]),
        [
            "ALLOCATION KIND SERVICE HOW",
            "10.96.0.10 ClusterIP default/web static",
            "fd00:10:96::a ClusterIP default/web static"
        ]
    );
    document(&mut lab, "allocations", &["get", "allocations", "-A"])?;
    document(&mut lab, "affinity", &["get", "affinity", "-A"])?;
    document(&mut lab, "version", &["version"])?;

    let place = lab.manifests.path().display().to_string();
    let packet = [
        "trace",
        "--manifests",
        &place,
        "--from",
        "10.244.0.2",
        "--to",
        "10.96.0.10:80",
    ];
    let trace = document(&mut lab, "trace", &packet)?;
    assert_eq!(
        trace.pointer("/verdict"),
        Some(&Value::from("translate")),
        "{trace}"
    );

    let text = table(&mut lab, &["top", "--once"])?;
    assert!(text.starts_with("clusterip  node-a  healthy\n"), "{text}");
    assert!(
        text.contains("\ndefault/web                        2/2       0"),
        "{text}"
    );

    let text = table(&mut lab, &["status"])?;
    assert!(text.starts_with("status      healthy\n"), "{text}");
    assert!(text.contains("  FLOWS      16/262144  0%"), "{text}");
    document(&mut lab, "status", &["status"])?;
    let text = table(&mut lab, &["status", "--brief"])?;
    assert_eq!(
        text,
        "healthy: 1 services, 4 frontends, 8 backends, 3 interfaces, 0 problems\n"
    );
    drop(open);
    Ok(())
}

#[test]
fn doctor_finds_what_is_wrong_with_a_node_and_needs_no_agent() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let good = ask(&mut lab, &["doctor"])?;
    for check in [
        "✓ kernel",
        "✓ capabilities",
        "✓ bpffs",
        "✓ pins",
        "✓ interfaces",
        "✓ forwarding",
        "✓ mtu",
        "✓ other programs",
        "✓ kube-proxy",
    ] {
        assert!(good.out.contains(check), "{check} is not in {good:?}");
    }
    lab.agent()?.stop()?;
    let name = lab.client.link().to_owned();
    lab.node
        .namespace()
        .ip(&format!("link set {name} mtu 1400\n"))?;
    lab.node
        .namespace()
        .run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0"))?;
    let bad = ask(
        &mut lab,
        &[
            "doctor",
            "--pod-interfaces",
            "veth*,eni*",
            "--bpffs",
            "/tmp/x",
        ],
    )?;
    assert_eq!(bad.code, Some(1), "{bad:?}");
    for finding in [
        "✗ bpffs           /tmp/x is not on one",
        "✗ interfaces      nothing matches eni*",
        "✗ forwarding      net.ipv4.ip_forward is off",
        "✗ mtu             1400 at vethCLIENT, 1500 at vethWEB",
    ] {
        assert!(bad.out.contains(finding), "{finding} is not in {}", bad.out);
    }
    let said = ask(&mut lab, &["status", "--brief"])?;
    assert_eq!(said.code, Some(1), "no agent: {said:?}");
    Ok(())
}

#[test]
fn b3_affinity_is_shown_with_names() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    let [v4, _] = lab::tcp(10);
    let sticky = "apiVersion: v1\nkind: Service\nmetadata: {name: sticky}\nspec: {selector: {app: web}, \
                  clusterIP: 10.96.0.20, sessionAffinity: ClientIP, ports: [{port: 80, targetPort: 8080}]}\n";
    lab.manifests.put("sticky.yaml", sticky)?;
    lab.start()?;
    lab.client.get(v4)?;
    let [sticky, _] = lab::tcp(20);
    lab.client.get(sticky)?;
    let document = document(&mut lab, "affinity", &["get", "affinity"])?;
    let text = table(&mut lab, &["get", "affinity"])?;
    assert_eq!(
        words(&text, &[0, 1, 2, 3]),
        [
            "SERVICE CLIENT BACKEND EXPIRES",
            "default/sticky:TCP 10.244.0.2 10.244.0.11:8080 (default/web-11)"
        ],
        "{document}"
    );
    Ok(())
}

#[test]
fn names_that_are_not_there_and_agents_that_are_not_there() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let said = ask(&mut lab, &["get", "services", "wbe"])?;
    assert_eq!(said.code, Some(1));
    assert_eq!(
        said.error,
        "error: there is no service wbe in namespace default; did you mean default/web?\n"
    );
    let said = ask(&mut lab, &["get", "endpoints", "web", "-n", "shop"])?;
    assert!(
        said.error.contains("there is default/web: -n default"),
        "{said:?}"
    );
    let said = ask(&mut lab, &["get", "services", "-n", "shop"])?;
    assert_eq!(
        said.out,
        "no services in namespace shop; -A shows those of every one\n"
    );
    let said = ask(&mut lab, &["get", "nonsense"])?;
    assert_eq!(said.code, Some(2), "wrong usage: {said:?}");

    let agent = lab.agent()?;
    agent.stop()?;
    let said = agent.ask(&["get", "services"])?;
    assert_eq!(said.code, Some(1));
    assert!(
        said.error
            .contains("no agent answers at /run/clusterip/agent.sock: start it"),
        "{said:?}"
    );
    agent.resume()?;
    // As a crash leaves it, the socket is there still.
    agent.kill();
    let said = agent.ask(&["get", "services"])?;
    assert!(said.error.contains("no agent answers"), "{said:?}");
    agent.resume()?;
    assert_eq!(agent.ask(&["get", "services"])?.code, Some(0));
    Ok(())
}

#[test]
fn a_released_address_is_shown_while_it_rests() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    lab.manifests.remove("service-web.yaml")?;
    let seen = wait::until("the address rests", || {
        let said = ask(&mut lab, &["get", "allocations"]).ok()?;
        let gone = said.out.starts_with("no allocations");
        (gone || said.out.contains("resting")).then_some(said.out)
    })?;
    assert!(
        seen.contains("10.96.0.10     ClusterIP  default/web  -     resting"),
        "{seen}"
    );
    Ok(())
}

fn connect(lab: &Lab) -> Result<UnixStream> {
    let stream = lab.node.namespace().run(|| UnixStream::connect(SOCKET))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

const QUESTION: &[u8] = b"GET /v1/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn two_hundred_clients_and_stuck_ones_are_served_side_by_side() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    // One that says half a question, and one that never reads its answers.
    let mut half = connect(&lab)?;
    half.write_all(b"GET /v1/serv")?;
    let mut deaf = connect(&lab)?;
    deaf.set_nonblocking(true)?;
    let endless = b"GET /v1/services HTTP/1.1\r\nHost: x\r\n\r\n";
    while deaf.write(endless).is_ok() {}
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(connect(&lab)?);
    }
    for client in &mut clients {
        client.write_all(QUESTION)?;
    }
    for client in &mut clients {
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.contains("\"name\":\"web\""), "{answer}");
    }
    // Meanwhile it programs, too.
    lab.service("api", 20)?;
    wait::until("the new service is shown", || {
        let said = ask(&mut lab, &["get", "services", "api"]).ok()?;
        (said.code == Some(0)).then_some(())
    })
}

#[test]
fn the_socket_is_for_root_and_its_group() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let mode = lab.node.namespace().run(|| {
        let found = std::fs::metadata(SOCKET)?;
        Ok(std::os::unix::fs::PermissionsExt::mode(
            &found.permissions(),
        ))
    })?;
    assert_eq!(mode & 0o777, 0o660);
    let mut client = connect(&lab)?;
    client.write_all(b"GET /v2/services HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(answer.contains("every path begins with /v1/"), "{answer}");
    Ok(())
}
