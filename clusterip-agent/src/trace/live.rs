//! A made-up packet over what the kernel holds: the steps by the functions in this binary, the result by the program that is
//! loaded.

use clusterip_common::{
    abi::{Outcome, Settings},
    wire::Be16,
};
use serde::{Deserialize, Serialize};

use super::{Question, Trace, Transport, Via, end, follow, frame, memory::HostEnv};
use crate::{
    dataplane::replica::{Held, Ran, Subject},
    plan::Index,
};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// TC's actions: on to the next program, the end, out of a device.
const UNSPEC: i32 = -1;
const REDIRECT: i32 = 7;

/// What the program in the kernel says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// Its name.
    pub program: String,
    /// Hash of its instructions, as `bpftool prog` shows it.
    pub tag: String,
    /// Whether the program that is loaded for the devices has that hash, too. None: that one is not looked at, as those for uplinks
    /// are loaded when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_loaded: Option<bool>,
    /// Whether the functions that gave the steps came to the same.
    pub agrees: bool,
}

/// What will be read for a packet.
#[must_use]
pub fn subject(question: &Question) -> Subject {
    let Question { from, to, .. } = question;
    let ports = question.protocol != Transport::Icmp;
    let port = |port: u16| Be16::new(if ports { port } else { 0 });
    Subject {
        source: (from.ip().into(), port(from.port())),
        destination: (to.ip().into(), port(to.port())),
        protocol: frame::protocol(question),
    }
}

/// The packet as a device has it; none where no device sees it.
#[must_use]
pub fn ethernet(question: &Question) -> Option<Vec<u8>> {
    if question.via == Via::Host && question.protocol != Transport::Icmp {
        return None;
    }
    let packet = frame::frame(question);
    let kind = if question.to.is_ipv4() {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let mut bytes = vec![0; ETHERNET - 2];
    bytes.extend(kind);
    bytes.extend(packet.buffer.get(..packet.length).unwrap_or_default());
    Some(bytes)
}

/// The steps over what is held. `now` is the clock that flows are stamped with.
#[must_use]
pub fn steps(
    question: &Question,
    held: &Held,
    settings: Settings,
    index: &Index,
    now: u64,
) -> Trace {
    let memory = HostEnv::new(held.tables.clone(), settings);
    memory.clock.set(now);
    memory.flows.borrow_mut().extend(held.flows.iter().copied());
    memory
        .half_open
        .borrow_mut()
        .extend(held.half_open.iter().copied());
    memory
        .affinity
        .borrow_mut()
        .extend(held.affinity.iter().copied());
    memory
        .errors
        .borrow_mut()
        .extend(held.errors.iter().copied());
    memory.cursors.borrow_mut().extend(&held.cursors);
    memory.live.borrow_mut().extend(&held.live);
    follow(question, memory, index)
}

/// The result of the steps becomes that of the program, which counts; `loaded` is the hash of the one in force.
pub fn settle(trace: &mut Trace, question: &Question, ran: &Ran, loaded: Option<u64>) {
    let ends = ran.frame.get(ETHERNET..).and_then(frame::ends);
    let verdict = verdict(ran);
    let ends = ends.filter(|_| verdict == "translate");
    let chosen = ends.map(|(_, destination)| end(destination));
    let agrees = (trace.verdict.as_str(), trace.outcome.as_str()) == (verdict, ran.outcome.name())
        && trace.chosen == chosen;
    let result = chosen.map_or_else(String::new, |it| format!(", to {}:{}", it.address, it.port));
    let word = if agrees {
        "the same"
    } else {
        "something else, which counts"
    };
    trace.steps.push(format!(
        "{}, over a copy of what it would read, says {word}: {verdict}{result}: {}",
        ran.program,
        ran.outcome.name()
    ));
    verdict.clone_into(&mut trace.verdict);
    ran.outcome.name().clone_into(&mut trace.outcome);
    trace.chosen = chosen;
    trace.source_rewritten = ends.is_some_and(|(source, _)| source != question.from);
    trace.live = Some(Live {
        program: ran.program.to_owned(),
        tag: format!("{:016x}", ran.tag),
        is_loaded: loaded.map(|loaded| loaded == ran.tag),
        agrees,
    });
}

const fn verdict(ran: &Ran) -> &'static str {
    match (ran.action, ran.outcome) {
        (UNSPEC, Outcome::NotOurs | Outcome::Truncated) => "pass",
        (UNSPEC, _) => "translate",
        (REDIRECT, Outcome::Ping) => "answer",
        (REDIRECT, _) => "reject",
        _ => "drop",
    }
}

#[cfg(test)]
mod tests {
    use clusterip_common::abi::Range;

    use super::*;
    use crate::trace::Transport;

    fn question() -> Question {
        Question {
            from: "10.1.0.9:40000".parse().expect("an end"),
            to: "10.96.0.10:80".parse().expect("an end"),
            protocol: Transport::Tcp,
            flags: 2,
            via: Via::Pod,
        }
    }

    fn trace() -> Trace {
        let settings = Settings {
            service_v4: Range::new(clusterip_common::wire::Addr::v4([10, 96, 0, 0]), 112),
            ..Settings::DEFAULT
        };
        let index = Index::default();
        steps(&question(), &Held::default(), settings, &index, 1)
    }

    fn ran(action: i32, outcome: Outcome) -> Ran {
        Ran {
            program: "cip_from_pod",
            tag: 0xabc,
            action,
            outcome,
            frame: ethernet(&question()).expect("a frame"),
        }
    }

    #[test]
    fn the_program_counts_where_the_steps_come_to_something_else() {
        let mut same = trace();
        settle(
            &mut same,
            &question(),
            &ran(2, Outcome::Unallocated),
            Some(0xabc),
        );
        let live = same.live.as_ref().expect("one");
        assert!(live.agrees && live.is_loaded == Some(true), "{same:?}");
        assert_eq!(live.tag, "0000000000000abc");
        let mut other = trace();
        settle(
            &mut other,
            &question(),
            &ran(REDIRECT, Outcome::NoEndpoint),
            Some(0xabd),
        );
        let live = other.live.as_ref().expect("one");
        assert!(!live.agrees && live.is_loaded == Some(false), "{other:?}");
        assert_eq!(
            (&*other.verdict, &*other.outcome),
            ("reject", "no-endpoint")
        );
        let last = other.steps.last().expect("a step");
        assert!(
            last.contains("says something else, which counts: reject"),
            "{last}"
        );
    }

    #[test]
    fn a_call_is_seen_by_no_device() {
        let mut call = question();
        call.via = Via::Host;
        assert_eq!(ethernet(&call), None);
        call.protocol = Transport::Icmp;
        assert!(ethernet(&call).is_some());
        assert_eq!(subject(&call).destination.1, Be16::new(0));
    }
}
