//! Clients from outside the cluster, at a node port and at a load balancer's address: one node with an agent, a second one with a
//! backend, and a machine outside.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Caller, Cgroup, Node, Outside, Pod, Server, caller, client,
    lab::{self, Lab, PORTS, spec},
    manifests,
    outside::as_a_card,
    require_root, wait,
};

/// The node's devices to the client, and to the other node.
pub(crate) const UPLINK: &str = "up0";
pub(crate) const BETWEEN: &str = "up1";
/// As the manifests have them.
pub(crate) const TCP_PORT: u16 = 30_080;
pub(crate) const UDP_PORT: u16 = 30_053;
/// Addresses of the load balancer: nobody has them.
const BALANCER: [&str; 2] = ["203.0.113.10", "2001:db8:113::a"];
/// Requests that reach everybody.
const SOME: usize = 8;
/// How long a connection that is dropped is waited for.
pub(crate) const SOON: Duration = Duration::from_millis(300);

/// Two nodes that route each other's pods, one of them with an agent, and a machine outside that knows of no pods.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) outside: Outside,
    _server: Server,
    _backend: Pod,
    pub(crate) far: Node,
    cgroup: Cgroup,
    /// Whether what is for the other node goes on at the drivers of the uplinks.
    pub(crate) at_driver: bool,
    /// Of the agent's call.
    pub(crate) arguments: Vec<String>,
}

/// The values of `--uplink-mode` that serve.
pub(crate) const MODES: [&str; 2] = ["tc", "auto"];

/// Does something on a stage of each mode.
pub(crate) fn in_both_modes(
    more: &str,
    arguments: &[&str],
    act: impl Fn(&Stage) -> Result<()>,
) -> Result<()> {
    for mode in MODES {
        let arguments = [&["--uplink-mode", mode], arguments].concat();
        let stage = Stage::with(more, &arguments)?;
        act(&stage).with_context(|| format!("--uplink-mode {mode}"))?;
    }
    Ok(())
}

impl Stage {
    /// Backends `web-11` here and `web-21` there; `more` are further lines of the service's specification.
    pub(crate) fn new(more: &str) -> Result<Self> {
        Self::with(more, &[])
    }

    /// As above, with further arguments of the agent.
    pub(crate) fn with(more: &str, arguments: &[&str]) -> Result<Self> {
        let mut lab = Lab::new()?;
        let outside = Outside::join(&lab.node, UPLINK, 1)?;
        lab.backend("web", 11)?;
        let far = Node::anonymous()?;
        let backend = far.pod(&spec("web-21", 21))?;
        let server = Server::start(&backend, &PORTS)?;
        // 172.20.9.0/24 lies between them.
        lab.node.namespace().ip(&format!(
            "link add name {BETWEEN} type veth peer name up0 netns {}\n\
             addr add 172.20.9.1/24 dev {BETWEEN}\nlink set dev {BETWEEN} up\n\
             addr add fd00:c0:9::1/64 dev {BETWEEN} nodad\n",
            far.namespace().path().display()
        ))?;
        // The way back to the client's network leads elsewhere: an answer that is not by way of this node is lost.
        far.namespace().ip(
            "addr add 172.20.9.2/24 dev up0\naddr add fd00:c0:9::2/64 dev up0 nodad\nlink set dev up0 up\n\
             route add 10.244.0.2/32 via 172.20.9.1\nroute add fd00:10:244::2/128 via fd00:c0:9::1\n\
             route add 172.20.1.1/32 via 172.20.9.1\nroute add fd00:c0:1::1/128 via fd00:c0:9::1\n",
        )?;
        lab.node.namespace().ip(
            "route add 10.244.0.21/32 via 172.20.9.2\nroute add fd00:10:244::15/128 via fd00:c0:9::2\n",
        )?;
        outside.namespace().ip(&format!(
            "route add {}/32 via {}\nroute add {}/128 via {}\n",
            BALANCER[0],
            Outside::node_addresses(1)[0],
            BALANCER[1],
            Outside::node_addresses(1)[1],
        ))?;
        if arguments.contains(&"auto") {
            outside.as_a_card()?;
            as_a_card(far.namespace(), "up0")?;
        }
        let pod = manifests::pod(&backend, "web", true).replace(manifests::NODE, "node-b");
        lab.manifests.put("pod-web-21.yaml", &pod)?;
        let cgroup = Cgroup::new()?;
        let mut stage = Self {
            lab,
            outside,
            _server: server,
            _backend: backend,
            far,
            cgroup,
            at_driver: arguments.contains(&"auto"),
            arguments: Vec::new(),
        };
        stage.node_object()?;
        stage.service(more)?;
        let path = stage.cgroup.path().display().to_string();
        let own = [
            "--node-name",
            manifests::NODE,
            "--uplinks",
            "up*",
            "--pod-cidr",
            "10.244.0.0/16,fd00:10:244::/48",
            "--socket-lb",
            "host",
            "--cgroup",
            &path,
        ];
        let arguments = [&own[..], arguments].concat();
        stage.lab.start_with(&arguments)?;
        stage.arguments = arguments.iter().map(ToString::to_string).collect();
        stage.is_attached()?;
        Ok(stage)
    }

