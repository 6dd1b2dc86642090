//! A packet case: a world, then frames with the verdict and the bytes expected of each. The same cases run on the host
//! and in the kernel.

use std::fmt::Write as _;

use bytes::Bytes;
use clusterip_common::{
    abi::Direction,
    packet::{Exit, Link, Verdict},
};

use crate::{
    packet::{Packet, dump},
    world::World,
};

/// Where a frame is seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hook {
    /// What a pod sends.
    FromPod,
    /// What a pod receives.
    ToPod,
    /// What comes in by an uplink.
    FromUplink,
    /// What leaves by an uplink.
    ToUplink,
}

/// One thing that happens.
pub enum Step {
    /// A frame comes by.
    Frame {
        /// Where.
        hook: Hook,
        /// At what kind of device.
        link: Link,
        /// As it comes.
        input: Bytes,
        /// What is expected to be done with it.
        verdict: Verdict,
        /// As it is expected to be afterwards.
        output: Bytes,
        /// Which way it is expected to go on, where that is counted.
        exit: Option<Exit>,
    },
    /// A frame comes by at an uplink's driver, before TC sees it.
    Driver {
        /// As it comes.
        input: Bytes,
        /// What both hooks of TC would have said, if it is sent on from there, or dropped by what would be the second one.
        verdicts: Option<[Verdict; 2]>,
        /// As it is expected to be afterwards.
        output: Bytes,
    },
    /// The agent changes the tables.
    Change(fn(&mut World)),
    /// The tables of flows let go of all entries that translate one side: they forget what was not used for long.
    Lose(Direction),
    /// Nanoseconds pass.
    Later(u64),
}

/// A packet case.
pub struct Case {
    /// A sentence.
    pub name: &'static str,
    /// The rules of semantics.md that it shows.
    pub rules: &'static str,
    /// What is in the maps at first.
    pub world: World,
    /// What happens.
    pub steps: Vec<Step>,
    /// Why the kernel's test-run cannot show it, if it cannot.
    pub only_on_host: Option<&'static str>,
}

/// A case by name, with the rules it shows.
#[must_use]
pub const fn case(name: &'static str, rules: &'static str, world: World) -> Case {
    Case {
        name,
        rules,
        world,
        steps: Vec::new(),
        only_on_host: None,
    }
}

impl Case {
    fn frame(mut self, hook: Hook, input: &Packet, verdict: Verdict, output: &Packet) -> Self {
        let link = input.link();
        let (input, output) = (input.bytes(), output.bytes());
        self.steps.push(Step::Frame {
            hook,
            link,
            input,
            verdict,
            output,
            exit: None,
        });
        self
    }

    /// A pod sends `input`, which becomes `output`.
    #[must_use]
    pub fn sends(self, input: &Packet, verdict: Verdict, output: &Packet) -> Self {
        self.frame(Hook::FromPod, input, verdict, output)
    }

    /// A pod sends a frame that is left as it is.
    #[must_use]
    pub fn sends_untouched(self, input: &Packet, verdict: Verdict) -> Self {
        self.frame(Hook::FromPod, input, verdict, input)
    }

    /// A pod is about to receive `input`, which becomes `output`.
    #[must_use]
    pub fn receives(self, input: &Packet, verdict: Verdict, output: &Packet) -> Self {
        self.frame(Hook::ToPod, input, verdict, output)
    }

    /// A pod is about to receive a frame that is left as it is.
    #[must_use]
    pub fn receives_untouched(self, input: &Packet, verdict: Verdict) -> Self {
        self.frame(Hook::ToPod, input, verdict, input)
    }

    /// `input` comes in by an uplink and becomes `output`.
    #[must_use]
    pub fn comes_in(self, input: &Packet, verdict: Verdict, output: &Packet) -> Self {
        self.frame(Hook::FromUplink, input, verdict, output)
    }

    /// A frame comes in by an uplink and is left as it is.
    #[must_use]
    pub fn comes_in_untouched(self, input: &Packet, verdict: Verdict) -> Self {
        self.frame(Hook::FromUplink, input, verdict, input)
    }

