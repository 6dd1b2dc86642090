//! A table of flows that is read as a whole, while nobody writes: each entry is there, and once.

use std::{collections::HashSet, io, path::Path};

use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};
use clusterip_agent::dataplane::{
    flows::FlowMaps,
    load::{LoadOptions, load},
    pins::Pins,
    raw::Raw,
};
use clusterip_common::{
    abi::{BackendId, Direction, Flow, FlowKey, FlowState, maps},
    wire::{Addr, Be16, Proto},
};
use clusterip_tests::{agent::BPFFS, lab::Lab, require_root, world};

const ADDRESS: Addr = Addr::v4([10, 96, 0, 10]);

fn key(number: u32) -> FlowKey {
    FlowKey {
        source: Addr::from(std::net::IpAddr::V4(number.into())),
        destination: ADDRESS,
        source_port: Be16::new(40_000),
        destination_port: Be16::new(80),
        protocol: Proto::TCP,
        zero: 0,
        zero_tail: 0,
    }
}

fn flow(number: u32) -> Flow {
    Flow {
        last_seen: u64::from(number),
        address: ADDRESS,
        backend: BackendId(number),
        generation: 0,
        port: Be16::new(80),
        client_port: Be16::new(40_000),
        direction: Direction::REQUEST,
        state: FlowState::ESTABLISHED,
        node_port: Be16::new(0),
    }
}

/// So many entries in a table with room for so many: (read, different, whose value is another key's).
fn read(entries: u32, room: u32) -> Result<(usize, usize, usize)> {
    let pins = Pins::new(Path::new(BPFFS));
    pins.prepare()?;
    let _loaded = load(&LoadOptions {
        pins: Some(pins.clone()),
        max_services: 64,
        max_backends: 64,
        max_flows: room,
        settings: world::settings(),
        ..LoadOptions::default()
    })?;
    let map = Map::from_map_data(MapData::from_pin(pins.map(&maps::FLOWS))?)?;
    let mut table: HashMap<MapData, Raw<FlowKey>, Raw<Flow>> = HashMap::try_from(map)?;
    for number in 0..entries {
        table.insert(Raw(key(number)), Raw(flow(number)), 0)?;
    }
    let (mut found, mut different, mut foreign) = (0, HashSet::new(), 0);
    FlowMaps::open(&pins)?.flows(|key, flow, answered| {
        found += 1;
        foreign += usize::from(!answered || self::key(flow.backend.0) != key);
        different.insert(key);
    })?;
    Ok((found, different.len(), foreign))
}

fn on_node(entries: u32, room: u32) -> Result<(usize, usize, usize)> {
    let lab = Lab::new()?;
    let work = || read(entries, room).map_err(|error| io::Error::other(format!("{error:#}")));
    Ok(lab.node.namespace().run(work)?)
}

#[test]
fn a_large_table_is_read_by_two_and_no_entry_is_missed_or_seen_twice() -> Result<()> {
    require_root!();
    // Some 37 batches: the last one of the first half reaches into the second half.
    assert_eq!(on_node(150_000, 262_144)?, (150_000, 150_000, 0));
    Ok(())
}

#[test]
fn a_large_table_with_few_entries_is_read_whole() -> Result<()> {
    require_root!();
    for entries in [0, 1, 50, 5_000] {
        let all = usize::try_from(entries)?;
        assert_eq!(on_node(entries, 262_144)?, (all, all, 0), "{entries}");
    }
    Ok(())
}

#[test]
fn a_small_table_is_read_whole() -> Result<()> {
    require_root!();
    assert_eq!(on_node(900, 4096)?, (900, 900, 0));
    Ok(())
}
