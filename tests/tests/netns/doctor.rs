//! `clusterip doctor` on nodes with one thing wrong.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use clusterip_agent::dataplane::cgroup;
use clusterip_tests::{
    Cgroup, Foreign, Lab, agent, agent::BPFFS, foreign::Hook, require_root, schema,
};
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

/// A node with a client's pod, and no agent.
fn lab() -> Result<Lab> {
    Lab::new()
}

/// What doctor prints there, with its exit code. `before` runs it, or is nothing.
fn doctor(lab: &Lab, before: &[&str], arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let program = agent::binary()?.display().to_string();
    let mut words: Vec<&str> = before.to_vec();
    words.extend([program.as_str(), "doctor"]);
    words.extend(arguments);
    let (first, rest) = words.split_first().context("a program")?;
    let mut command: Command = lab.node.namespace().command(first);
    let output = command.args(rest).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.stderr.is_empty(), "{output:?}");
    Ok((output.status.code(), text))
}

/// One finding is bad, and says this; a line without a tick has a hint below it.
fn wrong(lab: &Lab, arguments: &[&str], finding: &str) -> Result<()> {
    let (code, text) = doctor(lab, &[], arguments)?;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("✗ {finding}")), "{finding}\n{text}");
    let mut lines = text.lines().skip_while(|line| !line.starts_with('✗'));
    let hint = lines.nth(1).unwrap_or_default();
    assert!(hint.trim_start().starts_with('→'), "{text}");
    Ok(())
}

#[test]
fn a_node_that_is_well_has_a_tick_for_everything() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let (code, text) = doctor(&lab, &[], &[])?;
    for check in [
        "kernel",
        "features",
        "jit",
        "capabilities",
        "bpffs",
        "cgroup2",
        "pins",
        "interfaces",
        "forwarding",
        "forwarding v6",
        "rp_filter",
        "mtu",
        "other programs",
        "kube-proxy",
    ] {
        assert!(text.contains(&format!("✓ {check}")), "{check}\n{text}");
    }
    // Who runs the tests may have programs at the machine's own root cgroup.
    let bad = text.lines().filter(|line| line.starts_with('✗'));
    let is_other = |line: &str| line.starts_with("✗ other sockets");
    assert!(bad.clone().all(is_other), "{text}");
    assert_eq!(code, Some(i32::from(bad.count() > 0)), "{text}");
    Ok(())
}

#[test]
fn doctor_tells_programs_the_same_in_json() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let (code, text) = doctor(&lab, &[], &["-o", "json", "--bpffs", "/tmp/nothing"])?;
    let document: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    schema::check(&schema::read("doctor")?, &document)?;
    assert_eq!(
        (code, document.get("healthy")),
        (Some(1), Some(&Value::from(false)))
    );
    Ok(())
}

#[test]
fn without_capabilities_doctor_says_which() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let before = ["setpriv", "--bounding-set=-all"];
    let (code, text) = doctor(&lab, &before, &[])?;
    assert_eq!(code, Some(1), "{text}");
    let missing = "✗ capabilities    missing: CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF";
    assert!(text.contains(missing), "{text}");
    assert!(text.contains("✓ other sockets   not looked at"), "{text}");
    Ok(())
}

#[test]
fn a_pool_that_is_announced_needs_one_capability_more() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let before = ["setpriv", "--bounding-set=-net_raw"];
    let pool = ["--load-balancer-pool", "203.0.113.0/28"];
    let (code, text) = doctor(&lab, &before, &pool)?;
    assert_eq!(code, Some(1), "{text}");
    let missing = "✗ capabilities    missing: CAP_NET_RAW";
    assert!(text.contains(missing), "{text}");
    let (_, text) = doctor(&lab, &before, &[])?;
    assert!(
        text.contains("✓ capabilities"),
        "nothing is announced\n{text}"
    );
    let (_, text) = doctor(&lab, &[], &pool)?;
    assert!(text.contains("✓ capabilities"), "{text}");
    assert!(text.contains("CAP_NET_RAW"), "{text}");
    Ok(())
}

