//! The packet cases on the host: the very functions that the kernel runs, over memory.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use std::collections::BTreeMap;

use clusterip_common::{
    abi::{Flow, FlowKey, Outcome},
    packet::{Delivery, Exit, Link, Verdict},
};
use clusterip_tests::{
    case::{Case, Hook, Seen, Step, compare},
    host::{HostEnv, Passage as _},
    vectors,
    world::{World, settings},
};

/// The entries of both tables.
fn both(env: &HostEnv) -> [BTreeMap<FlowKey, Flow>; 2] {
    [&env.flows, &env.half_open].map(|table| table.borrow().clone())
}

/// Another one in the same state.
fn twin(world: &World, env: &HostEnv) -> HostEnv {
    let twin = world.host();
    twin.tables.replace(env.tables.borrow().clone());
    twin.flows.replace(env.flows.borrow().clone());
    twin.half_open.replace(env.half_open.borrow().clone());
    twin.live.replace(env.live.borrow().clone());
    twin.services.replace(env.services.borrow().clone());
    twin.backends.replace(env.backends.borrow().clone());
    twin.outcomes.replace(env.outcomes.borrow().clone());
    twin.clock.set(env.clock.get());
    twin
}

/// Whether what a driver has sent on is what both hooks of TC would have made of it, in the packet, in the tables and in the
/// counters: all but the Ethernet header and the hop that it has taken.
fn same_as_tc(
    tc: &HostEnv,
    driver: &HostEnv,
    (input, seen): (&[u8], &Seen<Delivery>),
) -> Result<(), String> {
    let first = tc.pass(Hook::FromUplink, Link::Ethernet, input);
    let second = tc.pass(Hook::ToUplink, Link::Ethernet, &first.bytes);
    let is_v4 = input.get(12) == Some(&8);
    let hop = if is_v4 { 26 } else { 22 };
    let verdicts = [first.verdict, second.verdict];
    let same = [
        matches!(
            seen.verdict,
            Delivery::Send(_, told) | Delivery::EndHalfway(told) if told == verdicts
        ),
        second.bytes.get(hop..) == seen.bytes.get(hop..),
        both(tc) == both(driver),
        *tc.live.borrow() == *driver.live.borrow(),
        *tc.services.borrow() == *driver.services.borrow(),
        *tc.backends.borrow() == *driver.backends.borrow(),
        *tc.outcomes.borrow() == *driver.outcomes.borrow(),
    ];
    if same == [true; 7] {
        return Ok(());
    }
    Err(format!("TC says {verdicts:?}; the same: {same:?}"))
}

/// What a driver makes of a packet that TC has this verdict on.
const fn at_driver(verdict: Verdict) -> Delivery {
    match verdict {
        Verdict::Drop(Outcome::FromOutside | Outcome::MappedAddress | Outcome::Spoofed) => {
            Delivery::End(verdict)
        }
        _ => Delivery::Pass,
    }
}

