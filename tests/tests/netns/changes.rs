//! Services and pods that come, change and go under traffic.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Pod,
    client::{self, Connection},
    lab::{self, Lab},
    require_root, wait,
};

/// Asks a service port without pause while `work` is done: every request must be answered.
pub(crate) fn under_traffic<T>(
    client: &Pod,
    to: SocketAddr,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let done = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let asking = || {
        client.run(|| {
            while !done.load(Ordering::Relaxed) {
                client::get(to)?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    };
    thread::scope(|scope| {
        let traffic = scope.spawn(asking);
        let moved = |least: u64| {
            let goal = count.load(Ordering::Relaxed) + least;
            wait::until("requests are answered", || {
                (count.load(Ordering::Relaxed) >= goal || traffic.is_finished()).then_some(())
            })
        };
        let result = moved(20).and_then(|()| work());
        let result = result.and_then(|value| moved(20).map(|()| value));
        done.store(true, Ordering::Relaxed);
        let asked = traffic
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        asked.with_context(|| format!("request {} to {to}", count.load(Ordering::Relaxed)))?;
        result
    })
}

/// Who answers a number of requests in a row.
fn answering(client: &Pod, to: SocketAddr, requests: usize) -> io::Result<BTreeSet<String>> {
    client.run(|| (0..requests).map(|_| Ok(client::get(to)?.pod)).collect())
}

/// Waits until exactly these answer.
pub(crate) fn until_answering(client: &Pod, to: SocketAddr, pods: &[&str]) -> Result<()> {
    let wanted: BTreeSet<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
    let mut last = None;
    let found = wait::until(&format!("{wanted:?} answer at {to}"), || {
        last = Some(answering(client, to, 4 * pods.len()));
        matches!(&last, Some(Ok(found)) if *found == wanted).then_some(())
    });
    found.with_context(|| format!("last: {last:?}"))
}

#[test]
fn a_service_is_added_changed_and_removed_under_traffic() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in [11, 12, 13] {
        lab.backend("web", number)?;
    }
    for number in [21, 22] {
        lab.backend("api", number)?;
    }
    lab.start()?;
    for (web, api) in lab::tcp(10).into_iter().zip(lab::tcp(20)) {
        under_traffic(&lab.client, web, || {
            lab.client
                .get(api)
                .expect_err("there is no such service yet");
            lab.service("api", 20)?;
            until_answering(&lab.client, api, &["api-21", "api-22"])?;

            lab.ready("api-21", false)?;
            until_answering(&lab.client, api, &["api-22"])?;
            lab.ready("api-21", true)?;
            until_answering(&lab.client, api, &["api-21", "api-22"])?;

            lab.manifests.remove("service-api.yaml")?;
            wait::until("the service is gone", || lab.client.get(api).err())?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn backends_come_and_go_without_a_failed_request() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in [11, 12, 13] {
        lab.backend("web", number)?;
    }
    lab.start()?;
    for to in lab::tcp(10) {
        under_traffic(&lab.client, to, || {
            lab.ready("web-11", false)?;
            until_answering(&lab.client, to, &["web-12", "web-13"])?;
            lab.ready("web-11", true)?;
            lab.ready("web-12", false)?;
            until_answering(&lab.client, to, &["web-11", "web-13"])?;
            lab.ready("web-12", true)?;
            until_answering(&lab.client, to, &["web-11", "web-12", "web-13"])
        })?;
    }
    Ok(())
}

#[test]
fn c1_a_connection_outlives_the_readiness_of_its_backend() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    for to in lab::tcp(10) {
        let mut connection = lab.client.run(|| Connection::open(to))?;
        let pod = connection.get()?.pod;
        let other = if pod == "web-11" { "web-12" } else { "web-11" };
        lab.ready(&pod, false)?;
        until_answering(&lab.client, to, &[other])?;
        assert_eq!(connection.get()?.pod, pod);
        lab.ready(&pod, true)?;
        until_answering(&lab.client, to, &["web-11", "web-12"])?;
        assert_eq!(connection.get()?.pod, pod);
    }
    Ok(())
}

#[test]
fn c8_a_udp_flow_moves_when_its_backend_leaves() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    for to in lab::udp(10) {
        let socket = lab.client.run(|| client::udp_flow(to))?;
        let pod = client::udp_ask(&socket, "one")?;
        lab.ready(&pod, false)?;
        let moved = wait::until("the flow moves", || {
            client::udp_ask(&socket, "two")
                .ok()
                .filter(|answer| *answer != pod)
        })?;
        lab.ready(&pod, true)?;
        for to in lab::tcp(10) {
            until_answering(&lab.client, to, &["web-11", "web-12"])?;
        }
        assert_eq!(
            client::udp_ask(&socket, "three")?,
            moved,
            "it stays where it serves"
        );
    }
    Ok(())
}

#[test]
fn c9_a_refused_udp_flow_works_as_soon_as_there_is_an_endpoint() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.start()?;
    let sockets: Vec<_> = lab.client.run(|| {
        lab::udp(10)
            .into_iter()
            .map(client::udp_flow)
            .collect::<io::Result<_>>()
    })?;
    for socket in &sockets {
        let error = client::udp_ask(socket, "one").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
    lab.backend("web", 11)?;
    for socket in &sockets {
        let pod = wait::until("the flow is served", || client::udp_ask(socket, "two").ok())?;
        assert_eq!(pod, "web-11");
    }
    Ok(())
}

#[test]
fn a_pod_whose_interface_comes_later_is_client_and_backend() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start()?;
    lab.backend("web", 12)?;
    for to in lab::tcp(10) {
        until_answering(&lab.client, to, &["web-11", "web-12"])?;
    }
    let late = lab.node.pod(&lab::spec("late", 13))?;
    for to in lab::tcp(10) {
        until_answering(&late, to, &["web-11", "web-12"])?;
    }
    Ok(())
}

#[test]
fn c10_a_service_that_is_made_again_gets_no_old_flow() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("api", 21)?;
    lab.start()?;
    let to = lab::udp(10)[0];
    let socket = lab.client.run(|| client::udp_flow(to))?;
    assert_eq!(client::udp_ask(&socket, "one")?, "web-11");
    // The same address, another service.
    lab.manifests.remove("service-web.yaml")?;
    let api = clusterip_tests::manifests::Service::new("api", &lab::vips(10)).udp(53, 5353);
    lab.manifests.put("service-api.yaml", &api.yaml())?;
    let pod = wait::until("the new service serves the flow", || {
        client::udp_ask(&socket, "two")
            .ok()
            .filter(|pod| pod != "web-11")
    })?;
    assert_eq!(pod, "api-21");
    Ok(())
}
