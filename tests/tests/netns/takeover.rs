//! F4: maps of another size, shape or layout than the agent's are taken over or left alone, and flows go on.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, MapInfo};
use clusterip_agent::dataplane::{
    load::{self, LoadOptions},
    pins::Pins,
};
use clusterip_common::abi::{VERSION, maps};
use clusterip_tests::{
    Lab, Load, agent::BPFFS, lab, load::Plan, manifests::NODE, require_root, wait, world,
};

/// Connections that stay; new ones come by `rate` in a second.
fn plan(rate: usize) -> Plan {
    Plan {
        to: lab::tcp(10).to_vec(),
        kept: 200,
        pause: Duration::from_millis(20),
        rate,
    }
}

fn lab() -> Result<Lab> {
    let mut lab = Lab::new()?;
    lab.service("web", 10)?;
    for number in [11, 12, 13] {
        lab.backend("web", number)?;
    }
    lab.start()?;
    Ok(lab)
}

fn version(number: u32) -> PathBuf {
    Path::new(BPFFS).join(format!("v{number}"))
}

/// Does something beside the agent, where its pins are.
fn beside(lab: &Lab, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let work = || work().map_err(|error| io::Error::other(format!("{error:#}")));
    Ok(lab.node.namespace().run(work)?)
}

fn entries(lab: &Lab, map: &'static maps::Shape) -> Result<u32> {
    let pin = Pins::new(Path::new(BPFFS)).map(map);
    let read = || MapInfo::from_pin(pin).map_err(io::Error::other);
    Ok(lab.node.namespace().run(read)?.max_entries())
}

/// Starts the agent again with other arguments.
fn restart(lab: &mut Lab, more: &[&str]) -> Result<()> {
    let arguments = [&["--node-name", NODE], more].concat();
    let agent = lab.agent()?;
    agent.stop()?;
    agent.set_arguments(&arguments);
    agent.resume()
}

/// What is left while maps are replaced.
fn leftovers(lab: &Lab) -> Result<Vec<String>> {
    let pins = lab.node.pins(Path::new(BPFFS))?;
    let is_left = |pin: &String| pin.contains("/next") || pin.contains("/old");
    Ok(pins.into_iter().filter(is_left).collect())
}

#[test]
fn f4_maps_get_another_size_and_connections_go_on() -> Result<()> {
    const SMALL: [&str; 6] = [
        "--max-flows",
        "65536",
        "--max-backends",
        "1024",
        "--max-services",
        "512",
    ];
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan(0))?;
    for (more, sizes) in [
        (&SMALL[..], [65536, 16384, 1024, 2048, 512]),
        (&[][..], [262_144, 65536, 65536, 131_072, 16384]),
    ]
    .repeat(2)
    {
        restart(&mut lab, more)?;
        load.advance(400, 0).with_context(|| format!("{more:?}"))?;
        let maps = [
            &maps::FLOWS,
            &maps::HALF_OPEN,
            &maps::BACKENDS,
            &maps::SLOTS,
            &maps::SERVICES,
        ];
        for (map, wanted) in maps.into_iter().zip(sizes) {
            assert_eq!(entries(&lab, map)?, wanted, "{}", map.name);
        }
        for to in lab::tcp(10) {
            lab.client.get(to)?;
        }
        assert_eq!(leftovers(&lab)?, [""; 0]);
    }
    load.finish()?;
    Ok(())
}

#[test]
fn a_map_keeps_its_size_while_what_it_holds_would_not_fit() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    // Two addresses with two ports each, and an entry for each address.
    restart(&mut lab, &["--max-services", "5"])?;
    assert_eq!(entries(&lab, &maps::SERVICES)?, maps::SERVICES.entries);
    assert!(lab.agent()?.log().contains("it keeps its size"));
    restart(&mut lab, &["--max-services", "6"])?;
    assert_eq!(entries(&lab, &maps::SERVICES)?, 6);
    for to in lab::tcp(10) {
        lab.client.get(to)?;
    }
    Ok(())
}

