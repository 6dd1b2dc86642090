//! What is to be done with a packet.

use crate::abi::Outcome;

/// What is to be done with a packet, and why. Counted where it is converted to the hook's return value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Goes on as it came.
    Pass(Outcome),
    /// Goes on with another address.
    Translated(Outcome),
    /// Was turned into an answer: back out of the device it came from.
    Reply(Outcome),
    /// Is to be turned into an answer that says no: what [`reject`](super::reject) does.
    Refuse(Outcome),
    /// Ends here.
    Drop(Outcome),
}

impl Verdict {
    /// Why.
    #[inline(always)]
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Pass(outcome)
            | Self::Translated(outcome)
            | Self::Reply(outcome)
            | Self::Refuse(outcome)
            | Self::Drop(outcome) => outcome,
        }
    }
}
