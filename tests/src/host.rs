//! The host's body of `packet::Env`, which is the agent's own for `trace`, and frames that come by it.

use bytes::Bytes;
pub use clusterip_agent::trace::memory::{HostEnv, HostFlow, first_chosen_port};
use clusterip_common::{
    abi::Outcome,
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
        let behind = buffer.get(input.len()..).unwrap_or_default();
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
            Delivery::Send(_, verdicts) => {
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
}
