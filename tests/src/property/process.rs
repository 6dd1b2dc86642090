//! A series of frames over tables: each is translated well, answered well, or left as it is.

use clusterip_common::{
    abi::{BackendId, Direction, Flow, FlowKey, FlowState, Outcome},
    packet::{Link, Verdict},
    wire::{Addr, Be16, Proto},
};

use super::{
    choices::Choices,
    reading::{Piece, Reading, read},
    scene,
    scrutiny::{Passage, is_for_service},
};
use crate::{
    case::Hook,
    host::{HostEnv, Passage as _},
    packet::dump,
    world::{World, settings},
};

/// Frames of one series.
const FRAMES: usize = 32;

/// A series of frames, with changes of the tables between them.
///
/// # Panics
/// A frame was not treated as it must be.
pub fn process(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    // Either an agent's tables, or such as no agent writes.
    let is_honest = !choices.once_in(4);
    let mut world = scene::world(&mut choices);
    if !is_honest {
        spoil(&mut choices, &mut world);
    }
    let mut env = HostEnv::new(world.tables.clone(), settings());
    env.capacity = choices.pick(&[1_000, 1_000, 1_000, 3]);
    if !is_honest {
        for _ in 0..choices.below(8) {
            let (key, flow) = any_flow(&mut choices);
            env.flows.borrow_mut().insert(key, flow);
        }
    }
    for _ in 0..FRAMES {
        if !choices.are_left() {
            break;
        }
        match choices.below(8) {
            0 => {
                scene::change(&mut choices, &mut world);
                env.tables.replace(world.tables.clone());
            }
            1 => {
                let seconds = choices.pick(&[2, 11, 31, 99, 100]);
                env.clock.set(env.clock.get() + seconds * 1_000_000_000);
            }
            _ => {
                let hook = scene::hook(&mut choices);
                let passage = {
                    let (frame, link) = scene::frame(&mut choices);
                    pass(&env, (hook, link), &frame)
                };
                passage.is_sound();
                if is_honest {
                    passage.is_lawful(&world);
                    comes_back(&env, &passage);
                }
            }
        }
    }
}

pub(super) fn pass(env: &HostEnv, (hook, link): (Hook, Link), input: &[u8]) -> Passage {
    let seen = env.pass(hook, link, input);
    Passage {
        hook,
        link,
        input: input.to_vec().into(),
        verdict: seen.verdict,
        output: seen.bytes,
    }
}

/// The backend's answer to a translated request reaches the client in the name of what it called (C11).
fn comes_back(env: &HostEnv, there: &Passage) {
    let (Some(asked), Some(request)) = (
        read(&there.input, there.link),
        read(&there.output, there.link),
    ) else {
        return;
    };
    let is_from_client = matches!(there.hook, Hook::FromPod | Hook::FromUplink);
    let is_request = is_from_client && is_for_service(asked.destination);
    let is_flow = matches!(there.verdict, Verdict::Translated(_)) && !asked.is_icmp();
    if !is_request || !is_flow || asked.piece != Piece::Whole {
        return;
    }
    let answer = swapped(&there.output, &request);
    let back = pass(env, (Hook::ToPod, there.link), &answer);
    back.is_sound();
    // C6: it is what there was no room to make.
    if back.verdict == Verdict::Drop(Outcome::FlowTableFull) && env.capacity < 100 {
        return;
    }
    let wanted = swapped(&there.input, &asked);
    assert!(
        matches!(back.verdict, Verdict::Translated(_))
            && same_ends(&back.output, &wanted, there.link),
        "C11: {:?} for the answer to\n{}\n which went on as\n{}\n comes back as\n{}",
        back.verdict,
        dump(&there.input),
        dump(&there.output),
        dump(&back.output),
    );
}

/// The packet with its ends exchanged, which leaves every sum as it is.
fn swapped(frame: &[u8], packet: &Reading) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (first, length) = if packet.is_v4() {
        (packet.l3 + 12, 4)
    } else {
        (packet.l3 + 8, 16)
    };
    let (sources, destinations) = frame[first..].split_at_mut(length);
    sources.swap_with_slice(&mut destinations[..length]);
    frame[packet.l4..packet.l4 + 4].rotate_left(2);
    frame
}

/// Whether both frames have the same addresses and ports.
fn same_ends(frame: &[u8], other: &[u8], link: Link) -> bool {
    let ends = |frame: &[u8]| {
        let packet = read(frame, link)?;
        Some((packet.source, packet.destination, packet.ports(frame)))
    };
    ends(frame) == ends(other)
}

/// Numbers that no agent writes: a map may hold any.
fn spoil(choices: &mut Choices<'_>, world: &mut World) {
    for head in world.tables.services.values_mut() {
        if choices.once_in(4) {
            head.slot_count = u32::from(choices.word());
            head.first_slot.0 = u32::MAX - u32::from(choices.byte());
            head.algorithm.0 = u32::from(choices.byte());
            head.flags.0 = u32::from(choices.byte());
            head.affinity = u32::MAX - u32::from(choices.byte());
        }
    }
    for backend in world.tables.backends.values_mut() {
        if choices.once_in(4) {
            backend.address = any_address(choices);
            backend.state.0 = u16::from(choices.byte());
            backend.service.0 = u32::from(choices.byte());
        }
    }
}

fn any_address(choices: &mut Choices<'_>) -> Addr {
    choices.pick(&[
        Addr::v4([10, 244, 0, 5]),
        Addr::v4([10, 244, 1, 1]),
        Addr::v4([10, 96, 0, 10]),
        Addr::UNSPECIFIED,
        Addr::v6([0xff; 16]),
    ])
}

fn any_flow(choices: &mut Choices<'_>) -> (FlowKey, Flow) {
    let port = |choices: &mut Choices<'_>| choices.pick(&[80, 53, 8080, 31_337].map(Be16::new));
    let key = FlowKey {
        source: any_address(choices),
        destination: any_address(choices),
        source_port: port(choices),
        destination_port: port(choices),
        protocol: choices.pick(&[Proto::TCP, Proto::UDP, Proto::SCTP]),
        zero: 0,
        zero_tail: 0,
    };
    let flow = Flow {
        last_seen: u64::from(choices.byte()) << 32,
        address: any_address(choices),
        backend: BackendId(u32::from(choices.byte() % 8)),
        generation: 1,
        port: port(choices),
        client_port: port(choices),
        direction: Direction(choices.byte() % 3),
        state: FlowState(choices.byte() % 5),
        node_port: Be16::new(0),
    };
    (key, flow)
}
