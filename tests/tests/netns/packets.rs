//! Packets that are more than a plain segment, over real links: pieces, and flows that look alike.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use clusterip_tests::{
    client,
    lab::{self, Lab, vips},
    manifests::Service,
    require_root,
};

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
