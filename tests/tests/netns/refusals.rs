//! What the agent refuses to start with says what is missing and what to do; what does not fit stops nothing else.

use std::{path::Path, process::Output};

use anyhow::{Result, ensure};
use clusterip_tests::{
    Node, agent,
    client::Connection,
    lab::{self, Lab},
    manifests::NODE,
    require_root, wait,
};

/// A user without any capability, as "nobody" is.
const NOBODY: &str = "65534";

fn run(node: &Node, manifests: &Path, more: &[&str]) -> Result<Output> {
    let mut command = node.namespace().command(agent::binary()?);
    command
        .args(["run", "--healthz-bind-address", "", "--manifests"])
        .arg(manifests);
    command
        .arg("--state-dir")
        .arg(manifests.join("state"))
        .args(more);
    Ok(command.output()?)
}

fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in: {said}");
    }
    Ok(())
}

#[test]
fn without_a_bpffs_it_says_how_to_mount_one() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let manifests = tempfile::tempdir()?;
    let output = run(&node, manifests.path(), &["--bpffs", "/dev/shm/clusterip"])?;
    refused(&output, &["/dev/shm", "mount -t bpf", "--bpffs"])
}

#[test]
fn without_privilege_it_names_the_capabilities() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    // A copy that nobody may read, too: the build's own folder may be root's alone.
    let folder = tempfile::Builder::new()
        .prefix("clusterip-nobody-")
        .tempdir_in("/dev/shm")?;
    let program = folder.path().join("clusterip");
    std::fs::copy(agent::binary()?, &program)?;
    let manifests = folder.path().join("manifests");
    std::fs::create_dir(&manifests)?;
    for path in [folder.path(), &program, &manifests] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    // The namespace is entered first, then the rights go.
    let mut command = node.namespace().command("setpriv");
    command
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(&program);
    command
        .args(["run", "--bpffs", "/sys/fs/bpf", "--manifests"])
        .arg(&manifests);
    refused(&command.output()?, &["CAP_BPF", "CAP_NET_ADMIN", "root"])
}

#[test]
fn a_manifest_directory_that_is_not_there_is_named() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let output = run(&node, Path::new("/nowhere/at/all"), &[])?;
    refused(&output, &["/nowhere/at/all"])
}

#[test]
fn an_address_that_is_taken_is_named() -> Result<()> {
    require_root!();
    let node = Node::anonymous()?;
    let taken = node
        .namespace()
        .run(|| std::net::TcpListener::bind(("127.0.0.1", 10_249)))?;
    let manifests = tempfile::tempdir()?;
    let output = run(
        &node,
        manifests.path(),
        &["--metrics-bind-address", "127.0.0.1:10249"],
    )?;
    drop(taken);
    refused(&output, &["127.0.0.1:10249", "metrics"])
}

#[test]
fn a_service_that_does_not_fit_is_told_and_the_others_serve() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    // A frontend for each of two protocols and two families, and the two addresses.
    lab.start_with(&["--node-name", NODE, "--max-services", "6"])?;
    lab.service("late", 20)?;
    lab.backend("late", 21)?;
    let waiting = || {
        let metrics = lab.agent.as_ref()?.metrics().ok()?;
        let mut samples = metrics.named("clusterip_services_waiting");
        samples
            .next()
            .is_some_and(|sample| sample.value > 0.0)
            .then_some(())
    };
    wait::until("the metric tells that a service waits", waiting)?;
    let log = lab.agent()?.log();
    ensure!(
        log.contains("default/late") && log.contains("--max-services"),
        "{log}"
    );
    for to in lab::tcp(10) {
        let response = lab.client.run(|| Connection::open(to)?.http("/"))?;
        ensure!(response.status == 200, "{to}: {}", response.status);
    }
    Ok(())
}
