//! Which flows are over: judged from whole flow tables, without a clock of its own.
//!
//! Packets need none of this: an entry whose time has run out is as if it were not there (C5). It makes room, and mends the
//! counts of flows that an LRU table let go of.

mod keep;

pub use keep::{Passed, keep, pass};

use std::collections::{BTreeMap, HashMap};

use clusterip_common::{
    abi::{Backend, BackendId, BackendState, Flow, FlowKey, FlowState, Settings},
    packet::{Table, is_idle_for, twin},
    wire::{Addr, Be16},
};

/// Flow tables as they were read, one after the other.
pub type Entries = Vec<(Table, FlowKey, Flow)>;

/// What there is to know of the flows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Judgement {
    /// Entries of flows that are over.
    pub over: Vec<(Table, FlowKey, Flow)>,
    /// How many live flows each backend has.
    pub live: BTreeMap<BackendId, u64>,
    /// Where flows lead that stay, each flow's address and port.
    pub destinations: Vec<(Addr, Be16)>,
}

/// Judges each entry, `now` in nanoseconds of the clock that stamped them. Both entries of a flow get the same judgement (C14).
#[must_use]
pub fn judge(
    entries: &Entries,
    backends: impl Fn(BackendId) -> Option<Backend>,
    settings: &Settings,
    now: u64,
) -> Judgement {
    let by_key: HashMap<FlowKey, Flow> = entries
        .iter()
        // Where both tables have one, packets see that of the flows that both sides have spoken in.
        .rev()
        .map(|(_, key, flow)| (*key, *flow))
        .collect();
    let is_standing = |flow: &Flow| {
        flow.direction.is_direct()
            || backends(flow.backend).is_some_and(|backend| is_meant(&backend, flow))
    };
    let limit = |key: &FlowKey, flow: &Flow| {
        // Of which this node would never see the other side's end.
        let has_left = flow.is_one_sided() && flow.state == FlowState::ENDED;
        let state = if has_left {
            FlowState::OPENING
        } else {
            flow.state
        };
        let own = settings.timeout(key.protocol, state);
        if is_standing(flow) {
            own
        } else {
            // What the other side of a dead flow still sends is known by its entry, and dropped (C11).
            own.min(settings.ended_timeout)
        }
    };
    let mut judgement = Judgement::default();
    for (table, key, flow) in entries {
        let (other_key, _) = twin(key, flow);
        let other = by_key.get(&other_key);
        let own = limit(key, flow);
        let limit = match other.map(|other| limit(&other_key, other)) {
            // The client's side is all that is seen.
            Some(others) if flow.is_one_sided() => {
                if flow.direction.is_request() {
                    own
                } else {
                    others
                }
            }
            // Only one of them may have seen the end of the flow.
            Some(others) => own.max(others),
            None => own,
        };
        if is_idle_for(limit, now, flow, || other.copied()) {
            judgement.over.push((*table, *key, *flow));
            continue;
        }
        // Of a client that the node stands for, the service's own entries tell all of this.
        if flow.direction.is_request() && !flow.direction.is_masquerade() {
            judgement
                .destinations
                .push(if flow.direction.is_forwarded() {
                    (key.destination, key.destination_port)
                } else {
                    (flow.address, flow.port)
                });
            if is_standing(flow) && !flow.direction.is_direct() && flow.state != FlowState::CLOSING
            {
                *judgement.live.entry(flow.backend).or_default() += 1;
            }
        }
    }
    judgement
}

/// Whether a backend is the one that a flow was made with (C10).
fn is_meant(backend: &Backend, flow: &Flow) -> bool {
    backend.generation == flow.generation && backend.state != BackendState::FREE
}

/// What the count of a backend's live flows should be: `before` and `after` were read around the tables, in which there were
/// `found`. None: it is right, or more happened meanwhile than it is wrong by.
#[must_use]
pub fn mended(before: u64, found: u64, after: u64) -> Option<u64> {
    let drift = before.wrapping_sub(found).cast_signed();
    let change = after.wrapping_sub(before).cast_signed();
    (drift.unsigned_abs() > change.unsigned_abs()).then(|| {
        let right = after.cast_signed().wrapping_sub(drift);
        right.max(0).unsigned_abs()
    })
}

