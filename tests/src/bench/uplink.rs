//! What comes in by an uplink, at its driver: the packet function with a turn back to the wire, beside the turn alone.
//!
//! Frames are live (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18): the kernel makes them, runs the program, and does what it says. The
//! uplink is a veth whose other end has a program too, so that its driver takes frames as they are, and drops them: what is measured
//! has the whole way to there in it, on one processor. A frame meets the program more than once; here the backend has the service's
//! own address and port, so that every pass does the whole work and changes nothing.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    TestRun as _, TestRunOptions,
    programs::{TestRunAttrs, Xdp, XdpMode},
};
use bytes::Bytes;
use clusterip_agent::{
    dataplane::{
        Dataplane as _,
        bpf::Bpf,
        load::{DRIVER_REFERENCES, FROM_POD, LoadOptions, Loaded, TO_POD, load},
    },
    model::inside::Inside,
    plan::{Tables, diff},
};
use nix::net::if_::if_nametoindex;

use super::{
    frames::Frames,
    path::clock::Clock,
    table::{Cell, Line, Table},
};
use crate::{
    Node, Outside,
    driver::context,
    namespace::Namespace,
    packet::udp,
    world::{service, settings},
};

/// The node's device.
const UPLINK: &str = "up0";
/// The other machine's, as [`Outside`] names it.
const PORT: &str = "port1";
/// Frames of one call into the kernel's driver.
const BATCH: u32 = 64;
/// Trials of the clocks, and frames of one: so few that the rest of the machine does not come between in all of them.
const TRIALS: usize = 40;
const TRIAL: u32 = 512;
/// A client on another node, and a service.
const FAMILIES: [(&str, &str, &str); 2] = [
    ("IPv4", "10.244.1.5:31337", "10.96.0.10:53"),
    ("IPv6", "[fd00:10:244:1::5]:31337", "[fd00:10:96::a]:53"),
];
/// Pods of other nodes.
const INSIDE: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
const ROWS: [&str; 2] = ["turn alone (XDP_TX)", "service, known flow"];

/// For figures.
pub const FULL: Frames = Frames {
    rounds: 31,
    frames: 1 << 18,
};

/// Measures, and makes the table.
///
/// # Errors
/// Not root, or the kernel refuses.
pub fn table(scale: Frames) -> Result<Table> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "bench uplink runs BPF programs: it needs root"
    );
    let node = Node::anonymous()?;
    let outside = Outside::join(&node, UPLINK, 1)?;
    let mut columns = Vec::new();
    for (name, client, vip) in FAMILIES {
        let (client, vip): (SocketAddr, SocketAddr) = (client.parse()?, vip.parse()?);
        let wire = Wire::new(&node, &outside, client, vip);
        columns.push(
            wire.and_then(|mut wire| wire.measure(scale))
                .context(name)?,
        );
    }
    let rows = ROWS.iter().enumerate().map(|(place, name)| Line {
        name: (*name).to_owned(),
        cells: columns
            .iter()
            .map(|column| column.get(place).copied())
            .collect(),
    });
    Ok(Table {
        name: "uplink".to_owned(),
        title: "From an uplink, at its driver".to_owned(),
        unit: "x turn alone".to_owned(),
        absolute: "packets/s".to_owned(),
        columns: FAMILIES.map(|(name, ..)| name.to_owned()).to_vec(),
        rows: rows.collect(),
        notes: vec![format!(
            "Live frames of 64 bytes on a veth with native XDP at both ends, on one processor, {} rounds in turn. The \
             program measured here is the bench's, of the same packet function as the agent's own.",
            scale.rounds
        )],
    })
}

/// The programs, and the wire they send to.
struct Wire<'a> {
    loaded: Loaded,
    node: &'a Node,
    outside: &'a Outside,
    frame: Bytes,
    device: u32,
}

impl<'a> Wire<'a> {
    fn new(
        node: &'a Node,
        outside: &'a Outside,
        client: SocketAddr,
        vip: SocketAddr,
    ) -> Result<Self> {
        let mut loaded = load(&LoadOptions {
            settings: settings(),
            ..LoadOptions::default()
        })?;
        let mut world = service(&format!("{vip}/udp"), &[&vip.to_string()]);
        for range in INSIDE {
            world = world.inside(range, Inside::Pods);
        }
        // Before the maps are taken, and closed.
        for name in DRIVER_REFERENCES {
            let program = loaded.driver_program(name)?;
            program.load().with_context(|| format!("load {name}"))?;
        }
        Bpf::new(&mut loaded)?.apply(&diff(&Tables::default(), &world.tables))?;
        let (client, vip) = (client.to_string(), vip.to_string());
        let request = udp(&client, &vip).payload([0; 22]).bytes();
        let reply = udp(&vip, &client).payload([0; 22]).bytes();
        // A flow that both sides have spoken in.
        for (name, frame) in [(FROM_POD, &request), (TO_POD, &reply)] {
            loaded.program(name)?.test_run(TestRunOptions {
                data_in: Some(frame),
                ..TestRunOptions::default()
            })?;
        }
        let index = node.namespace().run(|| Ok(if_nametoindex(UPLINK)?))?;
        let mut wire = Self {
            loaded,
            node,
            outside,
            frame: request,
            device: index,
        };
        wire.attach()?;
        Ok(wire)
    }

