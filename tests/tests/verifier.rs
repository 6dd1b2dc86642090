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

fn verified(log_level: u8) -> anyhow::Result<Vec<(&'static str, u32, u32)>> {
    let mut settings = settings();
    // Else the verifier would leave the comparison out.
    settings.socket_netns = 1;
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
        for (name, instructions, jitted) in verified(0)? {
            eprintln!(
                "{name}: {instructions} instructions verified, {jitted} bytes of machine code"
            );
            assert!(
                (1..MOST_INSTRUCTIONS).contains(&instructions),
                "{name}: {instructions}"
            );
        }
        Ok(())
    }

    #[test]
    fn diagnostics_load_too_and_cost_nothing_when_off() -> anyhow::Result<()> {
        require_root!();
        let both = verified(0)?.into_iter().zip(verified(DEBUG)?);
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
        Ok(())
    }
}
