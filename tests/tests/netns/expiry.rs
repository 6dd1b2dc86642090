//! The pass that takes out flows that are over: the kernel's maps, and packets by test-run; the time is said, not waited for.

use std::{io, path::Path};

use anyhow::Result;
use aya::{TestRun as _, TestRunOptions};
use clusterip_agent::{
    clock::monotonic,
    dataplane::{
        Dataplane as _,
        bpf::Bpf,
        expired::FlowSweep,
        load::{FROM_POD, LoadOptions, Loaded, TO_POD, load},
        pins::Pins,
    },
    expiry::{Passed, pass},
    plan::{Tables, diff},
};
use clusterip_common::{
    abi::{BackendState, Settings},
    packet::Table,
    wire::{Addr, Be16},
};
use clusterip_tests::{
    agent::BPFFS,
    lab::Lab,
    packet::{Packet, udp},
    require_root, world,
};

const CLIENT: &str = "10.244.0.5";
const VIP: &str = "10.96.0.10:53";
const POD: &str = "10.244.1.7:53";
/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT`.
const PASS: i32 = -1;
const DROP: i32 = 2;
const SECOND: u64 = 1_000_000_000;
/// Longer than a flow of datagrams lives.
const LATER: u64 = 200 * SECOND;

struct Node {
    loaded: Loaded,
    maps: Bpf,
    tables: Tables,
    sweep: FlowSweep,
    settings: Settings,
}

impl Node {
    /// With a service of one backend.
    fn start() -> Result<Self> {
        let pins = Pins::new(Path::new(BPFFS));
        pins.prepare()?;
        let settings = world::settings();
        let mut loaded = load(&LoadOptions {
            pins: Some(pins.clone()),
            max_services: 64,
            max_backends: 64,
            max_flows: 1024,
            settings,
            ..LoadOptions::default()
        })?;
        let mut maps = Bpf::new(&mut loaded)?;
        let tables = world::service(&format!("{VIP}/udp"), &[POD]).tables;
        maps.apply(&diff(&Tables::default(), &tables))?;
        Ok(Self {
            loaded,
            maps,
            tables,
            sweep: FlowSweep::open(&pins)?,
            settings,
        })
    }

    /// What the program does with a packet, and what it is then.
    fn send(&mut self, program: &'static str, packet: &Packet) -> Result<(i32, Vec<u8>)> {
        let input = packet.bytes();
        let mut output = vec![0; input.len() + 64];
        let result = self.loaded.program(program)?.test_run(TestRunOptions {
            data_in: Some(&input),
            data_out: Some(&mut output),
            ..TestRunOptions::default()
        })?;
        output.truncate(usize::try_from(result.data_size_out)?);
        Ok((result.return_value.cast_signed(), output))
    }

    fn request(&mut self, port: u16) -> Result<(i32, Vec<u8>)> {
        self.send(FROM_POD, &udp(&format!("{CLIENT}:{port}"), VIP))
    }

    /// What the client is about to receive from the backend itself.
    fn answer(&mut self, port: u16) -> Result<(i32, Vec<u8>)> {
        self.send(TO_POD, &udp(POD, &format!("{CLIENT}:{port}")))
    }

    /// A pass when so much time has gone by.
    fn pass(&mut self, after: u64) -> Result<Passed> {
        let destinations = self.maps.destinations();
        let passed = pass(&mut self.sweep, &self.settings, &destinations, || {
            monotonic() + after
        })?;
        self.maps.dump()?;
        Ok(passed)
    }

    fn live(&self) -> Result<u64> {
        Ok(self.sweep.live()?.iter().sum())
    }
}

fn on_node(work: impl FnOnce(Node) -> Result<()> + Send) -> Result<()> {
    let lab = Lab::new()?;
    let work = || {
        let result = Node::start().and_then(work);
        result.map_err(|error| io::Error::other(format!("{error:#}")))
    };
    Ok(lab.node.namespace().run(work)?)
}

#[test]
fn c14_both_entries_of_a_flow_that_is_over_are_taken_out_and_no_others() -> Result<()> {
    require_root!();
    on_node(|mut node| {
        for port in 40_000..40_100 {
            node.request(port)?;
        }
        for port in 40_000..40_050 {
            node.answer(port)?;
        }
        assert_eq!((node.sweep.entries()?.len(), node.live()?), (200, 100));
        let none = Passed {
            seen: 200,
            removed: 0,
            mended: 0,
        };
        assert_eq!(node.pass(0)?, none, "C5: all of them live");
        let all = Passed {
            seen: 200,
            removed: 200,
            mended: 1,
        };
        assert_eq!(node.pass(LATER)?, all, "C5, C14");
        assert_eq!((node.sweep.entries()?.len(), node.live()?), (0, 0));
        Ok(())
    })
}

#[test]
fn c14_an_entry_that_a_packet_touched_since_it_was_judged_stays() -> Result<()> {
    require_root!();
    on_node(|mut node| {
        node.request(40_000)?;
        let judged = node.sweep.entries()?;
        let mut stale = judged.clone();
        for (table, key, flow) in &mut stale {
            assert_eq!(*table, Table::HalfOpen);
            flow.last_seen -= SECOND;
            assert!(
                !node.sweep.remove(*table, *key, *flow)?,
                "C14: it was touched"
            );
        }
        let mut kept = node.sweep.entries()?;
        kept.sort_by_key(|(_, key, _)| *key);
        let mut wanted = judged;
        wanted.sort_by_key(|(_, key, _)| *key);
        assert_eq!(kept, wanted, "put back as it was");
        for (table, key, flow) in kept {
            assert!(node.sweep.remove(table, key, flow)?);
            assert!(
                node.sweep.remove(table, key, flow)?,
                "not being there is as good"
            );
        }
        Ok(())
    })
}

/// An LRU table lets go of entries without a word, and least connections would believe in them for ever.
#[test]
fn b2_the_count_of_live_flows_is_mended() -> Result<()> {
    require_root!();
    on_node(|mut node| {
        for port in 40_000..40_010 {
            node.request(port)?;
        }
        for (table, key, flow) in node.sweep.entries()? {
            if key.source_port.get() >= 40_006 && key.destination_port.get() == 53 {
                node.sweep.remove(table, key, flow)?;
            }
        }
        assert_eq!(node.live()?, 10);
        assert_eq!(node.pass(0)?.mended, 1);
        assert_eq!(node.live()?, 6);
        assert_eq!(node.pass(0)?.mended, 0);
        Ok(())
    })
}

/// The backend is freed and forgotten, the flow is not: however often the tables are read anew in between, what its pod still
/// sends does not reach the client under the pod's address.
#[test]
fn c11_a_late_reply_is_known_as_long_as_its_flow_is() -> Result<()> {
    require_root!();
    on_node(|mut node| {
        node.request(40_000)?;
        let (action, translated) = node.answer(40_000)?;
        let untouched = udp(POD, &format!("{CLIENT}:40000")).bytes();
        assert!(action == PASS && translated != untouched, "C11");
        let nothing = Tables::default();
        node.maps.apply(&diff(&node.tables, &nothing))?;
        for _ in 0..5 {
            node.pass(0)?;
        }
        let left = node.maps.dump()?.backends;
        assert!(
            left.values().all(|it| it.state == BackendState::FREE),
            "{left:?}"
        );
        assert_eq!(node.answer(40_000)?.0, DROP, "C11");
        // Nobody waits for its answers any more.
        assert_eq!(node.pass(LATER)?.removed, 2);
        node.pass(LATER)?;
        let pod = Addr::v4([10, 244, 1, 7]);
        assert!(!node.maps.has_endpoint(pod, Be16::new(53))?);
        Ok(())
    })
}
