//! The programs by themselves over real links: tables written by hand, no agent. Both ways of attaching.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        attach::{Hooks, Interface, Mode, Role, detach_filters},
        bpf::Bpf,
        counters::CounterMaps,
        load::{LoadOptions, load},
        pins::Pins,
    },
    model::inside::Inside,
    plan::{Tables, diff},
};
use clusterip_common::{
    abi::Outcome,
    packet::Link,
    wire::{Addr, Be16},
};
use clusterip_tests::{
    Load, Outside,
    agent::BPFFS,
    client,
    lab::{self, Lab},
    load::Plan,
    require_root,
    world::{self, World},
};
use nix::net::if_::if_nametoindex;

use crate::{
    bulk,
    lifecycle::attached_to,
    spread::{assert_even, count, tally, udp_answers, udp_flows},
};

/// A service at 10.96.0.10 and its like in IPv6, as [`Lab::service`] would have it, with these backends.
fn world(numbers: &[u8]) -> World {
    let mut world = world::nothing();
    for (vips, port, protocol) in [(lab::tcp(10), 8080, "tcp"), (lab::udp(10), 5353, "udp")] {
        for vip in vips {
            let addresses = numbers
                .iter()
                .map(|number| lab::spec("", *number).addresses);
            let same_family = addresses
                .flatten()
                .filter(|ip| ip.is_ipv4() == vip.is_ipv4());
            let backends: Vec<_> = same_family
                .map(|ip| SocketAddr::new(ip, port).to_string())
                .collect();
            let backends: Vec<_> = backends.iter().map(String::as_str).collect();
            world = world.and(&format!("{vip}/{protocol}"), &backends);
        }
    }
    world
}

/// Loads the programs, fills their maps and attaches them to the link of every pod, and to the uplinks. Pins hold all of it.
fn run(lab: &Lab, world: &World, mode: Mode, uplinks: &[&Outside]) -> Result<()> {
    run_as(lab, world, mode, uplinks, &LoadOptions::default())
}

/// The same with the sizes and the diagnostics of these options.
fn run_as(
    lab: &Lab,
    world: &World,
    mode: Mode,
    uplinks: &[&Outside],
    options: &LoadOptions,
) -> Result<()> {
    let pods = lab.pods().map(|pod| (pod.link().to_owned(), Role::Pod));
    let uplinks = uplinks
        .iter()
        .map(|outside| (outside.link().to_owned(), Role::Uplink));
    let links: Vec<_> = pods.chain(uplinks).collect();
    let work = || -> Result<()> {
        let pins = Pins::new(Path::new(BPFFS));
        pins.prepare()?;
        let mut loaded = load(&LoadOptions {
            pins: Some(Pins::new(Path::new(BPFFS))),
            settings: world::settings(),
            max_flows: options.max_flows,
            log_level: options.log_level,
            ..LoadOptions::default()
        })?;
        // Kept: programs that are loaded only when a device needs them refer to these maps.
        let mut maps = Bpf::new(&mut loaded)?;
        let found = maps.dump()?;
        maps.apply(&diff(&found, &world.tables))?;
        let mut hooks = Hooks::new(loaded, pins, mode);
        for (name, role) in links {
            let index = if_nametoindex(name.as_str())?;
            hooks.attach(&Interface {
                index,
                name,
                role,
                link: Link::Ethernet,
            })?;
        }
        Ok(())
    };
    let done = lab
        .node
        .namespace()
        .run(|| work().map_err(io::Error::other));
    done.with_context(|| format!("run the programs by {mode}"))
}

/// The ways of attaching that this kernel has.
fn modes() -> impl Iterator<Item = Mode> {
    let links = (Mode::detect() == Mode::Tcx).then_some(Mode::Tcx);
    links.into_iter().chain([Mode::Clsact])
}

/// A client, some backends and the programs.
fn running(numbers: &[u8], mode: Mode) -> Result<Lab> {
    let mut lab = Lab::new()?;
    for number in numbers {
        lab.backend("web", *number)?;
    }
    run(&lab, &world(numbers), mode, &[])?;
    Ok(lab)
}

/// F4: other programs, then maps of another size: what is open stays open, and no device has the programs twice.
#[test]
fn f4_successors_take_over_by_either_way_of_attaching() -> Result<()> {
    const OTHER: u32 = 65_536;
    require_root!();
    for mode in modes() {
        let numbers = [11, 12];
        let lab = running(&numbers, mode)?;
        let plan = Plan {
            to: lab::tcp(10).to_vec(),
            kept: 100,
            pause: Duration::from_millis(20),
            rate: 0,
        };
        let load = Load::start(&lab.client, &plan)?;
        let flows = LoadOptions::default().max_flows;
        for (log_level, max_flows) in [(4, flows), (0, flows), (0, OTHER), (4, flows), (0, OTHER)] {
            let options = LoadOptions {
                max_flows,
                log_level,
                ..LoadOptions::default()
            };
            run_as(&lab, &world(&numbers), mode, &[], &options)?;
            load.advance(200, 0)
                .with_context(|| format!("{mode}, level {log_level}, {max_flows} flows"))?;
            for to in lab::tcp(10) {
                lab.client.get(to)?;
            }
        }
        load.finish()?;
        let mut attached = attached_to(&lab, lab.client.link())?;
        // Of a filter the line that names its program.
        attached.retain(|it| it.contains("tcx") || it.contains("handle"));
        assert_eq!(attached.len(), 2, "{mode}: {attached:?}");
    }
    Ok(())
}

