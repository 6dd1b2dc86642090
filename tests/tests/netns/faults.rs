//! Bad input and bad disks: what is served goes on, what is wrong is said, and it mends itself.

use std::{fs, io, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use clusterip_tests::{
    Lab, Load,
    agent::STATE,
    lab::{self, vips},
    load::Plan,
    manifests::NODE,
    metrics::Metrics,
    require_root, wait,
};
use nix::mount::{MsFlags, mount};

use crate::changes::until_answering;

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.start()?;
    Ok(lab)
}

/// Waits until a metric has a value.
fn until_metric(lab: &mut Lab, name: &str, is_it: impl Fn(f64) -> bool) -> Result<()> {
    let agent = lab.agent()?;
    let value = |metrics: &Metrics| metrics.named(name).next().map(|sample| sample.value);
    wait::until(&format!("{name} says so"), || {
        let metrics = agent.metrics().ok()?;
        is_it(value(&metrics)?).then_some(())
    })
}

fn served(lab: &Lab) -> Result<()> {
    for to in lab::tcp(10) {
        until_answering(&lab.client, to, &["web-11", "web-12"])?;
    }
    Ok(())
}

#[test]
fn h_what_turned_bad_while_the_agent_was_away_is_still_served() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    lab.agent()?.stop()?;
    lab.manifests
        .put("service-web.yaml", "kind: Service\nspec: [")?;
    lab.manifests.put("pod-web-12.yaml", "kind: Pod\nspec: {")?;
    for _ in 0..2 {
        lab.agent()?.resume()?;
        served(&lab)?;
        until_metric(&mut lab, "clusterip_problems", |count| count >= 2.0)?;
        lab.agent()?.kill();
    }
    lab.service("web", 10)?;
    lab.manifests.remove("pod-web-12.yaml")?;
    lab.agent()?.resume()?;
    for to in lab::tcp(10) {
        until_answering(&lab.client, to, &["web-11"])?;
    }
    // What is gone is gone, whatever was kept of it.
    lab.agent()?.stop()?;
    lab.manifests.remove("service-web.yaml")?;
    lab.agent()?.resume()?;
    for to in lab::tcp(10) {
        lab.client.get(to).expect_err("there is no such service");
    }
    Ok(())
}

#[test]
fn f1_nothing_is_removed_while_the_manifest_directory_is_away() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(
        &lab.client,
        &Plan {
            to: lab::tcp(10).to_vec(),
            kept: 10,
            pause: std::time::Duration::from_millis(10),
            rate: 100,
        },
    )?;
    let here = lab.manifests.path().to_owned();
    let away = here.with_extension("away");
    fs::rename(&here, &away)?;
    // The kernel follows the directory, not its name: that something happens in it is told.
    fs::write(away.join("nudge"), "")?;
    until_metric(&mut lab, "clusterip_problems", |count| count > 0.0)?;
    load.advance(50, 50).context("while it is away")?;
    // An agent that starts now says so and ends; what is programmed stays.
    let agent = lab.agent()?;
    agent.stop()?;
    let error = format!("{:#}", agent.resume().expect_err("no manifests"));
    assert!(error.contains("does not exist"), "{error}");
    load.advance(50, 50).context("without an agent")?;
    fs::rename(&away, &here)?;
    lab.agent()?.resume()?;
    until_metric(&mut lab, "clusterip_problems", |count| count == 0.0)?;
    lab.backend("web", 13)?;
    until_answering(
        &lab.client,
        lab::tcp(10)[0],
        &["web-11", "web-12", "web-13"],
    )?;
    load.finish()?;
    Ok(())
}

/// A writer that takes its time, as over a slow disk: what it has written so far is a manifest, of nothing.
#[test]
fn h_a_manifest_that_is_half_written_takes_nothing_from_its_clients() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(
        &lab.client,
        &Plan {
            to: lab::tcp(10).to_vec(),
            kept: 10,
            pause: std::time::Duration::from_millis(10),
            rate: 100,
        },
    )?;
    let path = lab.manifests.path().join("service-web.yaml");
    let text = fs::read_to_string(&path)?;
    let (half, rest) = text.split_at(text.len() / 2);
    let mut writer = fs::File::create(&path)?;
    until_metric(&mut lab, "clusterip_problems", |count| count > 0.0)?;
    load.advance(50, 50).context("while the file is empty")?;
    writer.write_all(half.as_bytes())?;
    let said = lab.agent()?.ask(&["status", "-o", "json"])?;
    assert!(said.out.contains("is being written"), "{said:?}");
    load.advance(50, 50).context("while there is half of it")?;
    writer.write_all(rest.as_bytes())?;
    drop(writer);
    until_metric(&mut lab, "clusterip_problems", |count| count == 0.0)?;
    load.advance(50, 50).context("when it is whole")?;
    load.finish()?;
    Ok(())
}

