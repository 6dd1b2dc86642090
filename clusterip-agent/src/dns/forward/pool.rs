//! The upstreams of one zone, and how one question is put to them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::op::{Message, Query, ResponseCode};

use super::{exchange::ExchangeError, upstream::Upstream};

/// How long things may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// One upstream, the first time round; twice and three times that afterwards.
    pub attempt: Duration,
    /// A question, whatever happens: less than the five seconds after which a C library asks again.
    pub total: Duration,
    /// After this an expired reply is given, while the question goes on (RFC 8767, section 5).
    pub stale: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(1),
            total: Duration::from_secs(4),
            stale: Duration::from_millis(1_800),
        }
    }
}

/// Times that every upstream may be asked one question.
const ROUNDS: u32 = 3;

/// A question without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolError {
    /// None of them may be asked.
    #[error("there is no upstream to ask")]
    Empty,
    /// None of them answered.
    #[error("no upstream answered")]
    Silent(#[source] ExchangeError),
    /// None of them was reached before the time was over.
    #[error("no upstream answered in time")]
    Late,
}

/// Upstreams in order of preference.
#[derive(Clone, Default, Debug)]
pub(super) struct Pool(Vec<Arc<Upstream>>);

impl Pool {
    /// Them all.
    #[must_use]
    pub(super) fn upstreams(&self) -> &[Arc<Upstream>] {
        &self.0
    }

    /// Adds one.
    pub(super) fn push(&mut self, upstream: Arc<Upstream>) {
        self.0.push(upstream);
    }

    /// Asks one after the other until there is an answer: first who is well, in order; if nobody is, who has rested
    /// longest. An answer that says nothing about the name (SERVFAIL, REFUSED) counts only if there is no better one.
    ///
    /// # Errors
    /// Nobody answered in time.
    pub(super) async fn ask(
        &self,
        question: &Query,
        timing: &Timing,
    ) -> Result<Message, PoolError> {
        let deadline = Instant::now() + timing.total;
        let mut silent = None;
        for round in 1..=ROUNDS {
            let mut poor = None;
            for upstream in self.candidates() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let patience = left.min(timing.attempt.saturating_mul(round));
                match upstream.ask(question, patience).await {
                    Ok(message) if is_answer(&message) => return Ok(message),
                    Ok(message) => poor = poor.or(Some(message)),
                    Err(error) => silent = Some(error),
                }
            }
            // Who answers so would do it again.
            if let Some(message) = poor {
                return Ok(message);
            }
        }
        let is_empty = self.0.iter().all(|upstream| upstream.is_loop());
        Err(match silent {
            Some(error) => PoolError::Silent(error),
            None if is_empty => PoolError::Empty,
            None => PoolError::Late,
        })
    }

    fn candidates(&self) -> Vec<&Arc<Upstream>> {
        let open = self.0.iter().filter(|upstream| !upstream.is_loop());
        let (mut resting, well): (Vec<_>, Vec<_>) = open
            .map(|upstream| (upstream.resting(), upstream))
            .partition(|(until, _)| until.is_some());
        let chosen = if well.is_empty() {
            resting.sort_by_key(|(until, _)| *until);
            resting
        } else {
            well
        };
        chosen.into_iter().map(|(_, upstream)| upstream).collect()
    }
}

/// Whether a response says what there is, or that there is nothing.
const fn is_answer(message: &Message) -> bool {
    matches!(
        message.metadata.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    )
}
