//! The cases, and what only the kernel can show.

use std::{io, time::Duration};

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
    let first = cases.first().expect("there are some");
    let mut kernel = Kernel::new(first.world.settings())?;
    let mut failures = Vec::new();
    for case in &cases {
        let node = Node::anonymous()?;
        let legs = case.world.lay(&node)?;
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
    let is_narrow = |case: &Case| case.world.only_port.is_some();
    let kernel_of = |wanted| {
        let first = cases.iter().find(|case| is_narrow(case) == wanted);
        Kernel::new(first.expect("there are some").world.settings())
    };
    let (mut kernel, mut narrow) = (kernel_of(false)?, kernel_of(true)?);
    let failures: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            let kernel = if is_narrow(case) {
                &mut narrow
            } else {
                &mut kernel
            };
            match kernel.empty().and_then(|()| kernel.run(case)) {
                Ok(result) => result.err(),
                Err(error) => Some(format!("{}: {error:?}\n", case.name)),
            }
        })
        .collect();
    all_hold(&cases, &failures);
    let all = EventKind::ALL.map(|(kind, _)| kind);
    assert_eq!(kernel.kinds, all.into(), "each kind of event has a case");
    Ok(())
}