/// An agent that was killed at one of the three places where names are changed.
#[test]
fn f4_a_takeover_that_was_cut_off_is_ended_by_the_next_agent() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan(0))?;
    let (map, old) = (
        version(VERSION).join("maps/FLOWS"),
        version(VERSION).join("old/FLOWS"),
    );
    // Its sizes are those of the agent in the laboratory; pinned elsewhere, so that it makes maps of its own.
    let fresh = || -> Result<PathBuf> {
        let pins = Pins::new(Path::new("/sys/fs/bpf/elsewhere"));
        let loaded = load::load(&LoadOptions {
            pins: Some(pins.clone()),
            ..LoadOptions::default()
        })?;
        drop(loaded);
        Ok(pins.map(&maps::FLOWS))
    };
    // Half a copy, which nobody uses.
    lab.agent()?.kill();
    beside(&lab, || {
        fs::create_dir(version(VERSION).join("next"))?;
        Ok(fs::rename(fresh()?, version(VERSION).join("next/FLOWS"))?)
    })?;
    lab.agent()?.resume()?;
    load.advance(400, 0).context("half a copy")?;
    assert_eq!(leftovers(&lab)?, [""; 0]);
    // The old map has been moved, the new one not yet.
    lab.agent()?.kill();
    beside(&lab, || {
        fs::create_dir(version(VERSION).join("old"))?;
        Ok(fs::rename(&map, &old)?)
    })?;
    lab.agent()?.resume()?;
    load.advance(400, 0).context("between two names")?;
    // The new one is in its place, and does not have every flow.
    lab.agent()?.kill();
    beside(&lab, || {
        fs::create_dir_all(version(VERSION).join("old"))?;
        fs::rename(&map, &old)?;
        Ok(fs::rename(fresh()?, &map)?)
    })?;
    lab.agent()?.resume()?;
    load.advance(400, 0)
        .context("before the last flows were fetched")?;
    assert_eq!(leftovers(&lab)?, [""; 0]);
    load.finish()?;
    Ok(())
}

#[test]
fn f4_another_layout_is_left_in_force_and_named() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan(100))?;
    lab.agent()?.stop()?;
    beside(&lab, || Ok(fs::rename(version(VERSION), version(77))?))?;
    let pins = lab.node.pins(Path::new(BPFFS))?;
    let error = lab.agent()?.resume().expect_err("another layout");
    let text = format!("{error:#}");
    for part in ["layout 77", "stays in force", "clusterip cleanup"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(lab.node.pins(Path::new(BPFFS))?, pins, "nothing is touched");
    load.advance(400, 50)?;
    beside(&lab, || Ok(fs::rename(version(77), version(VERSION))?))?;
    lab.agent()?.resume()?;
    load.advance(400, 50)?;
    load.finish()?;
    Ok(())
}

#[test]
fn f4_a_pinned_map_of_another_shape_is_refused_before_it_is_used() -> Result<()> {
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan(0))?;
    lab.agent()?.stop()?;
    let pin = Pins::new(Path::new(BPFFS)).map(&maps::LIVE_FLOWS);
    beside(&lab, || {
        fs::remove_file(&pin)?;
        let narrow = Array::<MapData, u32>::create(maps::LIVE_FLOWS.entries, 0)?;
        Ok(narrow.pin(&pin)?)
    })?;
    let error = lab.agent()?.resume().expect_err("another shape");
    let text = format!("{error:#}");
    for part in ["LIVE_FLOWS", "value 4, wanted", "clusterip cleanup"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    load.advance(400, 0)?;
    load.finish()?;
    Ok(())
}

/// An agent whose layout is a later one, which reads the maps of this one.
#[test]
fn f4_a_later_layout_takes_over_maps_links_and_flows() -> Result<()> {
    const LATER: u32 = VERSION + 1;
    require_root!();
    let mut lab = lab()?;
    let load = Load::start(&lab.client, &plan(0))?;
    lab.agent()?.stop()?;
    let before = lab.node.pins(Path::new(BPFFS))?;
    beside(&lab, || {
        let pins = Pins::new(Path::new(BPFFS)).of_version(LATER, &[VERSION]);
        let loaded = load::load(&LoadOptions {
            pins: Some(pins),
            settings: world::settings(),
            sockets: false,
            ..LoadOptions::default()
        })?;
        drop(loaded);
        Ok(())
    })?;
    let after = lab.node.pins(Path::new(BPFFS))?;
    let moved = |pin: &String| pin.replace(&format!("/v{VERSION}"), &format!("/v{LATER}"));
    assert_eq!(after, before.iter().map(moved).collect::<Vec<_>>());
    load.advance(400, 0).context("after the takeover")?;
    for to in lab::tcp(10) {
        lab.client.get(to).context("new connections")?;
    }
    // The earlier one does not read the later one's, and cannot come back over it.
    let error = lab.agent()?.resume().expect_err("a later layout");
    let text = format!("{error:#}");
    ensure!(text.contains(&format!("layout {LATER}")), "{text}");
    load.finish()?;
    let agent = lab.agent()?;
    agent.cleanup()?;
    agent.resume()?;
    for to in lab::tcp(10) {
        wait::until("the earlier agent serves again", || lab.client.get(to).ok())?;
    }
    Ok(())
}
