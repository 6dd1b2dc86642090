//! D13: a pod that is the only backend of the service it calls, through the stacks of the pod and of its node.

use std::io;

use anyhow::{Context as _, Result};
use clusterip_tests::{
    client::{self, Connection},
    lab::{self, Lab, vips},
    manifests::Service,
    require_root,
};

/// More than the first window, either way.
const SOME: u64 = 3_000_000;
/// A service port whose target nobody listens at.
const CLOSED: u16 = 54;

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    let service = Service::new("web", &vips(10))
        .tcp(80, 8080)
        .udp(53, 5353)
        .udp(CLOSED, 5999);
    lab.manifests.put("service-web.yaml", &service.yaml())?;
    lab.backend("web", 11)?;
    lab.start()?;
    Ok(lab)
}

#[test]
fn d13_a_pod_talks_to_itself_through_its_service() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let pod = lab.pod("web-11")?;
    let hidden = ["169.254.42.1", "fdc1:57e::42:1"];
    for (to, hidden) in lab::tcp(10).into_iter().zip(hidden) {
        let mut connection = pod.run(|| Connection::open(to))?;
        let answer = connection.get().with_context(|| format!("from {to}"))?;
        assert_eq!(answer.pod, "web-11");
        assert_eq!(answer.client.ip().to_string(), hidden, "who the server saw");
        assert_eq!(connection.remote()?, to, "C11");
        connection.upload(SOME)?;
        connection.download(SOME)?;
        // Everybody else is seen as who they are.
        let mut other = lab.client.run(|| Connection::open(to))?;
        assert_eq!(other.get()?.client, other.local()?);
    }
    for to in lab::udp(10) {
        let (answer, from) = pod.run(|| client::udp_from(to, "hello"))?;
        assert_eq!((answer.as_str(), from), ("web-11 hello", to));
    }
    Ok(())
}

#[test]
fn d13_a_pod_hears_that_its_own_port_is_closed() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let pod = lab.pod("web-11")?;
    for mut to in lab::udp(10) {
        to.set_port(CLOSED);
        let socket = pod.run(|| client::udp_flow(to))?;
        let error = client::udp_ask(&socket, "hello").expect_err("nobody listens");
        assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionRefused,
            "{to}: {error}"
        );
    }
    Ok(())
}
