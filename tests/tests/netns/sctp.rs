//! SCTP between real stacks, where the kernel has it: the machines of `cargo xtask vm` do.
//!
//! A stack drops what has a wrong CRC, so an association that comes about shows that it was right in each packet (D3).

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    client::Connection,
    lab::{self, Lab},
    manifests::Service,
    require, require_root, sctp,
    server::{Protocol, Server},
};

use crate::spread::{assert_even, tally};

/// Where backends listen; services have another port, so that each packet is changed.
const TARGET: u16 = 9090;
const PORT: u16 = 9;

/// A lab whose services `web` and `again` lead to the same backends by SCTP, and the servers of these. None where the kernel has no SCTP.
fn web(backends: u8) -> Result<Option<(Lab, Vec<Server>)>> {
    let mut lab = Lab::new()?;
    if !lab.client.run(sctp::is_known)? {
        require::loudly("NOTE this kernel has no SCTP: see cargo xtask vm");
        return Ok(None);
    }
    let mut servers = Vec::new();
    for number in 11..11 + backends {
        lab.backend("web", number)?;
        let pod = lab.pod(&format!("web-{number}"))?;
        servers.push(Server::start(pod, &[(Protocol::Sctp, TARGET)])?);
    }
    for (name, number) in [("web", 10), ("again", 20)] {
        let service = Service::new(name, &lab::vips(number)).sctp(PORT, TARGET);
        let text = service.yaml().replace("app: again", "app: web");
        lab.manifests.put(&format!("{name}.yaml"), &text)?;
    }
    lab.start()?;
    Ok(Some((lab, servers)))
}

/// An association of the client from a port of its own choice (0: any).
fn associate(lab: &Lab, port: u16, vip: IpAddr) -> io::Result<Connection> {
    let own = lab.client.addresses().iter();
    let from = own
        .filter(|own| own.is_ipv4() == vip.is_ipv4())
        .map(|own| SocketAddr::new(*own, port))
        .next()
        .ok_or(io::ErrorKind::AddrNotAvailable)?;
    let to = SocketAddr::new(vip, PORT);
    lab.client.run(|| Connection::associate(from, to))
}

#[test]
fn b1_d3_associations_are_spread_exactly_and_see_the_service() -> Result<()> {
    require_root!();
    let Some((lab, _servers)) = web(3)? else {
        return Ok(());
    };
    for vip in lab::vips(10) {
        let spread = tally(30, || {
            let mut association = associate(&lab, 0, vip)?;
            let answer = association.get()?;
            assert_eq!(answer.client, association.local()?, "D13");
            assert_eq!(association.remote()?, SocketAddr::new(vip, PORT), "C11");
            Ok(answer.pod)
        })?;
        assert_even(&spread, 3);
    }
    Ok(())
}

/// Packets of all lengths, in both directions: the CRC is mended at any distance from the end.
#[test]
fn d3_bulk_arrives_whole_both_ways() -> Result<()> {
    require_root!();
    let Some((lab, _servers)) = web(1)? else {
        return Ok(());
    };
    for vip in lab::vips(10) {
        let mut association = associate(&lab, 0, vip)?;
        for count in (1..40).map(|it| it * 37).chain([100_000, 1_000_000]) {
            association
                .upload(count)
                .with_context(|| format!("send {count} bytes to {vip}"))?;
            association
                .download(count)
                .with_context(|| format!("receive {count} bytes from {vip}"))?;
        }
    }
    Ok(())
}

/// One port of the client, two services, one backend: the second association gets another port on the way.
#[test]
fn c12_two_services_with_one_backend_share_a_port_of_the_client() -> Result<()> {
    require_root!();
    let Some((lab, _servers)) = web(1)? else {
        return Ok(());
    };
    for (first, second) in lab::vips(10).into_iter().zip(lab::vips(20)) {
        let mut first = associate(&lab, 40_000, first)?;
        let mut second = associate(&lab, 40_000, second)?;
        let (one, other) = (first.get()?, second.get()?);
        assert_eq!(one.client.port(), 40_000);
        assert_ne!(
            other.client.port(),
            40_000,
            "C12: the backend tells them apart"
        );
        first.upload(50_000)?;
        second.download(50_000)?;
    }
    Ok(())
}
