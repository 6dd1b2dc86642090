//! What `clusterip plan` says of clients outside, beside what they get.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, bail, ensure};
use clusterip_tests::{
    Namespace, agent, client, lab, manifests, manifests::Service, require_root, wait,
};
use serde_json::Value;

use crate::{
    external::{SPEC, lead},
    stage::{SOME, SOON, Stage, in_both_modes},
};

/// Services beside the stage's own: name, number, whose pods, and the node port of each. Of the policy Local.
const OTHERS: [(&str, u8, &str, u16); 3] = [
    ("here", 20, "web", 30_120),
    ("there", 21, "far", 30_121),
    ("nowhere", 22, "empty", 30_122),
];

/// A frontend as `plan -o json` has it.
#[derive(Debug)]
struct Planned {
    service: String,
    to: SocketAddr,
    protocol: String,
    kind: String,
    scope: String,
    action: String,
    pods: BTreeSet<String>,
}

impl Planned {
    fn of(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name)?.as_str().map(ToOwned::to_owned);
        let port = u16::try_from(value.get("port")?.as_u64()?).ok()?;
        let address: IpAddr = text("address")?.parse().ok()?;
        let backends = value.get("backends")?.as_array()?.iter();
        let pods = backends.map(|it| pod(it.get("address")?.as_str()?.parse().ok()?));
        Some(Self {
            service: text("service")?,
            to: SocketAddr::new(address, port),
            protocol: text("protocol")?,
            kind: text("kind")?,
            scope: text("scope")?,
            action: text("action")?,
            pods: pods.collect::<Option<_>>()?,
        })
    }
}

/// Which pod has an address: that of its number.
fn pod(address: IpAddr) -> Option<String> {
    let number = match address {
        IpAddr::V4(ip) => ip.octets().last().copied().map(u16::from),
        IpAddr::V6(ip) => ip.segments().last().copied(),
    };
    number.map(|number| format!("web-{number}"))
}

fn plan(stage: &Stage) -> Result<Vec<Planned>> {
    let agent = stage.lab.agent.as_ref().context("it was started")?;
    let folder = stage.lab.manifests.path().display().to_string();
    let said = agent.ask(&[
        "plan",
        "--manifests",
        &folder,
        "--node-name",
        manifests::NODE,
        "--service-cidr",
        agent::SERVICE_CIDR,
        "--allow-external-ips=on",
        "-o",
        "json",
    ])?;
    let document: Value = serde_json::from_str(&said.out).with_context(|| said.error.clone())?;
    let all = document.get("frontends").and_then(Value::as_array);
    let all = all.context("frontends")?.iter();
    all.map(|it| Planned::of(it).with_context(|| it.to_string()))
        .collect()
}

/// What a client gets by TCP: who answers, all of them, or how it fails.
fn gets(client: &Namespace, to: SocketAddr) -> io::Result<BTreeSet<String>> {
    client.run(|| {
        let mut pods = BTreeSet::new();
        drop(TcpStream::connect_timeout(&to, SOON)?);
        for _ in 0..SOME {
            pods.insert(client::get(to)?.pod);
        }
        Ok(pods)
    })
}

/// By datagrams, where there is somebody.
fn gets_datagrams(client: &Namespace, to: SocketAddr) -> io::Result<BTreeSet<String>> {
    client.run(|| {
        let answers = (0..SOME).map(|_| client::udp_from(to, "hello"));
        let named = answers.map(|answer| {
            let (text, from) = answer?;
            let pod = text.strip_suffix(" hello");
            let pod = pod.filter(|_| from == to).ok_or(ErrorKind::InvalidData)?;
            Ok(pod.to_owned())
        });
        named.collect()
    })
}