    /// Waits until both uplinks are served as they are to be.
    pub(crate) fn is_attached(&self) -> Result<()> {
        let wanted = if self.at_driver { "serves" } else { "none" };
        for name in [UPLINK, BETWEEN] {
            wait::until(&format!("{name} has at its driver: {wanted}"), || {
                let agent = self.lab.agent.as_ref()?;
                let said = agent.ask(&["get", "interfaces", name, "-o", "json"]).ok()?;
                let document: serde_json::Value = serde_json::from_str(&said.out).ok()?;
                let driver = document.pointer("/interfaces/0/driver")?.as_str()?;
                driver.starts_with(wanted).then_some(())
            })?;
        }
        Ok(())
    }

    /// Packets that left by a driver; by TC alone none can.
    pub(crate) fn sent_at_drivers(&self) -> u64 {
        let agent = self.lab.agent.as_ref();
        let metrics = agent.and_then(|agent| agent.metrics().ok());
        metrics.map_or(0, |metrics| metrics.forwarded("driver"))
    }

    /// What is for the other node has gone on at drivers since then, if this is a stage of drivers, and else nothing has.
    pub(crate) fn went_by_drivers(&self, before: u64) -> Result<()> {
        let after = self.sent_at_drivers();
        ensure!(
            (after > before) == self.at_driver,
            "{before} packets sent at drivers before, {after} now"
        );
        Ok(())
    }

    /// The node's own object, with the addresses towards the client.
    fn node_object(&self) -> Result<()> {
        let [v4, v6] = Outside::node_addresses(1);
        let text = format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\nstatus:\n  addresses:\n\
             \x20   - type: InternalIP\n      address: \"{v4}\"\n    - type: InternalIP\n      address: \"{v6}\"\n",
            manifests::NODE
        );
        self.lab.manifests.put("node.yaml", &text)
    }

    fn service(&self, more: &str) -> Result<()> {
        let service = manifests::Service::new("web", &lab::vips(10))
            .tcp(80, 8080)
            .udp(53, 5353);
        let text = service
            .yaml()
            .replace(
                "  type: ClusterIP\n",
                &format!("  type: LoadBalancer\n{more}"),
            )
            .replace(
                "port: 80\n",
                &format!("port: 80\n      nodePort: {TCP_PORT}\n"),
            )
            .replace(
                "port: 53\n",
                &format!("port: 53\n      nodePort: {UDP_PORT}\n"),
            );
        let status = format!(
            "status:\n  loadBalancer:\n    ingress:\n    - ip: {}\n    - ip: \"{}\"\n",
            BALANCER[0], BALANCER[1]
        );
        self.lab
            .manifests
            .put("service-web.yaml", &format!("{text}{status}"))
    }

    /// Who answers by a way, and whom that one takes for its client.
    fn answers(
        &self,
        to: SocketAddr,
        get: impl Fn(SocketAddr) -> io::Result<client::Answer> + Sync,
    ) -> Option<(BTreeSet<String>, BTreeSet<IpAddr>)> {
        let answers: io::Result<Vec<client::Answer>> = (0..SOME)
            .map(|_| self.outside.namespace().run(|| get(to)))
            .collect();
        let answers = answers.ok()?;
        let pods = answers.iter().map(|it| it.pod.clone()).collect();
        let clients = answers.iter().map(|it| it.client.ip()).collect();
        Some((pods, clients))
    }

    /// Waits until exactly these answer a client outside by TCP, and see it under this address.
    pub(crate) fn is_served(&self, to: SocketAddr, pods: &[&str], seen_as: IpAddr) -> Result<()> {
        let mut last = None;
        let served = wait::until(
            &format!("{to} is answered by {pods:?} to {seen_as}"),
            || {
                last = self.answers(to, client::get);
                let (found, clients) = last.as_ref()?;
                (found.iter().eq(pods) && clients.iter().eq([&seen_as])).then_some(())
            },
        );
        ensure!(served.is_ok(), "{served:?}: {last:?}");
        Ok(())
    }

    /// The same by UDP, of which the answer says who it is from.
    fn answers_datagrams(&self, to: SocketAddr, pods: &[&str]) -> Result<()> {
        wait::until(&format!("{to} answers datagrams"), || {
            let mut found = BTreeSet::new();
            for _ in 0..SOME {
                let ask = || client::udp_from(to, "hello");
                let (answer, from) = self.outside.namespace().run(ask).ok()?;
                found.insert(answer.strip_suffix(" hello")?.to_owned());
                if from != to {
                    return None;
                }
            }
            found.iter().eq(pods).then_some(())
        })
    }

    pub(crate) fn outcome(&self, name: &str) -> u64 {
        let metrics = self
            .lab
            .agent
            .as_ref()
            .and_then(|agent| agent.metrics().ok());
        metrics.map_or(0, |metrics| metrics.outcome(name))
    }

    /// Sends SYNs until they are counted as this outcome.
    pub(crate) fn is_dropped(&self, to: SocketAddr, outcome: &str) -> Result<()> {
        let before = self.outcome(outcome);
        wait::until(&format!("{to} is dropped: {outcome}"), || {
            let open = || TcpStream::connect_timeout(&to, SOON);
            self.outside.namespace().run(open).err()?;
            (self.outcome(outcome) > before).then_some(())
        })
    }
}