/// Replies are looked up only if they come from an endpoint that some backend has: a bit that is missing would be a reply
/// that keeps the pod's address (C11).
#[test]
fn c11_the_bitmap_of_endpoints_follows_the_backends_across_a_restart() -> Result<()> {
    require_root!();
    let lab = Lab::new()?;
    let start = || -> Result<Bpf> {
        let mut loaded = load(&LoadOptions {
            pins: Some(Pins::new(Path::new(BPFFS))),
            max_services: 64,
            max_backends: 64,
            max_flows: 64,
            ..LoadOptions::default()
        })?;
        Ok(Bpf::new(&mut loaded)?)
    };
    let work = || -> Result<()> {
        Pins::new(Path::new(BPFFS)).prepare()?;
        let both = ["10.244.1.7:8080", "10.244.1.8:8080", "10.244.1.9:9090"];
        let before = world::service("10.96.0.10:80/tcp", &both).tables;
        let mut maps = start()?;
        maps.apply(&diff(&Tables::default(), &before))?;
        let has = |maps: &Bpf, host: u8, port: u16| {
            maps.has_endpoint(Addr::v4([10, 244, 1, host]), Be16::new(port))
        };
        let wanted = [
            (7, 8080, true),
            (8, 8080, true),
            (9, 9090, true),
            (9, 8080, false),
        ];
        for (host, port, is_there) in wanted {
            assert_eq!(has(&maps, host, port)?, is_there, "{host} {port}");
        }
        drop(maps);
        let mut maps = start()?;
        let after = world::service("10.96.0.10:80/tcp", &["10.244.1.7:8080"]).tables;
        let found = maps.dump()?;
        assert_eq!(found, before, "{found}");
        maps.apply(&diff(&found, &after))?;
        assert!(has(&maps, 7, 8080)?, "it is still there");
        assert!(
            has(&maps, 9, 9090)?,
            "a late reply from it is still to be known"
        );
        assert_eq!(maps.dump()?.backends.len(), 3);
        assert!(
            has(&maps, 9, 9090)?,
            "whether a flow leads there was not looked at yet"
        );
        for _ in 0..2 {
            let flows = maps.destinations();
            flows.found(flows.begin(), std::iter::empty());
            maps.dump()?;
        }
        assert!(
            !has(&maps, 9, 9090)?,
            "nobody has it any more, and no flow leads there"
        );
        Ok(())
    };
    lab.node
        .namespace()
        .run(|| work().map_err(io::Error::other))
        .context("start, and start again, over the same pins")
}

#[test]
fn b1_flows_are_spread_exactly_by_either_way_of_attaching() -> Result<()> {
    require_root!();
    for mode in modes() {
        let lab = running(&[11, 12, 13], mode)?;
        for to in lab::tcp(10) {
            let spread = lab.client.run(|| tally(200, || Ok(client::get(to)?.pod)));
            assert_even(&spread.with_context(|| format!("{mode} {to}"))?, 3);
        }
        for to in lab::udp(10) {
            let flows = udp_flows(&lab.client, to, 30)?;
            let answers = udp_answers(&flows).with_context(|| format!("{mode} {to}"))?;
            assert_even(&count(&answers), 3);
        }
    }
    Ok(())
}

#[test]
fn d2_bytes_and_checksums_are_right_by_either_way_of_attaching() -> Result<()> {
    require_root!();
    for mode in modes() {
        let lab = running(&[11], mode)?;
        bulk::with_all_offloads(&lab).with_context(|| mode.to_string())?;
    }
    Ok(())
}

#[test]
fn b7_no_endpoint_is_a_refusal_by_either_way_of_attaching() -> Result<()> {
    require_root!();
    for mode in modes() {
        let lab = running(&[], mode)?;
        for to in lab::tcp(10) {
            let error = lab.client.get(to).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionRefused,
                "{mode} {to}"
            );
        }
        for to in lab::udp(10) {
            let ask = || client::udp_ask(&client::udp_flow(to)?, "hello");
            let error = lab.client.run(ask).unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::ConnectionRefused,
                "{mode} {to}"
            );
        }
    }
    Ok(())
}

/// How long a connection that nobody answers is waited for.
const SOON: Duration = Duration::from_millis(200);

#[test]
fn e1_strangers_are_dropped_and_the_clusters_own_served_by_either_way_of_attaching() -> Result<()> {
    require_root!();
    for mode in modes() {
        let mut lab = Lab::new()?;
        lab.backend("web", 11)?;
        let stranger = Outside::join(&lab.node, "up0", 1)?;
        let far = Outside::join(&lab.node, "up1", 2)?;
        let world = world(&[11])
            .inside("172.20.2.0/24", Inside::Node)
            .inside("fd00:c0:2::/64", Inside::Pods);
        run(&lab, &world, mode, &[&stranger, &far])?;
        for to in lab::tcp(10) {
            let answer = far.namespace().run(|| client::get(to));
            assert_eq!(
                answer.with_context(|| format!("{mode} {to}"))?.pod,
                "web-11"
            );
            let open = || TcpStream::connect_timeout(&to, SOON);
            let error = stranger.namespace().run(open).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{mode} {to}");
        }
        for to in lab::udp(10) {
            let (_answer, from) = far.namespace().run(|| client::udp_from(to, "hello"))?;
            assert_eq!(from, to, "{mode}");
        }
        let work = || -> Result<()> {
            let counters = CounterMaps::open(&Pins::new(Path::new(BPFFS)))?;
            let dropped = counters.outcome(Outcome::FromOutside)?.packets;
            assert!(dropped >= 2, "{mode}: {dropped}");
            for link in ["up0", "up1"] {
                assert_eq!(detach_filters(link), mode == Mode::Clsact, "{mode} {link}");
            }
            Ok(())
        };
        let namespace = lab.node.namespace();
        namespace.run(|| work().map_err(io::Error::other))?;
    }
    Ok(())
}
