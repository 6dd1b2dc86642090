//! The packet cases on the host: the very functions that the kernel runs, over memory.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use bytes::Bytes;
use clusterip_common::packet::{self, SliceFrame, Verdict};
use clusterip_tests::{
    case::{Case, Hook, Seen, Step, compare},
    host::HostEnv,
    vectors,
    world::settings,
};

/// Room for an answer that is longer than the frame it answers.
const ROOM: usize = 128;

fn run(case: &Case) -> Result<(), String> {
    let mut world = case.world.clone();
    let env = HostEnv::new(world.tables.clone(), settings());
    for (number, step) in case.steps.iter().enumerate() {
        match step {
            Step::Frame {
                hook,
                input,
                verdict,
                output,
            } => {
                let wanted = Seen {
                    verdict: *verdict,
                    bytes: output.clone(),
                };
                compare(case, number, input, &wanted, &pass(&env, *hook, input))?;
            }
            Step::Change(change) => {
                change(&mut world);
                env.tables.replace(world.tables.clone());
            }
            Step::Later(nanoseconds) => env.clock.set(env.clock.get() + nanoseconds),
        }
    }
    Ok(())
}

fn pass(env: &HostEnv, hook: Hook, input: &Bytes) -> Seen<Verdict> {
    let mut buffer = input.to_vec();
    buffer.resize(input.len() + ROOM, 0xee);
    let mut frame = SliceFrame::new(&mut buffer, input.len());
    let verdict = match hook {
        Hook::FromPod => packet::from_pod(&mut frame, env),
        Hook::ToPod => packet::to_pod(&mut frame, env),
    };
    Seen {
        verdict,
        bytes: Bytes::copy_from_slice(frame.bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_case_holds_on_the_host() {
        let cases = vectors::all();
        let failures: Vec<String> = cases.iter().filter_map(|case| run(case).err()).collect();
        assert!(
            failures.is_empty(),
            "{} of {} cases:\n{}",
            failures.len(),
            cases.len(),
            failures.join("\n")
        );
    }
}