    /// The other end drops what comes; the link goes with the programs.
    fn attach(&mut self) -> Result<()> {
        let [_, _, sink, _] = DRIVER_REFERENCES;
        let machine = self.outside.namespace().clone();
        let program = self.loaded.driver_program(sink)?;
        machine
            .run(|| {
                let index = if_nametoindex(PORT)?;
                let attached = program.attach_to_if_index(index, XdpMode::Driver);
                attached.map(drop).map_err(io::Error::other)
            })
            .context("attach the program at the other end")
    }

    /// The turn alone and the service, in turn: A B A B.
    fn measure(&mut self, scale: Frames) -> Result<[Cell; 2]> {
        let [service, turn, ..] = DRIVER_REFERENCES;
        let clock = self.clock(turn)?;
        let rate = |(wall, thread): (Duration, Duration)| {
            let spent = match clock {
                Clock::Wall => wall,
                Clock::Thread => thread,
            };
            f64::from(scale.frames) / spent.as_secs_f64()
        };
        let (mut ratios, mut alone, mut served) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=scale.rounds {
            let base = rate(self.send(turn, scale.frames)?);
            let before = self.arrived()?;
            let rate = rate(self.send(service, scale.frames)?);
            let arrived = self.arrived()? - before;
            ensure!(
                arrived >= u64::from(scale.frames),
                "{arrived} of {} frames arrived",
                scale.frames
            );
            // The first round warms the caches.
            if round > 0 {
                ratios.push(rate / base);
                alone.push(base);
                served.push(rate);
            }
        }
        let ones = vec![1.0; alone.len()];
        Ok([
            Cell::of(ones).made_of(alone),
            Cell::of(ratios).made_of(served),
        ])
    }

    /// The one to go by: see [`Clock`].
    fn clock(&mut self, program: &'static str) -> Result<Clock> {
        let mut parts = Vec::new();
        for _ in 0..TRIALS {
            let (wall, thread) = self.send(program, TRIAL)?;
            parts.push(thread.as_secs_f64() / wall.as_secs_f64());
        }
        Ok(Clock::fitting(&parts))
    }

    /// Sends so many frames: the time on the wall, and what the thread had of the processor.
    fn send(&mut self, program: &'static str, frames: u32) -> Result<(Duration, Duration)> {
        let Self {
            loaded,
            node,
            frame,
            device,
            ..
        } = self;
        let program: &mut Xdp = loaded.driver_program(program)?;
        live(node.namespace(), program, (frame, *device), (frames, BATCH))
    }

    /// Frames that the other end has seen.
    fn arrived(&self) -> Result<u64> {
        received(self.outside.namespace(), PORT)
    }
}

/// Runs a program over so many live frames, of which a device is the one they came by: the time on the wall, and what the thread had
/// of the processor.
///
/// # Errors
/// The kernel refuses.
pub(super) fn live(
    machine: &Namespace,
    program: &mut Xdp,
    (frame, device): (&Bytes, u32),
    (frames, batch): (u32, u32),
) -> Result<(Duration, Duration)> {
    let context = context(frame.len(), device);
    let times = machine.run(|| {
        super::path::pin_to_last()?;
        let (wall, thread) = (Clock::Wall.now()?, Clock::Thread.now()?);
        let run = program.test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: frames,
            attrs: TestRunAttrs::new().xdp_live_frames(batch),
            ..TestRunOptions::default()
        });
        run.map_err(io::Error::other)?;
        Ok((Clock::Wall.since(wall)?, Clock::Thread.since(thread)?))
    });
    times.context("run the program over live frames (Linux 5.18)")
}

/// Packets that a device has received.
///
/// # Errors
/// There is no such device.
pub(super) fn received(machine: &Namespace, device: &str) -> Result<u64> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let text = machine.run(read)?;
    let prefix = format!("{device}:");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&prefix));
    // `port1: bytes packets ...`
    let mut fields = line.context("no such device")?.split_whitespace();
    let packets = fields.nth(1).context("no count")?;
    packets.parse().context("no count")
}
