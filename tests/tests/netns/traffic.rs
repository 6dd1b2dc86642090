//! Requests to services over real links.

use std::{io, net::SocketAddr};

use anyhow::Result;
use clusterip_tests::{
    client::{self, Connection},
    lab::{self, Lab, vips},
    manifests::Service,
    metrics::ServicePort,
    require_root,
    server::Protocol,
};

use crate::spread::{assert_even, count, tally, udp_answers, udp_flows};

/// A service `web` with two addresses, two ports and some backends; the agent runs.
fn web(backends: u8) -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in 0..backends {
        lab.backend("web", 11 + number)?;
    }
    lab.start()?;
    Ok(lab)
}

#[test]
fn b1_a_thousand_connections_are_spread_exactly() -> Result<()> {
    require_root!();
    let mut lab = web(3)?;
    let port = ServicePort::new("web", &Service::port_name(Protocol::Tcp, 80), "TCP");
    for to in lab::tcp(10) {
        let before = lab.agent()?.metrics()?;
        let tally = lab
            .client
            .run(|| tally(1000, || Ok(client::get(to)?.pod)))?;
        let after = lab.agent()?.metrics()?;
        assert_even(&tally, 3);
        assert_eq!(
            after.service_flows(&port) - before.service_flows(&port),
            1000,
            "{to}"
        );
        let (before, after) = (before.backend_flows(&port), after.backend_flows(&port));
        for pod in lab.pods().filter(|pod| tally.contains_key(pod.name())) {
            let address = pod.addresses().iter().find(|a| a.is_ipv4() == to.is_ipv4());
            let backend = SocketAddr::new(*address.unwrap(), 8080);
            let counted = after[&backend] - before.get(&backend).copied().unwrap_or(0);
            assert_eq!(counted, tally[pod.name()] as u64, "{backend} of {tally:?}");
        }
    }
    Ok(())
}

#[test]
fn b1_udp_flows_are_spread_exactly_and_stay_where_they_are() -> Result<()> {
    require_root!();
    let lab = web(3)?;
    for to in lab::udp(10) {
        let flows = udp_flows(&lab.client, to, 100)?;
        let first = udp_answers(&flows)?;
        assert_even(&count(&first), 3);
        assert_eq!(udp_answers(&flows)?, first, "a flow keeps its backend");
    }
    Ok(())
}

#[test]
fn c1_an_established_connection_keeps_its_backend() -> Result<()> {
    require_root!();
    let lab = web(3)?;
    for to in lab::tcp(10) {
        let mut connections: Vec<_> = lab.client.run(|| {
            (0..30)
                .map(|_| Connection::open(to))
                .collect::<io::Result<_>>()
        })?;
        let mut ask =
            || -> io::Result<Vec<_>> { connections.iter_mut().map(|c| Ok(c.get()?.pod)).collect() };
        let first = ask()?;
        assert_eq!(first, ask()?);
        assert_eq!(first, ask()?);
    }
    Ok(())
}

#[test]
fn c11_a_reply_carries_the_service_address() -> Result<()> {
    require_root!();
    let lab = web(2)?;
    for to in lab::udp(10) {
        // An unconnected socket takes a reply from whoever sends one.
        let (answer, from) = lab.client.run(|| client::udp_from(to, "hello"))?;
        assert!(answer.ends_with(" hello"), "{answer}");
        assert_eq!(from, to);
    }
    Ok(())
}

#[test]
fn d13_the_backend_sees_the_client_itself() -> Result<()> {
    require_root!();
    let lab = web(2)?;
    for to in lab::tcp(10) {
        let mut connection = lab.client.run(|| Connection::open(to))?;
        assert_eq!(connection.get()?.client, connection.local()?);
    }
    Ok(())
}

#[test]
fn c12_a_pod_is_still_reached_by_its_own_address() -> Result<()> {
    require_root!();
    let lab = web(2)?;
    for address in lab.pod("web-12")?.addresses() {
        assert_eq!(
            lab.client.get(SocketAddr::new(*address, 8080))?.pod,
            "web-12"
        );
        let to = SocketAddr::new(*address, 5353);
        let (_answer, from) = lab.client.run(|| client::udp_from(to, "hello"))?;
        assert_eq!(from, to);
    }
    Ok(())
}

#[test]
fn b7_a_service_without_endpoints_refuses_at_once() -> Result<()> {
    require_root!();
    let lab = web(0)?;
    for to in lab::tcp(10) {
        let error = lab.client.get(to).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}: RST");
    }
    for to in lab::udp(10) {
        let asked = lab
            .client
            .run(|| client::udp_ask(&client::udp_flow(to)?, "hello"));
        let error = asked.unwrap_err();
        assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionRefused,
            "{to}: port unreachable"
        );
    }
    Ok(())
}

#[test]
fn a1_tcp_and_udp_share_a_port_number() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    let service = Service::new("dns", &vips(20)).tcp(53, 8080).udp(53, 5353);
    lab.manifests.put("dns.yaml", &service.yaml())?;
    lab.backend("dns", 31)?;
    lab.start()?;
    for to in lab::udp(20) {
        assert_eq!(lab.client.get(to)?.pod, "dns-31");
        let pod = lab
            .client
            .run(|| client::udp_ask(&client::udp_flow(to)?, "hello"))?;
        assert_eq!(pod, "dns-31");
    }
    Ok(())
}

#[test]
fn every_pod_is_a_client_too() -> Result<()> {
    require_root!();
    let mut lab = web(2)?;
    lab.service("api", 20)?;
    lab.backend("api", 31)?;
    // The agent may have started before: the service comes as a change.
    for to in lab::tcp(20) {
        clusterip_tests::wait::until("the second service answers", || lab.client.get(to).ok())?;
    }
    for to in lab::tcp(10) {
        let answer = lab.pod("api-31")?.get(to)?;
        assert!(answer.pod.starts_with("web-"), "{answer:?}");
    }
    for to in lab::tcp(20) {
        assert_eq!(lab.pod("web-11")?.get(to)?.pod, "api-31");
    }
    Ok(())
}