/// Whether a client gets what is planned.
fn is_as_planned(client: &Namespace, planned: &Planned) -> Result<()> {
    let (to, wanted) = (planned.to, &planned.pods);
    let mut last = None;
    let result = wait::until("a client gets what is planned", || {
        let got = match planned.protocol.as_str() {
            "TCP" => gets(client, to),
            // How a datagram is refused is shown elsewhere.
            _ if planned.action == "balance" => gets_datagrams(client, to),
            _ => return Some(()),
        };
        let is_it = match (planned.action.as_str(), &got) {
            ("balance", Ok(pods)) => pods == wanted,
            ("reject", Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
            ("drop", Err(error)) => error.kind() == ErrorKind::TimedOut,
            _ => false,
        };
        last = Some(got);
        is_it.then_some(())
    });
    result.with_context(|| format!("{}, {planned:?}: {last:?}", planned.service))
}

/// E2, E3, E6, B7, B8: each frontend of the plan does what the plan says, for clients outside and for pods, and what the plan does not
/// have is nobody's.
#[test]
fn e1_e6_clients_outside_get_what_plan_says_and_nothing_else() -> Result<()> {
    require_root!();
    in_both_modes(SPEC, &["--allow-external-ips=on"], as_planned)
}

fn as_planned(stage: &Stage) -> Result<()> {
    lead(stage)?;
    let far = manifests::pod(&stage.backend, "far", true)
        .replace(manifests::NODE, "node-b")
        .replace("name: web-21\n", "name: far-21\n");
    stage.lab.manifests.put("pod-far-21.yaml", &far)?;
    for (name, number, app, port) in OTHERS {
        let service = Service::new(name, &lab::vips(number)).tcp(80, 8080);
        let spec = "type: NodePort\n  externalTrafficPolicy: Local";
        let text = service
            .yaml()
            .replace("type: ClusterIP", spec)
            .replace("port: 80\n", &format!("port: 80\n      nodePort: {port}\n"))
            .replace(&format!("app: {name}"), &format!("app: {app}"));
        stage
            .lab
            .manifests
            .put(&format!("service-{name}.yaml"), &text)?;
    }
    let planned = plan(stage)?;
    let (outside, inside) = (stage.outside.namespace(), stage.lab.client.namespace());
    let mut seen = BTreeSet::new();
    for it in &planned {
        seen.insert((it.kind.clone(), it.scope.clone(), it.action.clone()));
        match (it.kind.as_str(), it.scope.as_str()) {
            // E1
            ("ClusterIP", _) => {
                is_as_planned(inside, it)?;
                if it.protocol == "TCP" {
                    stage.is_dropped(it.to, "from-outside")?;
                }
            }
            // E3: what pods get where that is something else.
            (_, "internal") => is_as_planned(inside, it)?,
            (_, "external") => is_as_planned(outside, it)?,
            other => bail!("{other:?}: {it:?}"),
        }
    }
    // There was something of everything.
    for kind in ["NodePort", "LoadBalancer", "ExternalIP"] {
        let found = (kind.to_owned(), "external".to_owned(), "balance".to_owned());
        ensure!(seen.contains(&found), "{seen:?}");
    }
    for action in ["reject", "drop"] {
        let found = (
            "NodePort".to_owned(),
            "external".to_owned(),
            action.to_owned(),
        );
        ensure!(seen.contains(&found), "{seen:?}");
    }
    let found = (
        "NodePort".to_owned(),
        "internal".to_owned(),
        "balance".to_owned(),
    );
    ensure!(seen.contains(&found), "{seen:?}");
    nobody_else(stage, &planned)
}

/// What is not in the plan opens no flow: the next port, the pods' own port, and each one's port at the other addresses.
fn nobody_else(stage: &Stage, planned: &[Planned]) -> Result<()> {
    let external = || planned.iter().filter(|it| it.kind != "ClusterIP");
    let taken: BTreeSet<SocketAddr> = external().map(|it| it.to).collect();
    let addresses: BTreeSet<IpAddr> = taken.iter().map(SocketAddr::ip).collect();
    let mut ports: BTreeSet<u16> = taken.iter().map(SocketAddr::port).collect();
    ports.extend(taken.iter().map(|to| to.port() + 500));
    ports.insert(8080);
    let flows = stage.outcome("new-flow");
    for (ip, port) in addresses
        .iter()
        .flat_map(|ip| ports.iter().map(move |port| (*ip, *port)))
    {
        let to = SocketAddr::new(ip, port);
        if !taken.contains(&to) {
            let got = stage
                .outside
                .namespace()
                .run(|| TcpStream::connect_timeout(&to, SOON));
            got.err().with_context(|| format!("{to} is not planned"))?;
        }
    }
    ensure!(stage.outcome("new-flow") == flows, "no flow was opened");
    Ok(())
}
