//! A flood, and those who talk meanwhile. By itself: it takes all the machine there is.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    client::Connection,
    flood,
    lab::{self, Lab},
    require_root,
};

/// Connections that talk while the flood goes on, and how large it is.
const CONNECTIONS: usize = 1_000;
const SYNS: u32 = 5_000_000;

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
