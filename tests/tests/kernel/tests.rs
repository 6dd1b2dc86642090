//! The cases, and what only the kernel can show.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io,
    time::Duration,
};

use clusterip_tests::{Node, case::all_hold, packet::udp, require_root, world::service};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    time::{ClockId, clock_getres},
    unistd::Pid,
};

use super::*;

/// What the agent and the programs call now is the same: ages of flows are told by one, made by the other (C5, C15).
#[test]
fn a_flow_is_stamped_with_the_time_of_the_monotonic_clock() -> anyhow::Result<()> {
    require_root!();
    let mut kernel = Kernel::new(settings())?;
    let vip = "10.96.0.10:53";
    kernel.become_(&service(&format!("{vip}/udp"), &["10.244.1.7:53"]).tables)?;
    let before = coarse()?;
    let frame = udp("10.244.0.5:40000", vip).bytes();
    kernel.pass(Hook::FromPod, Link::Ethernet, &frame)?;
    let after = coarse()?;
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?;
    let slack = 2 * u64::try_from(Duration::from(tick).as_nanos())?;
    let [_, half_open] = &kernel.flows;
    let flows: Result<Vec<_>, _> = half_open.iter().collect();
    let seen: Vec<u64> = flows?.iter().map(|(_, Raw(flow))| flow.last_seen).collect();
    assert_eq!(seen.len(), 2, "an entry of each side");
    for seen in seen {
        assert!(
            (before - slack..=after + slack).contains(&seen),
            "C15: stamped with {seen}, sent between {before} and {after}"
        );
    }
    Ok(())
}

/// The programs once for each of the settings that cases have.
#[derive(Default)]
struct Kernels(BTreeMap<(Option<u16>, u64), Kernel>);

impl Kernels {
    fn of(&mut self, world: &World) -> anyhow::Result<&mut Kernel> {
        let which = (world.only_port, world.direct_return);
        Ok(match self.0.entry(which) {
            Entry::Occupied(kernel) => kernel.into_mut(),
            Entry::Vacant(place) => place.insert(Kernel::new(world.settings())?),
        })
    }
}

/// What is remembered of ways is each processor's own: on another one a case would meet what earlier cases have left there.
fn stay_on_this_processor() -> nix::Result<()> {
    let mut this = CpuSet::new();
    this.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &this)
}

#[test]
fn d10_every_case_of_a_packet_past_the_stack_holds_in_the_kernel() -> anyhow::Result<()> {
    require_root!();
    stay_on_this_processor()?;
    let mut cases = vectors::all();
    cases.retain(|case| !case.world.legs.is_empty());
    let mut kernels = Kernels::default();
    let mut failures = Vec::new();
    for case in &cases {
        let node = Node::anonymous()?;
        let legs = case.world.lay(&node)?;
        let kernel = kernels.of(&case.world)?;
        kernel.legs = legs.iter().map(|(index, _)| *index).collect();
        kernel.devices.follow(&legs.into_iter().collect())?;
        let result = node.namespace().run(|| {
            let result = kernel.run_within_a_period(case);
            result.map_err(|error| io::Error::other(format!("{}: {error:?}", case.name)))
        });
        failures.extend(result?.err());
    }
    all_hold(&cases, &failures);
    Ok(())
}

#[test]
fn every_packet_case_holds_in_the_kernel() -> anyhow::Result<()> {
    require_root!();
    every_case(|world| world)
}

/// Where no way leads past the stack, a packet is the same.
#[test]
fn d10_every_packet_case_holds_in_the_kernel_where_packets_may_go_past_the_stack()
-> anyhow::Result<()> {
    require_root!();
    every_case(World::past_stack)
}

/// Those that have no ways of their own.
fn every_case(change: fn(World) -> World) -> anyhow::Result<()> {
    let mut cases = vectors::all();
    cases.retain(|case| case.world.legs.is_empty());
    for case in &mut cases {
        case.world = change(std::mem::take(&mut case.world));
    }
    let mut kernels = Kernels::default();
    let mut failures = Vec::new();
    for case in &cases {
        let kernel = kernels.of(&case.world)?;
        match kernel.empty().and_then(|()| kernel.run(case)) {
            Ok(result) => failures.extend(result.err()),
            Err(error) => failures.push(format!("{}: {error:?}\n", case.name)),
        }
    }
    all_hold(&cases, &failures);
    let all = EventKind::ALL.map(|(kind, _)| kind);
    let seen = kernels.0.values().flat_map(|kernel| kernel.kinds.iter());
    assert_eq!(
        seen.copied().collect::<BTreeSet<_>>(),
        all.into(),
        "each kind of event has a case"
    );
    Ok(())
}