#[test]
fn a_place_that_is_no_bpffs_and_a_machine_without_cgroup2() -> Result<()> {
    require_root!();
    let lab = lab()?;
    wrong(
        &lab,
        &["--bpffs", "/tmp/x"],
        "bpffs           /tmp/x is not on one",
    )?;
    let root = cgroup::root().context("no cgroup2 is mounted")?;
    // In the mount namespace of the node alone.
    let away = || Ok(umount2(&root, MntFlags::MNT_DETACH)?);
    lab.node.namespace().run(away)?;
    wrong(&lab, &[], "cgroup2         not mounted")
}

#[test]
fn pins_of_another_layout_are_named() -> Result<()> {
    require_root!();
    let lab = lab()?;
    let old = format!("{BPFFS}/v0");
    lab.node.namespace().run(|| fs::create_dir_all(&old))?;
    wrong(
        &lab,
        &[],
        "pins            /sys/fs/bpf/clusterip has pins of other layouts: v0",
    )
}

#[test]
fn devices_that_do_not_forward_or_do_not_match() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    lab.backend("web", 11)?;
    let name = lab.client.link().to_owned();
    let node = lab.node.namespace().clone();
    wrong(
        &lab,
        &["--pod-interfaces", "veth*,eni*"],
        "interfaces      nothing matches eni*",
    )?;
    let set = |file: &str, value: &str| {
        let path = format!("/proc/sys/net/{file}");
        node.run(|| fs::write(path, value))
    };
    for (file, finding) in [
        (
            "ipv4/ip_forward",
            "forwarding      net.ipv4.ip_forward is off",
        ),
        (
            "ipv6/conf/all/forwarding",
            "forwarding v6   net.ipv6.conf.all.forwarding is off",
        ),
    ] {
        set(file, "0")?;
        wrong(&lab, &[], finding)?;
        set(file, "1")?;
    }
    set(&format!("ipv4/conf/{name}/rp_filter"), "1")?;
    let (_, text) = doctor(&lab, &[], &[])?;
    assert!(text.contains("✓ rp_filter       strict on 1 of"), "{text}");
    node.ip(&format!("link set {name} mtu 1400\n"))?;
    wrong(
        &lab,
        &[],
        "mtu             1400 at vethCLIENT, 1500 at vethWEB",
    )
}

#[test]
fn programs_of_others_are_named_and_our_own_are_not() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let cgroup = Cgroup::new()?;
    let path = cgroup.path().display().to_string();
    lab.start_with(&["--socket-lb", "host", "--cgroup", &path])?;
    let arguments = ["--cgroup", &path];
    let (code, text) = doctor(&lab, &[], &arguments)?;
    assert_eq!(code, Some(0), "the agent's own are no finding\n{text}");
    let (node, device) = (lab.node.namespace().clone(), lab.client.link().to_owned());
    if clusterip_agent::dataplane::attach::Mode::detect().to_string() == "tcx" {
        let tcx = Foreign::at_device(&node, &device, Hook::Tcx, "cil_from_contai")?;
        let finding = format!("other programs  cil_from_contai at tcx/ingress of {device}");
        wrong(&lab, &arguments, &finding)?;
        drop(tcx);
    }
    let xdp = Foreign::at_device(&node, &device, Hook::Xdp, "xdp_filter")?;
    let finding = format!("other programs  xdp_filter at xdp of {device}");
    wrong(&lab, &arguments, &finding)?;
    drop(xdp);
    let connect = Foreign::at_cgroup(cgroup.path(), Hook::Connect4, "cil_sock4_conne")?;
    let finding = format!("other sockets   cil_sock4_conne at connect4 of {path}");
    wrong(&lab, &arguments, &finding)?;
    drop(connect);
    let (code, text) = doctor(&lab, &[], &arguments)?;
    assert_eq!(code, Some(0), "all of them are gone\n{text}");
    Ok(())
}
