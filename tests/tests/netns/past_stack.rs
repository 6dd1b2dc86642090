//! `--forwarding redirect` beside devices that are not like the others: what cannot go past the stack takes it, and counts.

use std::{io, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{
    Pod,
    client::{self, Connection},
    lab::{self, Lab},
    require_root, wait,
};

use crate::{
    mtu::known_mtu,
    redirect::{REDIRECT, went},
};

/// What a narrow device takes.
const NARROW: u32 = 1_320;
/// More than the first window, in segments of the full size.
const SOME: u64 = 2_000_000;

/// A service with one pod, whose packets go straight on.
fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.start_with(&REDIRECT)?;
    goes_straight(&lab)?;
    Ok(lab)
}

/// Waits until what is asked goes straight on, in both families.
fn goes_straight(lab: &Lab) -> Result<()> {
    for to in lab::tcp(10) {
        wait::until("the way is known", || {
            let before = went(lab, "peer").ok()?;
            lab.client.get(to).ok()?;
            (went(lab, "peer").ok()? > before).then_some(())
        })?;
    }
    Ok(())
}

/// The node's side of a pod's device takes less.
fn narrow(lab: &Lab, pod: &Pod) -> Result<()> {
    let link = pod.link();
    lab.node
        .namespace()
        .ip(&format!("link set dev {link} mtu {NARROW}\n"))
}

/// What is too long takes the stack, all else goes straight on, and who sends is told.
fn fits_or_is_told(
    lab: &Lab,
    transfer: impl Fn(SocketAddr) -> io::Result<()> + Sync,
    known: impl Fn(SocketAddr) -> Result<Option<u32>>,
) -> Result<()> {
    for to in lab::tcp(10) {
        let (size, straight) = (went(lab, "stack-size")?, went(lab, "peer")?);
        lab.client.run(|| transfer(to))?;
        ensure!(
            went(lab, "stack-size")? > size,
            "{to}: what is too long takes the stack"
        );
        ensure!(
            went(lab, "peer")? > straight + 10,
            "{to}: the rest goes straight on"
        );
        let known = known(to)?;
        ensure!(known == Some(NARROW), "{to}: who sends knows {known:?}");
    }
    Ok(())
}

#[test]
fn d7_d10_a_backend_behind_a_narrow_device_gets_what_fits_and_its_client_is_told() -> Result<()> {
    require_root!();
    let lab = lab()?;
    narrow(&lab, lab.pod("web-11")?)?;
    fits_or_is_told(
        &lab,
        |to| Connection::open(to)?.upload(SOME),
        |to| known_mtu(lab.client.namespace(), to.ip()),
    )
}

#[test]
fn d7_d10_a_client_behind_a_narrow_device_gets_what_fits_and_its_backend_is_told() -> Result<()> {
    require_root!();
    let lab = lab()?;
    narrow(&lab, &lab.client)?;
    let backend = lab.pod("web-11")?;
    fits_or_is_told(
        &lab,
        |to| Connection::open(to)?.download(SOME),
        |to| {
            let own = lab.client.addresses().iter();
            let mut own = own.filter(|own| own.is_ipv4() == to.is_ipv4());
            let client = own.next().context("an address of the client")?;
            known_mtu(backend.namespace(), *client)
        },
    )
}

#[test]
fn a_backend_whose_side_of_the_device_was_down_is_served_again() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let backend = lab.pod("web-11")?;
    for (to, by_datagram) in lab::tcp(10).into_iter().zip(lab::udp(10)) {
        let mut kept = lab.client.run(|| Connection::open(to))?;
        let before = lab.client.run(|| kept.get())?;
        let stack = by_stack(&lab)?;
        backend.namespace().ip("link set dev eth0 down\n")?;
        // Nobody is there: the stack has it, and says so or drops it.
        wait::until("a packet takes the stack", || {
            let send = || client::udp_flow(by_datagram)?.send(b"anybody?");
            lab.client.run(send).ok()?;
            (by_stack(&lab).ok()? > stack).then_some(())
        })?;
        backend.set_up()?;
        // The connection outlives it: what was lost is sent again.
        ensure!(lab.client.run(|| kept.get())? == before, "C1: {to}");
        goes_straight(&lab)?;
    }
    Ok(())
}

fn by_stack(lab: &Lab) -> Result<u64> {
    ["stack-no-route", "stack-no-neighbour", "stack-other-device"]
        .iter()
        .map(|way| went(lab, way))
        .sum()
}

#[test]
fn a_backend_behind_a_bridge_is_reached_by_the_stack() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let backend = lab.pod("web-11")?;
    let (node, link) = (lab.node.namespace(), backend.link());
    node.ip(&format!(
        "link add name br0 type bridge\n\
         link set dev br0 up\n\
         addr add 169.254.1.1/32 dev br0\n\
         addr add fe80::1/64 dev br0 nodad\n\
         link set dev {link} master br0\n"
    ))?;
    for (to, address) in lab::tcp(10).into_iter().zip(backend.addresses()) {
        let length = if address.is_ipv4() { 32 } else { 128 };
        node.ip(&format!("route replace {address}/{length} dev br0\n"))?;
        let other = went(&lab, "stack-other-device")?;
        for _ in 0..10 {
            lab.client.get(to).context("by way of the bridge")?;
        }
        ensure!(
            went(&lab, "stack-other-device")? >= other + 40,
            "{to}: requests take the stack"
        );
    }
    Ok(())
}
