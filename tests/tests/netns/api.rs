//! The agent's API and the commands that read it, with a running agent.

use std::{
    io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    agent::{self, Said},
    client::Connection,
    lab::{self, Lab},
    process::{self, Process},
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
    let said = ask(&mut lab, &["get", "services", "-n", "defualt"])?;
    assert_eq!(
        (said.code, said.out.as_str()),
        (
            Some(0),
            "no services in namespace defualt; did you mean -n default?\n"
        )
    );
    let said = ask(&mut lab, &["get", "interfaces", "vethCLEINT"])?;
    assert_eq!(
        (said.code, said.error.as_str()),
        (
            Some(1),
            "error: no interface vethCLEINT has hooks; did you mean vethCLIENT?\n"
        )
    );
    let text = table(&mut lab, &["get", "interfaces", "vethCLIENT", "-A"])?;
    assert_eq!(text.lines().count(), 2, "{text}");
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
fn three_hundred_clients_and_stuck_ones_are_served_side_by_side() -> Result<()> {
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
    // More than have a place at once: the last ones wait until others have gone.
    for _ in 0..300 {
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

#[test]
fn flows_are_paged_and_their_number_is_told() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let [to, _] = lab::tcp(10);
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut connection = lab.client.run(|| Connection::open(to))?;
        connection.get()?;
        kept.push(connection);
    }
    let whole = table(&mut lab, &["get", "flows", "web"])?;
    let flows: Vec<&str> = whole.lines().skip(1).collect();
    assert_eq!(flows.len(), 5, "{whole}");
    let mut pages = Vec::new();
    for (offset, more) in [
        ("0", "3 more flows: --offset 2"),
        ("2", "1 more flows: --offset 4"),
        ("4", ""),
    ] {
        let said = ask(
            &mut lab,
            &["get", "flows", "web", "--limit", "2", "--offset", offset],
        )?;
        assert!(said.error.starts_with(more), "{said:?}");
        assert_eq!(said.error.is_empty(), more.is_empty(), "{said:?}");
        pages.extend(said.out.lines().skip(1).map(|line| words(line, &[3, 5])));
    }
    let clients: Vec<_> = flows.iter().map(|line| words(line, &[3, 5])).collect();
    assert_eq!(pages, clients, "no flow is left out, none is listed twice");
    Ok(())
}

/// A command that goes on, and the lines it prints.
fn watch(lab: &Lab, arguments: &[&str]) -> Result<(Process, BufReader<PipeReader>)> {
    let (reader, writer) = std::io::pipe()?;
    let mut command = lab.node.namespace().command(agent::binary()?);
    command.args(arguments).stdout(writer);
    let process = process::spawn(command)?;
    Ok((process, BufReader::new(reader)))
}

fn until_line(lines: &mut BufReader<PipeReader>, wanted: &str) -> Result<String> {
    let mut seen = String::new();
    while !seen.contains(wanted) {
        let length = lines.read_line(&mut seen)?;
        ensure!(length > 0, "it ended before {wanted:?}\n{seen}");
    }
    Ok(seen)
}

#[test]
fn watches_print_what_changes_and_outlive_the_agent() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let (_services, mut services) = watch(&lab, &["get", "services", "-w"])?;
    let (_endpoints, mut endpoints) = watch(&lab, &["get", "endpoints", "-w"])?;
    let (_flows, mut flows) = watch(&lab, &["get", "flows", "-w"])?;
    let (_documents, mut documents) = watch(&lab, &["get", "interfaces", "-w", "-o", "json"])?;
    until_line(&mut services, "web ")?;
    until_line(&mut endpoints, "10.244.0.12:8080")?;
    until_line(&mut documents, "vethCLIENT")?;
    lab.client.get(lab::tcp(10)[0])?;
    until_line(&mut flows, "10.96.0.10:80")?;
    lab.agent()?.stop()?;
    lab.agent()?.resume()?;
    lab.service("api", 20)?;
    lab.backend("api", 21)?;
    let seen = until_line(&mut services, "api ")?;
    assert!(!seen.contains("web "), "only what changed\n{seen}");
    until_line(&mut endpoints, "10.244.0.21:8080")?;
    until_line(&mut documents, "vethAPI21")?;
    Ok(())
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() -> Result<()> {
    require_root!();
    let lab = lab()?;
    for arguments in [
        &["get", "services", "-o", "json"][..],
        &["get", "endpoints", "-A"],
        &["status"],
        &["doctor"],
        &["top", "--once"],
        &["completion", "bash"],
        &["man"],
    ] {
        let mut command = lab.node.namespace().command(agent::binary()?);
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output = command.args(arguments).stdout(writer).output()?;
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert!(
            matches!(output.status.code(), Some(0 | 1)),
            "{arguments:?}: {output:?}"
        );
    }
    let (mut watching, mut lines) = watch(&lab, &["get", "services", "-w"])?;
    until_line(&mut lines, "web ")?;
    drop(lines);
    lab.service("api", 20)?;
    let status = wait::until("it ends when it has something to say", || {
        watching.ended().ok().flatten()
    })?;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[test]
fn who_may_not_use_the_socket_is_told_so() -> Result<()> {
    require_root!();
    let lab = lab()?;
    // Somebody else's socket, and a root that may not do everything.
    let node = lab.node.namespace();
    node.run(|| std::os::unix::fs::chown(SOCKET, Some(12_345), Some(12_345)))?;
    let mut command = node.command("setpriv");
    command.arg("--bounding-set=-all").arg(agent::binary()?);
    let output = command.args(["status", "--brief"]).output()?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: the socket /run/clusterip/agent.sock is not for this user: be root, or of the group that owns it\n"
    );
    Ok(())
}
