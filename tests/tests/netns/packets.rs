//! Packets that are more than a plain segment, over real links: pieces, and flows that look alike.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    client::{self, Connection},
    flood,
    lab::{self, Lab, vips},
    manifests::Service,
    require_root,
};

/// Connections that talk while the flood goes on, and how large it is.
const CONNECTIONS: usize = 1_000;
const SYNS: u32 = 5_000_000;
/// More than twice the links' MTU: each way takes three pieces.
const LARGE: usize = 4_000;

#[test]
fn d6_a_datagram_in_pieces_arrives_whole_and_so_does_its_answer() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start()?;
    let text: String = ('a'..='z').cycle().take(LARGE).collect();
    for to in lab::udp(10) {
        for _ in 0..10 {
            let (answer, from) = lab.client.run(|| client::udp_from(to, &text))?;
            ensure!(from == to, "the answer to {to} came from {from}");
            ensure!(
                answer.ends_with(&text),
                "{} bytes came back from {to}",
                answer.len()
            );
        }
    }
    Ok(())
}

#[test]
fn c12_one_client_port_to_two_services_with_one_backend_is_two_flows() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    // The same pods and the same target port under another address.
    let other = Service::new("other", &vips(20)).udp(53, 5353).yaml();
    lab.manifests
        .put("other.yaml", &other.replace("app: other", "app: web"))?;
    lab.start()?;
    for (one, two) in lab::udp(10).into_iter().zip(lab::udp(20)) {
        let any = if one.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let any: SocketAddr = any.parse()?;
        let answers = lab.client.run(|| {
            let socket = client::udp_at(any)?;
            let mut answers = Vec::new();
            for round in 0..10 {
                for to in [one, two] {
                    let text = format!("{to} {round}");
                    answers.push((to, text.clone(), client::udp_ask_at(&socket, to, &text)?));
                }
            }
            Ok(answers)
        })?;
        for (to, text, (answer, from)) in answers {
            ensure!(from == to, "the answer to {to} came from {from}");
            ensure!(answer.ends_with(&text), "{answer:?} to {text:?}");
        }
    }
    Ok(())
}

/// What no route leads to: what is sent there costs nobody anything but a half-open flow.
const SINK: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: sink
spec:
  clusterIP: 10.96.0.30
  ports:
    - port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: sink
  labels:
    kubernetes.io/service-name: sink
addressType: IPv4
ports:
  - port: 80
endpoints:
  - addresses: [10.255.0.1]
";

#[test]
fn c13_five_million_syns_break_none_of_a_thousand_connections() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("flood", 12)?;
    lab.manifests.put("sink.yaml", SINK)?;
    lab.start()?;
    let [to, _] = lab::tcp(10);
    let open = || {
        (0..CONNECTIONS)
            .map(|_| Connection::open(to))
            .collect::<io::Result<Vec<_>>>()
    };
    let mut connections = lab.client.run(open)?;
    let flood = lab.pod("flood-12")?;
    let sink = SocketAddrV4::new(Ipv4Addr::new(10, 96, 0, 30), 80);
    let rounds = thread::scope(|scope| -> Result<u32> {
        let floods = [0, 1].map(|part| {
            scope.spawn(move || flood.run(|| flood::syns(sink, part * SYNS / 2, SYNS / 2)))
        });
        let mut rounds = 0;
        // They talk all the while, and once more when it is over.
        loop {
            let is_last = floods.iter().all(thread::ScopedJoinHandle::is_finished);
            for connection in &mut connections {
                connection.get().context("a connection under the flood")?;
            }
            rounds += 1;
            if is_last {
                break;
            }
        }
        for flood in floods {
            flood
                .join()
                .map_err(|_panic| anyhow::anyhow!("the flood panicked"))??;
        }
        Ok(rounds)
    })?;
    let opened = lab.agent()?.metrics()?.outcome("new-flow");
    ensure!(rounds > 1, "the connections did not talk during the flood");
    ensure!(
        opened > u64::from(SYNS) * 9 / 10,
        "only {opened} of {SYNS} SYNs opened a flow"
    );
    Ok(())
}
