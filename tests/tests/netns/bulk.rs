//! D2: much data through a service address, whose every byte is compared. With offloads a packet carries a partial
//! checksum and up to 64 KiB; without them each checksum is on the wire in full and the receiver verifies it.

use anyhow::{Context as _, Result};
use clusterip_tests::{
    client::{self, Connection},
    lab::{self, Lab},
    require_root,
};

const HUNDRED_MEGABYTES: u64 = 100_000_000;
const TEN_MEGABYTES: u64 = 10_000_000;

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start()?;
    Ok(lab)
}

/// Up and down, in both families.
fn transfer(lab: &Lab, count: u64) -> Result<()> {
    for to in lab::tcp(10) {
        let up = lab.client.run(|| Connection::open(to)?.upload(count));
        up.with_context(|| format!("{count} bytes to {to}"))?;
        let down = lab.client.run(|| Connection::open(to)?.download(count));
        down.with_context(|| format!("{count} bytes from {to}"))?;
    }
    Ok(())
}

/// Ten megabytes with the offloads of each end on and off: a partial checksum that is completed after translation, and
/// a full one that is translated.
pub(crate) fn with_all_offloads(lab: &Lab) -> Result<()> {
    for (client, backend) in [(true, true), (false, true), (true, false), (false, false)] {
        lab.client.set_offloads(client)?;
        lab.pod("web-11")?.set_offloads(backend)?;
        transfer(lab, TEN_MEGABYTES)
            .with_context(|| format!("offloads of client {client}, of backend {backend}"))?;
    }
    Ok(())
}

#[test]
fn d2_a_hundred_megabytes_arrive_whole_in_both_directions() -> Result<()> {
    require_root!();
    transfer(&lab()?, HUNDRED_MEGABYTES)
}

#[test]
fn d2_checksums_are_right_on_the_wire() -> Result<()> {
    require_root!();
    with_all_offloads(&lab()?)
}

#[test]
fn d2_udp_checksums_are_right_on_the_wire() -> Result<()> {
    require_root!();
    let lab = lab()?;
    for (client, backend) in [(true, true), (false, true), (true, false), (false, false)] {
        lab.client.set_offloads(client)?;
        lab.pod("web-11")?.set_offloads(backend)?;
        for to in lab::udp(10) {
            for length in [0, 1, 2, 3, 600, 601, 1400] {
                let text = "x".repeat(length);
                let asked = lab
                    .client
                    .run(|| client::udp_ask(&client::udp_flow(to)?, &text));
                let pod = asked.with_context(|| {
                    format!(
                        "{length} bytes to {to}, offloads of client {client}, of backend {backend}"
                    )
                })?;
                assert_eq!(pod, "web-11");
            }
        }
    }
    Ok(())
}