    /// A frame that is no sentence comes in by an uplink and becomes `output`.
    #[must_use]
    pub fn comes_in_as(mut self, input: Bytes, verdict: Verdict, output: Bytes) -> Self {
        self.steps.push(Step::Frame {
            hook: Hook::FromUplink,
            link: Link::Ethernet,
            input,
            verdict,
            output,
            exit: None,
        });
        self
    }

    /// Such a frame is left as it is.
    #[must_use]
    pub fn comes_in_as_it_is(self, input: Bytes, verdict: Verdict) -> Self {
        self.comes_in_as(input.clone(), verdict, input)
    }

    /// `input` is about to leave by an uplink and becomes `output`.
    #[must_use]
    pub fn leaves(self, input: &Packet, verdict: Verdict, output: &Packet) -> Self {
        self.frame(Hook::ToUplink, input, verdict, output)
    }

    /// A frame is about to leave by an uplink and is left as it is.
    #[must_use]
    pub fn leaves_untouched(self, input: &Packet, verdict: Verdict) -> Self {
        self.frame(Hook::ToUplink, input, verdict, input)
    }

    /// `input` comes in by an uplink, and its driver sends it on as `output`: what TC would have done at ingress and egress.
    #[must_use]
    pub fn is_sent(mut self, input: &Packet, verdicts: [Verdict; 2], output: &Packet) -> Self {
        let (input, output) = (input.bytes(), output.bytes());
        self.steps.push(Step::Driver {
            input,
            verdicts: Some(verdicts),
            output,
        });
        self
    }

    /// A frame comes in by an uplink, and its driver leaves it to TC, which this does not show.
    #[must_use]
    pub fn passes_driver(mut self, input: &Packet) -> Self {
        let input = input.bytes();
        self.steps.push(Step::Driver {
            output: input.clone(),
            verdicts: None,
            input,
        });
        self
    }

    /// The last frame goes on this way.
    #[must_use]
    pub fn by(mut self, way: Exit) -> Self {
        if let Some(Step::Frame { exit, .. }) = self.steps.last_mut() {
            *exit = Some(way);
        }
        self
    }

    /// Leaves the case out in the kernel.
    #[must_use]
    pub const fn only_on_host(mut self, reason: &'static str) -> Self {
        self.only_on_host = Some(reason);
        self
    }

    /// The agent changes the tables.
    #[must_use]
    pub fn then(mut self, change: fn(&mut World)) -> Self {
        self.steps.push(Step::Change(change));
        self
    }

    /// The tables of flows let go of all entries of this side.
    #[must_use]
    pub fn loses(mut self, side: Direction) -> Self {
        self.steps.push(Step::Lose(side));
        self
    }

    /// Seconds pass.
    #[must_use]
    pub fn later(mut self, seconds: u64) -> Self {
        self.steps.push(Step::Later(seconds * 1_000_000_000));
        self
    }
}

/// What came of one frame.
#[derive(PartialEq, Eq, Debug)]
pub struct Seen<V> {
    /// What was done with it.
    pub verdict: V,
    /// Its bytes afterwards.
    pub bytes: Bytes,
}

/// Ends a test in which some of the cases have failed.
///
/// # Panics
/// With what each of them says.
pub fn all_hold(cases: &[Case], failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// Compares what was expected of a frame with what was seen.
///
/// # Errors
/// The difference, as text that shows both frames and the tables.
pub fn compare<V: PartialEq + std::fmt::Debug>(
    case: &Case,
    step: usize,
    input: &[u8],
    wanted: &Seen<V>,
    seen: &Seen<V>,
) -> Result<(), String> {
    if wanted == seen {
        return Ok(());
    }
    let mut text = format!("{} ({}), step {}:\n", case.name, case.rules, step + 1);
    if wanted.verdict != seen.verdict {
        let _ = writeln!(
            text,
            "  verdict {:?}, wanted {:?}",
            seen.verdict, wanted.verdict
        );
    }
    let _ = writeln!(text, "  frame in\n{}", dump(input));
    let _ = writeln!(text, "  frame out\n{}", dump(&seen.bytes));
    let _ = writeln!(text, "  wanted\n{}", dump(&wanted.bytes));
    let _ = writeln!(text, "  tables {:#?}", case.world.tables);
    Err(text)
}
