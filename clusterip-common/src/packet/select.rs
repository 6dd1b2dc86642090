//! Choosing a backend.

use super::env::Env;
use crate::abi::{Backend, BackendId, BackendState, Outcome, ServiceKey, SlotIndex};

/// A backend for a new flow.
pub(super) struct Choice {
    pub(super) id: BackendId,
    pub(super) backend: Backend,
}

/// A service changes by a new run of slots and then a new head; a reader with the old head may find a slot whose
/// backend has just been freed. The second reading sees the new head.
const READINGS: usize = 2;

/// The backend for a new flow to `vip`. `NotOurs`: no such service; `NoEndpoint`: reject (B7).
#[inline(always)]
pub(super) fn choose<E: Env>(env: &E, vip: &ServiceKey) -> Result<Choice, Outcome> {
    for _ in 0..READINGS {
        let service = env.service(vip).ok_or(Outcome::NotOurs)?;
        if service.slot_count == 0 {
            return Err(Outcome::NoEndpoint);
        }
        let turn = env.turn(service.id).ok_or(Outcome::NoBackend)?;
        #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32")]
        let place = (turn % u64::from(service.slot_count)) as u32;
        let slot = SlotIndex(service.first_slot.0.wrapping_add(place));
        if let Some(id) = env.slot(slot)
            && let Some(backend) = env.backend(id)
            && backend.service == service.id
            && (backend.state == BackendState::ACTIVE || backend.state == BackendState::DRAINING)
        {
            return Ok(Choice { id, backend });
        }
    }
    Err(Outcome::NoBackend)
}
