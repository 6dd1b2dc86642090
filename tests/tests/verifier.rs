//! The verifier accepts every program, and how much it had to look at.
#![expect(
    unused_crate_dependencies,
    reason = "the targets of this crate share its dependencies"
)]

use clusterip_agent::dataplane::load::{LoadOptions, PROGRAMS, SOCKET_PROGRAMS, UPLINK_XDP, load};
use clusterip_tests::world::settings;

/// Far below the kernel's million, so that what makes the programs hard to follow is seen when it comes in.
const MOST_INSTRUCTIONS: u32 = 200_000;

/// aya-log's level for "debug".
const DEBUG: u8 = 4;

/// What of the programs may be needed: the verifier leaves out what settings keep from being reached.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// What is needed without an option.
    Usual,
    /// Ways past the stack, and direct server return.
    Everything,
}

fn verified(extent: Extent, log_level: u8) -> anyhow::Result<Vec<(&'static str, u32, u32)>> {
    let mut settings = settings();
    // Else the verifier would leave the comparison out.
    settings.socket_netns = 1;
    if matches!(extent, Extent::Everything) {
        settings.past_stack = 1;
        settings.direct_return = 2;
    }
    let mut loaded = load(&LoadOptions {
        max_services: 16,
        max_backends: 16,
        max_flows: 1024,
        settings,
        log_level,
        ..LoadOptions::default()
    })?;
    PROGRAMS
        .into_iter()
        .chain(SOCKET_PROGRAMS)
        .map(|name| {
            if name != UPLINK_XDP && !SOCKET_PROGRAMS.contains(&name) {
                // Some are verified when they are wanted.
                loaded.program(name)?;
            }
            let info = loaded.info(name)?;
            let count = info.verified_instruction_count().unwrap_or_default();
            Ok((name, count, info.size_jitted()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use clusterip_tests::require_root;

    use super::*;

    #[test]
    fn every_program_loads_and_stays_easy_to_verify() -> anyhow::Result<()> {
        require_root!();
        for extent in [Extent::Usual, Extent::Everything] {
            for (name, instructions, jitted) in verified(extent, 0)? {
                eprintln!(
                    "{name}, {extent:?}: {instructions} instructions verified, {jitted} bytes of machine code"
                );
                assert!(
                    (1..MOST_INSTRUCTIONS).contains(&instructions),
                    "{name}, {extent:?}: {instructions}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn diagnostics_load_too_and_cost_nothing_when_off() -> anyhow::Result<()> {
        require_root!();
        let both = verified(Extent::Usual, 0)?
            .into_iter()
            .zip(verified(Extent::Usual, DEBUG)?);
        // The programs at sockets have nothing to say.
        for ((name, off, small), (_, on, large)) in both.take(PROGRAMS.len()) {
            eprintln!("{name}: {off} instructions verified without diagnostics, {on} with");
            assert!(
                small < large,
                "{name}: {small} bytes of machine code without diagnostics, {large} with"
            );
            assert!(
                on < MOST_INSTRUCTIONS,
                "{name}: {on} instructions with diagnostics"
            );
        }
        for (name, on, _) in verified(Extent::Everything, DEBUG)? {
            eprintln!("{name}, everything: {on} instructions verified with diagnostics");
        }
        Ok(())
    }
}
