//! What kube-proxy leaves in ipvs mode, where the kernel has ipvs: those of `cargo xtask vm` do.

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{Namespace, agent::ask_in, require::loudly, require_root};

/// kube-proxy's, by the addresses of its device; and one of somebody else.
const SERVICES: &str = "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.244.0.9:6443 -m -w 1\n\
                        -A -u 10.96.0.10:53 -s rr\n-A -t [fd00:10:96::a]:53 -s rr\n-A -t 192.0.2.1:80 -s rr\n";

/// What `ipvsadm` prints; why not, where there is no such program or the kernel has no ipvs.
fn ipvsadm(node: &Namespace, arguments: &[&str]) -> Result<String, String> {
    let output = node.command("ipvsadm").args(arguments).output();
    let output = output.map_err(|error| format!("ipvsadm: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        // Its first line says it.
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().next().unwrap_or_default().to_owned())
    }
}

#[test]
fn cleanup_takes_kube_proxys_services_of_ipvs_and_nobody_elses() -> Result<()> {
    require_root!();
    let node = Namespace::anonymous()?;
    if let Err(why) = ipvsadm(&node, &["-Sn"]) {
        loudly(&format!("NOTE ipvs was not tried: {why}"));
        return Ok(());
    }
    node.ip(
        "link set lo up\nlink add kube-ipvs0 type dummy\naddr add 10.96.0.1/32 dev kube-ipvs0\n\
         addr add 10.96.0.10/32 dev kube-ipvs0\naddr add fd00:10:96::a/128 dev kube-ipvs0 nodad\n",
    )?;
    for line in SERVICES.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let added = ipvsadm(&node, &words);
        ensure!(added.is_ok(), "ipvsadm {line}: {added:?}");
    }
    let services = || ipvsadm(&node, &["-Sn"]).map_err(anyhow::Error::msg);
    let before = services()?;
    ensure!(before.matches("-A ").count() == 4, "{before}");

    let said = ask_in(&node, &["cleanup", "--kube-proxy", "--dry-run"])?;
    for part in [
        "3 services of ipvs",
        "the device kube-ipvs0",
        "would run: ipvsadm -D -t 10.96.0.1:443\n",
        "would run: ipvsadm -D -t [fd00:10:96::a]:53\n",
    ] {
        ensure!(said.out.contains(part), "{part} is not in\n{said:?}");
    }
    ensure!(services()? == before, "a dry run changes nothing");

    let said = ask_in(&node, &["cleanup", "--kube-proxy"])?;
    let after = services().with_context(|| format!("{said:?}"))?;
    ensure!(after == "-A -t 192.0.2.1:80 -s rr\n", "{after}\n{said:?}");
    let device = node
        .command("ip")
        .args(["link", "show", "kube-ipvs0"])
        .output()?;
    ensure!(!device.status.success(), "the device is there");
    let again = ask_in(&node, &["cleanup", "--kube-proxy"])?;
    ensure!(
        again.out.starts_with("kube-proxy left nothing\n"),
        "{again:?}"
    );
    Ok(())
}
