//! Released addresses, which nobody else gets yet (G4).

use crate::model::object::ObjectName;

/// How long a released address rests, in advances of the reconciler. The write that removes a service frees its
/// backends, and with that its flows are dead (C10); two advances later nobody who read the old entry is left.
pub(super) const REST: u32 = 2;

/// A released address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Resting {
    /// Who had it last, and may have it again at once.
    pub(super) owner: ObjectName,
    /// Advances to go.
    left: u32,
}

impl Resting {
    /// Released just now.
    pub(super) const fn new(owner: ObjectName) -> Self {
        Self { owner, left: REST }
    }

    /// One advance more; true: it was the last.
    pub(super) const fn advance(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }
}
