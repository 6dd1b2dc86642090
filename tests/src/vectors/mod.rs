//! The packet cases, by theme.
#![expect(clippy::too_many_lines, reason = "a list of cases is as long as it is")]

mod balance;
mod choice;
mod flows;
mod headers;
mod icmp;
mod links;
mod pieces;
mod reject;
mod sctp;

use crate::case::Case;

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        balance::cases(),
        choice::cases(),
        flows::cases(),
        headers::cases(),
        icmp::cases(),
        links::cases(),
        pieces::cases(),
        reject::cases(),
        sctp::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