pub(crate) fn balancers(port: u16) -> [SocketAddr; 2] {
    BALANCER.map(|ip| SocketAddr::new(ip.parse().expect("an address"), port))
}

pub(crate) fn node_ports(port: u16) -> [SocketAddr; 2] {
    Outside::node_addresses(1).map(|ip| SocketAddr::new(ip, port))
}

/// E1
#[test]
fn e2_the_cluster_policy_reaches_all_and_hides_the_client() -> Result<()> {
    require_root!();
    in_both_modes("", &[], cluster_policy)
}

fn cluster_policy(stage: &Stage) -> Result<()> {
    let both = ["web-11", "web-21"];
    let nodes = Outside::node_addresses(1);
    let before = stage.sent_at_drivers();
    for (to, node) in node_ports(TCP_PORT).into_iter().zip(nodes) {
        stage.is_served(to, &both, node)?;
    }
    for (to, node) in balancers(80).into_iter().zip(nodes) {
        stage.is_served(to, &both, node)?;
    }
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        stage.answers_datagrams(to, &both)?;
    }
    stage.went_by_drivers(before)?;
    // E1: that is no way to the address inside.
    for to in lab::tcp(10) {
        stage.is_dropped(to, "from-outside")?;
    }
    Ok(())
}

/// E3
#[test]
fn e2_b8_the_local_policy_keeps_the_client_and_to_its_own_pods() -> Result<()> {
    require_root!();
    in_both_modes("  externalTrafficPolicy: Local\n", &[], local_policy)
}

fn local_policy(stage: &Stage) -> Result<()> {
    let clients = stage.outside.addresses();
    for ways in [node_ports(TCP_PORT), balancers(80)] {
        for (to, client) in ways.into_iter().zip(clients) {
            stage.is_served(to, &["web-11"], client)?;
        }
    }
    for to in node_ports(UDP_PORT).into_iter().chain(balancers(53)) {
        stage.answers_datagrams(to, &["web-11"])?;
    }
    // E3: a pod reaches all of them by the same addresses.
    for to in node_ports(TCP_PORT).into_iter().chain(balancers(80)) {
        wait::until("a pod reaches both", || {
            let answers = (0..SOME).map(|_| Some(stage.lab.client.get(to).ok()?.pod));
            let pods: BTreeSet<String> = answers.collect::<Option<_>>()?;
            pods.iter().eq(["web-11", "web-21"]).then_some(())
        })?;
    }
    stage.lab.ready("web-11", false)?;
    for to in node_ports(TCP_PORT) {
        stage.is_dropped(to, "no-local-endpoint")?;
    }
    Ok(())
}

#[test]
fn e4_source_ranges_guard_the_load_balancer_alone() -> Result<()> {
    require_root!();
    let ranges = "  loadBalancerSourceRanges: [\"198.51.100.0/24\", \"2001:db8:51::/48\"]\n";
    in_both_modes(ranges, &[], source_ranges)
}

fn source_ranges(stage: &Stage) -> Result<()> {
    let both = ["web-11", "web-21"];
    for (to, node) in node_ports(TCP_PORT)
        .into_iter()
        .zip(Outside::node_addresses(1))
    {
        stage.is_served(to, &both, node)?;
    }
    for to in balancers(80) {
        stage.is_dropped(to, "source-range")?;
        // For pods as well.
        stage
            .lab
            .client
            .run(|| TcpStream::connect_timeout(&to, SOON))
            .expect_err("a pod is none of the clients");
    }
    let [v4, v6] = stage.outside.addresses();
    stage.service(&format!(
        "  loadBalancerSourceRanges: [\"{v4}/32\", \"{v6}/128\"]\n"
    ))?;
    for (to, node) in balancers(80).into_iter().zip(Outside::node_addresses(1)) {
        stage.is_served(to, &both, node)?;
    }
    Ok(())
}

