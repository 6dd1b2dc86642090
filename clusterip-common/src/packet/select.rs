//! Choosing a backend.

use super::env::Env;
use crate::{
    abi::{
        Affinity, AffinityKey, Algorithm, Backend, BackendId, BackendState, FlowKey, Outcome,
        Scope, Service, ServiceFlags, ServiceKey, SlotIndex, endpoint::mix,
    },
    wire::Addr,
};

/// A backend for a new flow.
pub(super) struct Choice {
    pub(super) id: BackendId,
    pub(super) backend: Backend,
}

const SECOND: u64 = 1_000_000_000;

/// The backend for a new flow to `vip`. `NoEndpoint`, `NoService`: reject (B7, B9); any other outcome: drop. `from` is whom
/// source ranges are about: the flow's source, where that is an address.
#[inline(always)]
pub(super) fn choose<E: Env>(
    env: &E,
    vip: &ServiceKey,
    key: &FlowKey,
    from: Addr,
) -> Result<Choice, Outcome> {
    let Some(service) = env.service(vip) else {
        return Err(absent(env, vip));
    };
    if service.flags.has(ServiceFlags::GUARDED) && !env.admits(service.id, from) {
        return Err(Outcome::SourceRange);
    }
    if service.slot_count == 0 {
        return Err(if service.flags.has(ServiceFlags::LOCAL) {
            Outcome::NoLocalEndpoint
        } else {
            Outcome::NoEndpoint
        });
    }
    if service.affinity == 0 {
        return pick(env, &service, key)
            .or_else(|| again(env, vip))
            .ok_or(Outcome::NoBackend);
    }
    let client = AffinityKey {
        client: key.source,
        service: service.id,
        zero: 0,
    };
    let choice = recall(env, &service, &client)
        .or_else(|| pick(env, &service, key))
        .or_else(|| again(env, vip))
        .ok_or(Outcome::NoBackend)?;
    let affinity = Affinity {
        last_used: env.now(),
        backend: choice.id,
        generation: choice.backend.generation,
    };
    env.set_affinity(&client, &affinity);
    Ok(choice)
}

/// A service changes by a new run of slots and then a new head; a reader with the old head may find a slot whose
/// backend has just been freed. The second reading sees the new head; any slot of it will do.
#[inline(always)]
fn again<E: Env>(env: &E, vip: &ServiceKey) -> Option<Choice> {
    let service = env.service(vip)?;
    if service.slot_count == 0 {
        return None;
    }
    usable(env, &service, slot(env, &service, u64::from(env.random()))?)
}

/// What a destination is that no service has: another port of a live VIP, or an address of nobody (B9). Towards the outside
/// an address is not the services' alone; there was a service a moment ago.
#[inline(always)]
pub(super) fn absent<E: Env>(env: &E, vip: &ServiceKey) -> Outcome {
    if vip.scope == Scope::CLUSTER && env.service(&ServiceKey::address(vip.address)).is_none() {
        Outcome::Unallocated
    } else {
        Outcome::NoService
    }
}

/// The backend that a client had, if the time has not run out (B3) and it is still good for new flows (B4).
#[inline(always)]
fn recall<E: Env>(env: &E, service: &Service, client: &AffinityKey) -> Option<Choice> {
    let affinity = env.affinity(client)?;
    let idle = env.now().wrapping_sub(affinity.last_used);
    if idle >= u64::from(service.affinity) * SECOND {
        return None;
    }
    let choice = usable(env, service, affinity.backend)?;
    let is_same = choice.backend.generation == affinity.generation;
    (is_same && choice.backend.state == BackendState::ACTIVE).then_some(choice)
}

#[inline(always)]
fn pick<E: Env>(env: &E, service: &Service, key: &FlowKey) -> Option<Choice> {
    let number = match service.algorithm {
        Algorithm::RANDOM | Algorithm::LEAST_CONNECTIONS => u64::from(env.random()),
        Algorithm::MAGLEV => hash(key, service.affinity != 0),
        _ => env.turn(service.id)?,
    };
    let id = slot(env, service, number)?;
    if service.algorithm == Algorithm::LEAST_CONNECTIONS {
        let other = slot(env, service, u64::from(env.random()))?;
        if env.live_flows(other) < env.live_flows(id) {
            return usable(env, service, other);
        }
    }
    usable(env, service, id)
}

#[inline(always)]
fn slot<E: Env>(env: &E, service: &Service, number: u64) -> Option<BackendId> {
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of a u32")]
    let place = (number % u64::from(service.slot_count)) as u32;
    env.slot(SlotIndex(service.first_slot.0.wrapping_add(place)))
}

#[inline(always)]
fn usable<E: Env>(env: &E, service: &Service, id: BackendId) -> Option<Choice> {
    let backend = env.backend(id)?;
    let serves = backend.state == BackendState::ACTIVE || backend.state == BackendState::DRAINING;
    (backend.service == service.id && serves).then_some(Choice { id, backend })
}

/// A hash of a flow that every node computes alike. With affinity the client's port is left out (B6).
#[inline(always)]
fn hash(key: &FlowKey, whole_client: bool) -> u64 {
    // Written out: as a loop it ends by falling into its own beginning, which the verifier of 6.1 refuses.
    let [a, b] = key.source.words();
    let [c, d] = key.destination.words();
    let sum = mix(mix(mix(mix(0x9e37_79b9_7f4a_7c15 ^ a) ^ b) ^ c) ^ d);
    let port = if whole_client {
        0
    } else {
        key.source_port.get()
    };
    let rest = u64::from(port) << 32
        | u64::from(key.destination_port.get()) << 8
        | u64::from(key.protocol.0);
    // The high bits are the better mixed ones.
    mix(sum ^ rest) >> 16
}
