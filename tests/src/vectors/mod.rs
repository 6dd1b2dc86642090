//! The packet cases, by theme.

mod balance;
mod flows;
mod headers;
mod reject;

use crate::case::Case;

/// Every case.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        balance::cases(),
        flows::cases(),
        headers::cases(),
        reject::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