/// Does something where the agent's state is.
fn beside(lab: &Lab, work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    lab.node.namespace().run(work)
}

/// Mounts the state directory, or mounts it again in another way.
fn mount_state(lab: &Lab, flags: MsFlags, options: &'static str) -> io::Result<()> {
    beside(lab, || {
        fs::create_dir_all(STATE)?;
        let kind = Some("tmpfs");
        Ok(mount(kind, STATE, kind, flags, Some(options))?)
    })
}

fn automatic(names: std::ops::Range<u32>) -> String {
    let service = |number: u32| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a-service-with-an-address-of-its-own-{number}}}\n\
             spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\n"
        )
    };
    names.map(service).collect()
}

/// The kept allocations, as text.
fn allocations(lab: &Lab) -> Result<String> {
    let read = || fs::read_to_string(Path::new(STATE).join("allocations.json"));
    Ok(lab.node.namespace().run(read)?)
}

#[test]
fn g4_services_work_while_the_state_directory_is_full_or_read_only() -> Result<()> {
    require_root!();
    let mut lab = Lab::new()?;
    mount_state(&lab, MsFlags::empty(), "size=4k")?;
    lab.service("web", 10)?;
    lab.backend("web", 11)?;
    lab.backend("web", 12)?;
    lab.manifests.put("many.yaml", &automatic(0..100))?;
    lab.start_with(&["--node-name", NODE])?;
    served(&lab)?;
    until_metric(&mut lab, "clusterip_allocations_unkept", |it| it > 0.0)?;
    assert!(lab.agent()?.log().contains("allocations are not kept"));
    mount_state(&lab, MsFlags::MS_REMOUNT, "size=4m")?;
    until_metric(&mut lab, "clusterip_allocations_unkept", |it| it == 0.0)?;
    assert!(allocations(&lab)?.contains("address-of-its-own-99"));

    mount_state(&lab, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, "size=4m")?;
    lab.manifests.put("many.yaml", &automatic(0..101))?;
    until_metric(&mut lab, "clusterip_allocations_unkept", |it| it > 0.0)?;
    served(&lab)?;
    // A restart on a directory like that works as well.
    let agent = lab.agent()?;
    agent.kill();
    agent.resume()?;
    served(&lab)?;
    mount_state(&lab, MsFlags::MS_REMOUNT, "size=4m")?;
    until_metric(&mut lab, "clusterip_allocations_unkept", |it| it == 0.0)?;
    assert!(allocations(&lab)?.contains("address-of-its-own-100"));
    Ok(())
}

/// The frontends that the agent tells, without those of `web`.
fn addresses(lab: &mut Lab) -> Result<Vec<String>> {
    let all = lab.agent()?.metrics()?.frontends().into_iter();
    let own = all.filter(|it| !vips(10).contains(&it.address.ip()));
    Ok(own
        .map(|it| format!("{} {}", it.port.service, it.address))
        .collect())
}

#[test]
fn g4_addresses_outlive_a_damaged_state_file_and_a_lost_state_directory() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    lab.manifests.put("many.yaml", &automatic(0..100))?;
    let count = |lab: &mut Lab| addresses(lab).map(|all| all.len());
    wait::until("all are there", || {
        (count(&mut lab).ok()? == 100).then_some(())
    })?;
    let before = addresses(&mut lab)?;
    let file = Path::new(STATE).join("allocations.json");
    lab.agent()?.kill();
    beside(&lab, || fs::write(&file, "{\"version\": 1, \"serv"))?;
    lab.agent()?.resume()?;
    assert_eq!(addresses(&mut lab)?, before);
    let damaged = "allocations.json.damaged";
    beside(&lab, || {
        fs::metadata(Path::new(STATE).join(damaged)).map(drop)
    })?;
    assert!(lab.agent()?.log().contains(damaged));
    lab.agent()?.kill();
    beside(&lab, || fs::remove_dir_all(STATE))?;
    lab.agent()?.resume()?;
    assert_eq!(addresses(&mut lab)?, before);
    served(&lab)
}
