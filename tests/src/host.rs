//! The host's body of `packet::Env`, which is the agent's own for `trace`, and frames that come by it.

use bytes::Bytes;
pub use clusterip_agent::trace::memory::{HostEnv, HostFlow, first_chosen_port};
use clusterip_common::{
    abi::{Direction, Event, EventHook, Outcome, event::Record},
    packet::{self, Delivery, Link, SliceFrame, Verdict},
};

use crate::case::{Hook, Seen};

/// Room for an answer that is longer than the frame it answers.
const ROOM: usize = 128;
/// What that room is filled with.
const FILLER: u8 = 0xee;

/// Where frames come by.
pub trait Passage {
    /// Lets a frame come by, and counts what became of it.
    ///
    /// # Panics
    /// Something was written behind the frame, which is not for an answer.
    fn pass(&self, hook: Hook, link: Link, input: &[u8]) -> Seen<Verdict>;

    /// Lets a frame come by at an uplink's driver, and counts what became of it.
    fn at_driver(&self, input: &[u8]) -> Seen<Delivery>;

    /// Lets go of all entries of flows that translate this side.
    fn lose(&self, side: Direction);
}

impl Passage for HostEnv {
    fn pass(&self, hook: Hook, link: Link, input: &[u8]) -> Seen<Verdict> {
        let mut buffer = input.to_vec();
        buffer.resize(input.len() + ROOM, FILLER);
        let mut frame = SliceFrame::new(&mut buffer, input.len());
        let verdict = match hook {
            Hook::FromPod => packet::from_pod(&mut frame, self, link),
            Hook::ToPod | Hook::ToUplink => packet::to_pod(&mut frame, self, link),
            Hook::FromUplink => packet::from_uplink(&mut frame, self, link),
        };
        let bytes = Bytes::copy_from_slice(frame.bytes());
        // What is forwarded to another node is longer than it was.
        let end = input.len().max(bytes.len());
        let behind = buffer.get(end..).unwrap_or_default();
        let is_answer = matches!(
            verdict,
            Verdict::Reply(_) | Verdict::Drop(Outcome::ReplyFailed)
        );
        assert!(
            is_answer || behind.iter().all(|byte| *byte == FILLER),
            "{verdict:?}: written behind the frame"
        );
        self.count(verdict.outcome(), input.len());
        Seen { verdict, bytes }
    }

    fn at_driver(&self, input: &[u8]) -> Seen<Delivery> {
        let mut buffer = input.to_vec();
        let mut frame = SliceFrame::new(&mut buffer, input.len());
        let delivery = packet::at_driver(&mut frame, self, Link::Ethernet);
        let bytes = Bytes::copy_from_slice(frame.bytes());
        match delivery {
            Delivery::Pass => {}
            Delivery::End(verdict) => self.count(verdict.outcome(), input.len()),
            Delivery::Send(_, verdicts) | Delivery::EndHalfway(verdicts) => {
                for verdict in verdicts {
                    self.count(verdict.outcome(), input.len());
                }
            }
        }
        Seen {
            verdict: delivery,
            bytes,
        }
    }

    fn lose(&self, side: Direction) {
        for table in [&self.flows, &self.half_open] {
            table.borrow_mut().retain(|_, flow| flow.direction != side);
        }
    }
}

/// An event, without what is the kernel's alone: time, device, and at which of two hooks an uplink has.
#[derive(PartialEq, Eq, Debug)]
pub struct Told {
    event: Event,
    frame: Vec<u8>,
}

impl Told {
    /// Of an event that is told, with the first bytes of its frame.
    #[must_use]
    pub fn new(event: Event, frame: &[u8]) -> Self {
        let event = Event {
            time: 0,
            device: 0,
            hook: match event.hook {
                EventHook::DRIVER => EventHook::FROM_UPLINK,
                other => other,
            },
            ..event
        };
        Self {
            event,
            frame: frame.to_vec(),
        }
    }

    /// Of one that was recorded.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let length = usize::try_from(record.event.captured).unwrap_or_default();
        Self::new(record.event, record.frame.get(..length).unwrap_or_default())
    }
}