fn run(case: &Case) -> Result<(), String> {
    let mut world = case.world.clone();
    let env = world.host();
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Frame {
                hook,
                link,
                input,
                verdict,
                output,
                exit,
            } => {
                let wanted = Seen {
                    verdict: *verdict,
                    bytes: output.clone(),
                };
                if (*hook, *link) == (Hook::FromUplink, Link::Ethernet) {
                    let wanted = Seen {
                        verdict: at_driver(*verdict),
                        bytes: input.clone(),
                    };
                    let before = both(&env);
                    compare(case, number, input, &wanted, &env.at_driver(input))?;
                    if before != both(&env) {
                        return Err(format!("{}: the driver has changed a flow", case.name));
                    }
                    env.exits.take();
                }
                let seen = env.pass(*hook, *link, input);
                compare(case, number, input, &wanted, &seen)?;
                let went = env.exits.take();
                if !case.world.is_way(&went, *exit) {
                    return Err(format!(
                        "{}, step {}: went {went:?}, wanted {exit:?}",
                        case.name,
                        number + 1
                    ));
                }
            }
            Step::Driver {
                input,
                verdicts,
                output,
            } => {
                let tc = twin(&world, &env);
                let seen = env.at_driver(input);
                if verdicts.is_some() {
                    same_as_tc(&tc, &env, (input, &seen))
                        .map_err(|text| format!("{}, step {}: {text}", case.name, number + 1))?;
                }
                let (verdicts, device) = match (verdicts, seen.verdict) {
                    (Some(verdicts), Delivery::Send(device, _)) => (Some(*verdicts), device),
                    (verdicts, _) => (*verdicts, 0),
                };
                let wanted = Seen {
                    verdict: match verdicts {
                        None => Delivery::Pass,
                        Some(it @ [_, Verdict::Drop(_)]) => Delivery::EndHalfway(it),
                        Some(it) => Delivery::Send(device, it),
                    },
                    bytes: output.clone(),
                };
                compare(case, number, input, &wanted, &seen)?;
                let went = env.exits.take();
                if verdicts.is_some() && went != [Exit::Driver] {
                    return Err(format!("{}, step {}: went {went:?}", case.name, number + 1));
                }
            }
            Step::Change(change) => {
                change(&mut world);
                env.tables.replace(world.tables.clone());
            }
            Step::Lose(side) => env.lose(*side),
            Step::Later(nanoseconds) => env.clock.set(env.clock.get() + nanoseconds),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clusterip_agent::model::inside::Inside;
    use clusterip_common::{
        abi::{Direction, ServiceFlags, ServiceId},
        packet::Env as _,
    };
    use clusterip_tests::{
        case::all_hold,
        packet::{tcp, udp},
        world::service,
    };

    use super::*;

    #[test]
    fn every_packet_case_holds_on_the_host() {
        run_all(&vectors::all());
    }

    /// Where no way leads past the stack, a packet is the same.
    #[test]
    fn d10_every_packet_case_holds_where_packets_may_go_past_the_stack() {
        let mut cases = vectors::all();
        for case in &mut cases {
            case.world.past_stack = true;
        }
        run_all(&cases);
    }

    fn run_all(cases: &[Case]) {
        let failures: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
        all_hold(cases, &failures);
    }

    #[test]
    fn c6_without_room_for_both_entries_nothing_is_sent_and_nothing_stays() {
        let world = service("10.96.0.10:80/tcp", &["10.244.1.7:8080"]);
        let syn = tcp("10.244.0.5:31337", "10.96.0.10:80").syn().bytes();
        for capacity in [0, 1] {
            let mut env = HostEnv::new(world.tables.clone(), settings());
            env.capacity = capacity;
            let seen = env.pass(Hook::FromPod, Link::Ethernet, &syn);
            assert_eq!(
                seen.verdict,
                Verdict::Drop(Outcome::FlowTableFull),
                "room for {capacity}"
            );
            assert_eq!(
                seen.bytes, syn,
                "an untranslated packet is dropped as it is"
            );
            assert!(env.half_open.borrow().is_empty(), "{:?}", env.half_open);
        }
    }

    #[test]
    fn c12_a_direct_flow_that_cannot_be_kept_track_of_passes() {
        let world = service("10.96.0.10:80/udp", &["10.244.1.7:8080"]);
        let (client, pod) = ("10.244.0.5:31337", "10.244.1.7:8080");
        let mut env = HostEnv::new(world.tables, settings());
        let passes = Verdict::Pass(Outcome::NotOurs);
        let asked = env.pass(Hook::FromPod, Link::Ethernet, &udp(client, pod).bytes());
        assert_eq!(asked.verdict, passes);
        // It would move to the table of those that talk.
        env.capacity = 0;
        let answer = udp(pod, client).bytes();
        let answered = env.pass(Hook::ToPod, Link::Ethernet, &answer);
        assert_eq!((answered.verdict, answered.bytes), (passes, answer));
    }

    #[test]
    fn c7_the_loser_of_a_race_follows_the_winner() {
        let (first, second) = ("10.244.1.1:8080", "10.244.1.2:8080");
        lose_a_race(&[first, second], second);
    }

    #[test]
    fn c7_a_flow_is_counted_once_where_both_chose_the_same() {
        let only = "10.244.1.1:8080";
        lose_a_race(&[only], only);
    }

    /// Two CPUs have the same SYN; the faster one, whose turn is the second, chose `chosen`.
    fn lose_a_race(pods: &[&str], chosen: &str) {
        let world = service("10.96.0.10:80/tcp", pods);
        let (client, vip) = ("10.244.0.5:31337", "10.96.0.10:80");
        let winner = HostEnv::new(world.tables.clone(), settings());
        let _first = winner.turn(ServiceId(0));
        let _second = winner.pass(
            Hook::FromPod,
            Link::Ethernet,
            &tcp(client, vip).syn().bytes(),
        );
        let entry = winner
            .half_open
            .borrow()
            .iter()
            .find(|(_, flow)| flow.direction == Direction::REQUEST)
            .map(|(key, flow)| (*key, *flow));

        let loser = HostEnv::new(world.tables, settings());
        loser.race.replace(entry);
        let seen = loser.pass(
            Hook::FromPod,
            Link::Ethernet,
            &tcp(client, vip).syn().bytes(),
        );
        assert_eq!(seen.verdict, Verdict::Translated(Outcome::NewFlow));
        assert_eq!(seen.bytes, tcp(client, chosen).syn().bytes());
        let entries = loser.half_open.borrow().len();
        assert_eq!(entries, 1, "the loser makes no entry of its own");
        let services = loser.services.borrow();
        let counted = services.values().all(|counters| counters.flows == 0);
        assert!(counted, "the winner counted the flow");
    }

    /// Two CPUs have SYNs of two clients with one port, and both found it free: the slower one tries another port at once.
    #[test]
    fn e8_the_loser_of_a_race_for_a_port_of_the_node_gets_another_one() {
        let (vip, port) = ("10.96.0.10:80/tcp", "192.0.2.1:30080/tcp");
        let world = service(vip, &["10.244.1.7:8080"])
            .inside("10.244.0.0/16", Inside::Pods)
            .node("192.0.2.1")
            .towards_outside(port, vip, [ServiceFlags::MASQUERADE; 2]);
        let call = |env: &HostEnv, client: &str| {
            let syn = tcp(client, "192.0.2.1:30080").syn().bytes();
            env.pass(Hook::FromUplink, Link::Ethernet, &syn).verdict
        };
        let shown = |env: &HostEnv| -> BTreeMap<FlowKey, Flow> {
            let flows = env.half_open.borrow();
            let shown = flows
                .iter()
                .filter(|(_, flow)| flow.direction == Direction::UNMASQUERADE);
            shown.map(|(key, flow)| (*key, *flow)).collect()
        };
        let winner = HostEnv::new(world.tables.clone(), settings());
        let _served = call(&winner, "198.51.100.8:3000");
        let theirs = shown(&winner);
        let (key, flow) = theirs.first_key_value().expect("the winner's");

        let loser = HostEnv::new(world.tables, settings());
        loser.race.replace(Some((*key, *flow)));
        assert_eq!(
            call(&loser, "198.51.100.7:3000"),
            Verdict::Translated(Outcome::NewFlow)
        );
        let both = shown(&loser);
        assert_eq!(both.len(), 2, "a port each: {both:#?}");
        assert_eq!(both.get(key), Some(flow), "nothing is overwritten");
    }
}
