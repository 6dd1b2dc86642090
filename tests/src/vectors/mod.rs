//! The packet cases, by theme.
#![expect(clippy::too_many_lines, reason = "a list of cases is as long as it is")]

mod balance;
mod choice;
mod direct;
mod direct_return;
mod driver;
mod flows;
mod hairpin;
mod headers;
mod icmp;
mod leave;
mod links;
mod neighbour;
mod outside;
mod pieces;
mod reject;
mod sctp;
mod strangers;
mod times;
mod uplink;

use crate::case::Case;

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        balance::cases(),
        choice::cases(),
        direct::cases(),
        direct_return::cases(),
        driver::cases(),
        flows::cases(),
        hairpin::cases(),
        headers::cases(),
        icmp::cases(),
        leave::cases(),
        links::cases(),
        neighbour::cases(),
        outside::cases(),
        pieces::cases(),
        reject::cases(),
        sctp::cases(),
        times::cases(),
        uplink::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
