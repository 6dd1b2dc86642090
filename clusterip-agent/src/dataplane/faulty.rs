//! A dataplane that fails now and then: what comes out in the end must be the same.

use super::{Dataplane, DataplaneError};
use crate::plan::{Op, Tables};

/// Passes operations on to another dataplane, and fails one in ten of them: always the same ones for a seed.
#[derive(Clone, Debug)]
pub struct Faulty<D> {
    inner: D,
    /// State of the generator; never 0.
    state: u64,
    failures: usize,
}

/// The fault that was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("made to fail")]
struct MadeToFail;

impl<D> Faulty<D> {
    /// Fails with that seed.
    #[must_use]
    pub const fn new(inner: D, seed: u64) -> Self {
        Self {
            inner,
            state: seed | 1,
            failures: 0,
        }
    }

    /// How many operations failed so far.
    #[must_use]
    pub const fn failures(&self) -> usize {
        self.failures
    }

    const fn fails(&mut self) -> bool {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // The low bits of a xorshift are its weakest.
        (self.state >> 32).is_multiple_of(10)
    }
}

impl<D: Dataplane> Dataplane for Faulty<D> {
    fn dump(&mut self) -> Result<Tables, DataplaneError> {
        self.inner.dump()
    }

    fn apply(&mut self, ops: &[Op]) -> Result<(), DataplaneError> {
        for op in ops {
            if self.fails() {
                self.failures += 1;
                return Err(DataplaneError::Write {
                    map: "any",
                    operation: "update",
                    entry: format!("{op:?}"),
                    source: Box::new(MadeToFail),
                });
            }
            self.inner.apply(std::slice::from_ref(op))?;
        }
        Ok(())
    }
}