/// E7
#[test]
fn e7_a_load_balancer_is_told_how_many_endpoints_the_node_has() -> Result<()> {
    require_root!();
    let spec = "  externalTrafficPolicy: Local\n  healthCheckNodePort: 30500\n";
    in_both_modes(spec, &[], health_checks)
}

fn health_checks(stage: &Stage) -> Result<()> {
    let asked = |to: SocketAddr, status: u16, count: usize| {
        wait::until(&format!("{to} says {status} with {count}"), || {
            let ask = || client::Connection::open(to)?.http("/");
            let answer = stage.outside.namespace().run(ask).ok()?;
            let body: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
            let weight = answer.header("x-load-balancing-endpoint-weight")?;
            let is_it = answer.status == status
                && weight == count.to_string()
                && body.pointer("/localEndpoints")? == count
                && body.pointer("/service/name")? == "web"
                && body.pointer("/serviceProxyHealthy")? == true;
            is_it.then_some(())
        })
    };
    for to in node_ports(30_500) {
        asked(to, 200, 1)?;
    }
    stage.lab.ready("web-11", false)?;
    for to in node_ports(30_500) {
        asked(to, 503, 0)?;
    }
    stage.service("")?;
    for to in node_ports(30_500) {
        wait::until("the port is closed", || {
            let error = stage.outside.namespace().run(|| client::get(to)).err()?;
            (error.kind() == io::ErrorKind::ConnectionRefused).then_some(())
        })?;
    }
    Ok(())
}

/// The program that makes the calls.
fn program() -> OsString {
    caller::program(env!("CARGO_BIN_EXE_caller"))
}

#[test]
fn e3_e6_the_nodes_own_processes_reach_node_ports_by_every_address_of_the_node() -> Result<()> {
    require_root!();
    in_both_modes("  externalTrafficPolicy: Local\n", &[], own_processes)
}

fn own_processes(stage: &Stage) -> Result<()> {
    let mut host = Caller::start(program(), stage.lab.node.namespace(), &stage.cgroup)?;
    let loopback = ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| ip.parse().expect("an address"));
    let ways = loopback
        .into_iter()
        .chain(Outside::node_addresses(1))
        .map(|ip| SocketAddr::new(ip, TCP_PORT));
    for to in ways.chain(balancers(80)) {
        let mut found = BTreeSet::new();
        for _ in 0..SOME {
            let called = host
                .tcp(to)
                .with_context(|| format!("a process calls {to}"))?;
            found.insert(called.pod);
        }
        ensure!(found.iter().eq(["web-11", "web-21"]), "{to}: {found:?}");
    }
    // E6: from elsewhere nobody has that address.
    for ip in loopback {
        let to = SocketAddr::new(ip, TCP_PORT);
        let error = stage.lab.client.get(to).expect_err("a pod's own loopback");
        ensure!(
            error.kind() == io::ErrorKind::ConnectionRefused,
            "{to}: {error}"
        );
    }
    Ok(())
}

#[test]
fn e2_f4_connections_from_outside_survive_the_agent() -> Result<()> {
    require_root!();
    for mode in MODES {
        let stage = Stage::with("", &["--uplink-mode", mode])?;
        survival(stage).with_context(|| format!("--uplink-mode {mode}"))?;
    }
    Ok(())
}

fn survival(mut stage: Stage) -> Result<()> {
    let mut open = Vec::new();
    for to in node_ports(TCP_PORT).into_iter().chain(balancers(80)) {
        stage.is_served(
            to,
            &["web-11", "web-21"],
            match to.ip() {
                IpAddr::V4(_) => Outside::node_addresses(1)[0],
                IpAddr::V6(_) => Outside::node_addresses(1)[1],
            },
        )?;
        for _ in 0..2 {
            let connect = || {
                let mut connection = client::Connection::open(to)?;
                let pod = connection.get()?.pod;
                Ok((connection, pod))
            };
            open.push(stage.outside.namespace().run(connect)?);
        }
    }
    stage.lab.agent()?.kill();
    for (connection, pod) in &mut open {
        ensure!(connection.get()?.pod == *pod);
    }
    let new = || client::get(node_ports(TCP_PORT)[0]);
    stage.outside.namespace().run(new)?;
    stage.lab.agent()?.resume()?;
    for (connection, pod) in &mut open {
        ensure!(connection.get()?.pod == *pod);
    }
    stage.outside.namespace().run(new)?;
    Ok(())
}