#[cfg(test)]
mod tests {
    use clusterip_common::{
        abi::{Direction, ServiceId},
        wire::Proto,
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 1_000_000 * SECOND;
    const BACKEND: BackendId = BackendId(7);

    fn request(protocol: Proto, state: FlowState, idle: u64) -> (FlowKey, Flow) {
        let key = FlowKey {
            source: Addr::v4([10, 244, 0, 5]),
            destination: Addr::v4([10, 96, 0, 10]),
            source_port: Be16::new(40_000),
            destination_port: Be16::new(80),
            protocol,
            zero: 0,
            zero_tail: 0,
        };
        let flow = Flow {
            last_seen: NOW - idle,
            address: Addr::v4([10, 244, 1, 7]),
            backend: BACKEND,
            generation: 3,
            port: Be16::new(8080),
            client_port: key.source_port,
            direction: Direction::REQUEST,
            state,
            node_port: Be16::new(0),
        };
        (key, flow)
    }

    fn backend(generation: u32) -> Backend {
        Backend {
            address: Addr::v4([10, 244, 1, 7]),
            service: ServiceId(1),
            generation,
            port: Be16::new(8080),
            state: BackendState::ACTIVE,
            zero: 0,
        }
    }

    /// Both sides, idle for so many seconds.
    fn judged(
        (protocol, state): (Proto, FlowState),
        idle: (u64, u64),
        generation: u32,
    ) -> Judgement {
        judged_apart(protocol, (state, state), idle, generation)
    }

    fn judged_apart(
        protocol: Proto,
        states: (FlowState, FlowState),
        idle: (u64, u64),
        generation: u32,
    ) -> Judgement {
        let (key, flow) = request(protocol, states.0, idle.0 * SECOND);
        let (other, mut answer) = twin(&key, &flow);
        answer.last_seen = NOW - idle.1 * SECOND;
        answer.state = states.1;
        let entries = vec![(Table::Talking, key, flow), (Table::Talking, other, answer)];
        let backends = |id| (id == BACKEND).then(|| backend(generation));
        judge(&entries, backends, &Settings::DEFAULT, NOW)
    }

    fn ends(what: (Proto, FlowState), idle: (u64, u64), generation: u32) -> bool {
        let judgement = judged(what, idle, generation);
        let over = judgement.over.len();
        assert!(over == 0 || over == 2, "C14: {over} of two entries");
        assert_eq!(judgement.destinations.len(), usize::from(over == 0));
        over == 2
    }

    #[test]
    fn a_flow_is_over_when_the_time_of_both_sides_has_run_out() {
        let tcp = (Proto::TCP, FlowState::ESTABLISHED);
        let day = 24 * 60 * 60;
        assert!(!ends(tcp, (day - 1, day - 1), 3), "C5");
        assert!(ends(tcp, (day + 1, day + 1), 3), "C5");
        assert!(!ends(tcp, (day + 1, 1), 3), "C14: the other side talks");
        assert!(!ends(tcp, (1, day + 1), 3), "C14: this side talks");
        assert!(ends((Proto::TCP, FlowState::CLOSING), (11, 11), 3), "C5");
        assert!(!ends((Proto::TCP, FlowState::CLOSING), (9, 9), 3), "C5");
        assert!(
            ends((Proto::UDP, FlowState::ESTABLISHED), (181, 181), 3),
            "C5"
        );
    }

    #[test]
    fn c14_a_side_that_has_not_seen_the_end_keeps_the_other() {
        let (open, ended) = (FlowState::ESTABLISHED, FlowState::ENDED);
        let (hour, day) = (60 * 60, 24 * 60 * 60);
        for states in [(open, ended), (ended, open)] {
            for (idle, over) in [(hour + 1, 0), (day + 1, 2)] {
                let judgement = judged_apart(Proto::TCP, states, (idle, idle), 3);
                assert_eq!(judgement.over.len(), over, "{states:?} for {idle} s");
            }
        }
    }

    #[test]
    fn late_replies_of_a_backend_that_is_gone_are_known_for_an_hour() {
        let tcp = (Proto::TCP, FlowState::ESTABLISHED);
        let hour = 60 * 60;
        assert!(!ends(tcp, (hour - 1, hour - 1), 4), "C11");
        assert!(ends(tcp, (hour + 1, hour + 1), 4), "C10");
        assert!(judged(tcp, (1, 1), 4).live.is_empty(), "C10");
    }

    #[test]
    fn a_flow_counts_once_for_its_backend_until_it_closes() {
        let tcp = Proto::TCP;
        let live = |state| judged((tcp, state), (1, 1), 3).live.get(&BACKEND).copied();
        assert_eq!(live(FlowState::OPENING), Some(1));
        assert_eq!(live(FlowState::ESTABLISHED), Some(1));
        assert_eq!(live(FlowState::ENDED), Some(1));
        assert_eq!(live(FlowState::CLOSING), None);
    }

    /// What its backend answers is known by the backend's own address, and by no backend of this agent's.
    #[test]
    fn c14_a_flow_that_another_node_forwarded_lives_by_either_side() {
        let day = 24 * 60 * 60 * SECOND;
        let (mut key, mut flow) = request(Proto::TCP, FlowState::ESTABLISHED, day + SECOND);
        let (vip, pod) = (key.destination, flow.address);
        (key.destination, key.destination_port) = (pod, flow.port);
        (flow.address, flow.port) = (vip, Be16::new(80));
        flow.direction = Direction::FORWARDED;
        let (other, mut answer) = twin(&key, &flow);
        assert_eq!((other.source, other.destination), (pod, key.source));
        assert_eq!((answer.direction, answer.address), (Direction::RETURN, vip));
        for (idle, over) in [(SECOND, 0), (day + SECOND, 2)] {
            answer.last_seen = NOW - idle;
            let entries = vec![(Table::Talking, key, flow), (Table::Talking, other, answer)];
            let judgement = judge(&entries, |_| None, &Settings::DEFAULT, NOW);
            assert_eq!(judgement.over.len(), over, "{idle} ns");
            assert!(judgement.live.is_empty());
            let known = (over == 0).then_some((pod, Be16::new(8080)));
            assert!(judgement.destinations.into_iter().eq(known));
        }
    }

    #[test]
    fn c5_a_client_that_has_left_and_is_answered_past_this_node_is_forgotten_soon() {
        let (ended, open) = (FlowState::ENDED, FlowState::ESTABLISHED);
        for (state, idle, over) in [(ended, 59, 0), (ended, 61, 2), (open, 3_601, 0)] {
            let (key, mut flow) = request(Proto::TCP, state, idle * SECOND);
            flow.node_port = Flow::ITSELF;
            let (other, mut answer) = twin(&key, &flow);
            answer.state = open;
            let entries = vec![(Table::Talking, key, flow), (Table::Talking, other, answer)];
            let judgement = judge(&entries, |_| Some(backend(3)), &Settings::DEFAULT, NOW);
            assert_eq!(judgement.over.len(), over, "{state:?} for {idle} s");
        }
    }

    #[test]
    fn a_time_stamp_ahead_of_the_clock_is_now() {
        let (key, mut flow) = request(Proto::UDP, FlowState::ESTABLISHED, 0);
        flow.last_seen = NOW + 1;
        let judgement = judge(
            &vec![(Table::Talking, key, flow)],
            |_| Some(backend(3)),
            &Settings::DEFAULT,
            NOW,
        );
        assert!(judgement.over.is_empty(), "C15");
    }

    #[test]
    fn a_count_is_mended_by_what_it_is_wrong_by() {
        assert_eq!(mended(5, 5, 5), None);
        assert_eq!(mended(5, 3, 5), Some(3), "two were let go of");
        assert_eq!(mended(5, 3, 6), Some(4), "and one began meanwhile");
        assert_eq!(mended(5, 4, 7), None, "too much happened to tell");
        assert_eq!(mended(0, 2, 0), Some(2));
        assert_eq!(mended(3, 0, 1), Some(0), "never below zero");
    }
}
