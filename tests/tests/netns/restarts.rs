//! F4 under load: the agent is stopped, killed and replaced, and no request fails.

use std::{collections::BTreeSet, fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{HashMap, Map, MapData},
    programs::{SchedClassifier, TcAttachType},
};
use clusterip_agent::dataplane::{attach::Mode, pins::Pins, raw::Raw};
use clusterip_common::abi::{Service, ServiceKey, maps};
use clusterip_tests::{
    Lab, Load, Namespace, agent::BPFFS, lab, load::Plan, manifests::NODE, require_root, wait,
};

use crate::changes::until_answering;

/// How often the agent is stopped, and how often it is killed.
const RESTARTS: u32 = 20;

/// Two hundred connections that each ask all the time, and five hundred new ones a second.
fn plan() -> Plan {
    Plan {
        to: lab::tcp(10).to_vec(),
        kept: 200,
        pause: Duration::from_millis(100),
        rate: 500,
    }
}

/// A service with three backends, and a fourth that is not ready.
fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in [11, 12, 13, 14] {
        lab.backend("web", number)?;
    }
    lab.ready("web-14", false)?;
    lab.start()?;
    Ok(lab)
}

/// Packets that nobody translated and nobody knew where to send: the node has no route to a service address.
fn astray(node: &Namespace) -> Result<u64> {
    let read = || {
        Ok((
            fs::read_to_string("/proc/thread-self/net/netstat")?,
            fs::read_to_string("/proc/thread-self/net/snmp6")?,
        ))
    };
    let (v4, v6) = node.run(read).context("read the node's counters")?;
    let mut lines = v4.lines().filter(|line| line.starts_with("IpExt:"));
    let names = lines.next().context("names")?.split_whitespace();
    let values = lines.next().context("values")?.split_whitespace();
    let v4 = names
        .zip(values)
        .find(|(name, _)| *name == "InNoRoutes")
        .and_then(|(_, value)| value.parse::<u64>().ok());
    let v6 = v6
        .lines()
        .find_map(|line| line.strip_prefix("Ip6InNoRoutes"))
        .and_then(|value| value.trim().parse::<u64>().ok());
    Ok(v4.context("InNoRoutes")? + v6.context("Ip6InNoRoutes")?)
}

/// Which programs are attached to the client's link, by their length in instructions; empty where there is no TCX.
fn programs(lab: &Lab) -> Result<BTreeSet<u32>> {
    let link = lab.client.link();
    let query = || {
        let mut found = BTreeSet::new();
        for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
            let (_, programs) = SchedClassifier::query_tcx(link, hook).map_err(io::Error::other)?;
            found.extend(
                programs
                    .iter()
                    .filter_map(aya::programs::ProgramInfo::size_translated),
            );
        }
        Ok(found)
    };
    if Mode::detect() != Mode::Tcx {
        return Ok(BTreeSet::new());
    }
    Ok(lab.node.namespace().run(query)?)
}

/// The frontends in the kernel's map.
fn frontends(lab: &Lab) -> Result<BTreeSet<String>> {
    let read = || -> Result<BTreeSet<String>> {
        let data = MapData::from_pin(Pins::new(Path::new(BPFFS)).map(&maps::SERVICES))?;
        let map: HashMap<_, Raw<ServiceKey>, Raw<Service>> =
            Map::from_map_data(data)?.try_into()?;
        let keys = map.keys().map(|key| Ok(key?.0.to_string()));
        keys.collect()
    };
    let read = || read().map_err(|error| io::Error::other(format!("{error:#}")));
    Ok(lab.node.namespace().run(read)?)
}

#[test]
fn f4_no_request_fails_over_twenty_stops_and_twenty_kills() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan())?;
    let lost = astray(lab.node.namespace())?;
    for round in 0..2 * RESTARTS {
        // What changes while the agent is away is there when it is back.
        let is_ready = round % 2 == 0;
        let agent = lab.agent()?;
        if round < RESTARTS {
            agent.stop()?;
        } else {
            agent.kill();
        }
        lab.ready("web-14", is_ready)?;
        load.advance(20, 50)
            .with_context(|| format!("without an agent, round {round}"))?;
        lab.agent()?.resume()?;
        load.advance(20, 50)
            .with_context(|| format!("after restart {round}"))?;
        let to = lab::tcp(10)[0];
        if is_ready {
            wait::until("the endpoint that was added is called", || {
                (lab.client.get(to).ok()?.pod == "web-14").then_some(())
            })?;
        } else {
            for _ in 0..8 {
                assert_ne!(lab.client.get(to)?.pod, "web-14", "it was taken away");
            }
        }
    }
    let counts = load.finish().context("over all restarts")?;
    ensure!(counts.kept > 200 && counts.new > 4000, "{counts:?}");
    assert_eq!(astray(lab.node.namespace())?, lost, "packets went astray");
    Ok(())
}

#[test]
fn f4_a_new_version_takes_the_place_of_the_programs_without_a_gap() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan())?;
    let lost = astray(lab.node.namespace())?;
    let mut seen = BTreeSet::from([programs(&lab)?]);
    for more in [&["--node-name", NODE, "-vv"][..], &["--node-name", NODE]].repeat(3) {
        let agent = lab.agent()?;
        agent.stop()?;
        agent.set_arguments(more);
        agent.resume()?;
        seen.insert(programs(&lab)?);
        load.advance(100, 100)?;
    }
    if Mode::detect() == Mode::Tcx {
        assert_eq!(seen.len(), 2, "two sets of programs: {seen:?}");
    }
    load.finish()?;
    assert_eq!(astray(lab.node.namespace())?, lost, "packets went astray");
    // The measure itself: without programs they do go astray.
    let agent = lab.agent()?;
    agent.stop()?;
    agent.cleanup()?;
    for to in lab::tcp(10) {
        // The kernel takes its time to let go of a link.
        wait::until("nobody translates", || lab.client.get(to).err())?;
    }
    assert!(astray(lab.node.namespace())? >= lost + 2);
    Ok(())
}

/// F2, F4: whatever was written when the agent died, what was served goes on, and the next agent ends what was begun.
#[test]
fn f4_an_agent_killed_in_the_middle_of_a_sync_breaks_nothing() -> Result<()> {
    const MANY: u32 = 2000;
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan())?;
    for round in 0..3_u32 {
        let before = frontends(&lab)?;
        let many: Vec<String> = (0..MANY)
            .map(|number| {
                let name = format!("many-{round}-{number}");
                format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
                     spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}\n---\n"
                )
            })
            .collect();
        lab.manifests.put("many.yaml", &many.concat())?;
        wait::until("the sync has begun to write", || {
            let now = frontends(&lab).ok()?;
            (now != before).then_some(())
        })?;
        lab.agent()?.kill();
        load.advance(100, 100).context("after the kill")?;
        lab.agent()?.resume()?;
        // Each has an address and a port; `web` has two addresses with two ports each.
        assert_eq!(frontends(&lab)?.len(), 2 * MANY as usize + 6);
        load.advance(100, 100).context("after the restart")?;
    }
    load.finish()?;
    until_answering(
        &lab.client,
        lab::tcp(10)[0],
        &["web-11", "web-12", "web-13"],
    )
}
