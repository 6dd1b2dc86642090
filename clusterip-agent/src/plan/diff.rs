//! Wanted against actual.

use std::collections::BTreeSet;

use clusterip_common::{
    abi::{Backend, BackendState, ServiceId},
    wire::Addr,
};

use super::{Op, Tables};

/// The writes that lead from `actual` to `wanted`, in order (F2). Both may be parts of the tables, as long as
/// they are the same part and hold every frontend of the balancers in it.
///
/// A free id of `actual` that `wanted` does not list stays as it is: nothing refers to it.
#[must_use]
pub fn diff(actual: &Tables, wanted: &Tables) -> Vec<Op> {
    // At the first programming there is one for each entry, and one to clear the counters of each service.
    let mut ops = Vec::with_capacity(
        wanted.backends.len().abs_diff(actual.backends.len())
            + wanted.slots.len().abs_diff(actual.slots.len())
            + 2 * wanted.services.len().abs_diff(actual.services.len()),
    );
    backends(actual, wanted, &mut ops);
    for (slot, id) in &wanted.slots {
        if actual.slots.get(slot) != Some(id) {
            ops.push(Op::PutSlot(*slot, *id));
        }
    }
    services(actual, wanted, &mut ops);
    for (range, whose) in &wanted.inside {
        if actual.inside.get(range) != Some(whose) {
            ops.push(Op::PutInside(*range, *whose));
        }
    }
    for range in actual.inside.keys() {
        if !wanted.inside.contains_key(range) {
            ops.push(Op::RemoveInside(*range));
        }
    }
    guests(actual, wanted, &mut ops);
    // They are runs in order already.
    ops.sort();
    ops
}

/// What is there for clients from outside.
fn guests(actual: &Tables, wanted: &Tables, ops: &mut Vec<Op>) {
    for (range, sources) in &wanted.sources {
        if actual.sources.get(range) != Some(sources) {
            ops.push(Op::PutSources(*range, *sources));
        }
    }
    for range in actual.sources.keys() {
        if !wanted.sources.contains_key(range) {
            ops.push(Op::RemoveSources(*range));
        }
    }
    for (place, address) in &wanted.node {
        if actual.node.get(place) != Some(address) {
            ops.push(Op::PutNode(*place, *address));
        }
    }
    for place in actual.node.keys() {
        if !wanted.node.contains_key(place) {
            ops.push(Op::PutNode(*place, Addr::UNSPECIFIED));
        }
    }
}

fn backends(actual: &Tables, wanted: &Tables, ops: &mut Vec<Op>) {
    for (id, want) in &wanted.backends {
        let have = actual.backends.get(id);
        if have == Some(want) {
            continue;
        }
        if want.state == BackendState::FREE {
            ops.push(Op::FreeBackend(*id, want.generation));
            continue;
        }
        // One that is not even listed was never anybody's: nothing has been counted under it.
        if have.is_some_and(|have| !is_same_tenant(have, want)) {
            ops.push(Op::ClearBackend(*id));
        }
        ops.push(Op::PutBackend(*id, *want));
    }
    for (id, have) in &actual.backends {
        if have.state != BackendState::FREE && !wanted.backends.contains_key(id) {
            ops.push(Op::FreeBackend(*id, have.generation));
        }
    }
}

/// Whether the counters of an id still speak of the same endpoint.
fn is_same_tenant(have: &Backend, want: &Backend) -> bool {
    have.state != BackendState::FREE
        && have.generation == want.generation
        && have.service == want.service
        && (have.address, have.port) == (want.address, want.port)
}

fn services(actual: &Tables, wanted: &Tables, ops: &mut Vec<Op>) {
    for (key, head) in &wanted.services {
        if actual.services.get(key) != Some(head) {
            ops.push(Op::PutService(*key, *head));
        }
    }
    for key in actual.services.keys() {
        if !wanted.services.contains_key(key) {
            ops.push(if key.is_address() {
                Op::RemoveAddress(key.address)
            } else {
                Op::RemoveService(*key)
            });
        }
    }
    let (known, new) = (balancers(actual), balancers(wanted));
    ops.extend(new.difference(&known).copied().map(Op::ClearService));
}

fn balancers(tables: &Tables) -> BTreeSet<ServiceId> {
    tables.frontends().map(|(_, head)| head.id).collect()
}

#[cfg(test)]
mod tests {
    use clusterip_common::{
        abi::{
            Algorithm, BackendId, Inside, InsideKey, NodePlace, Service, ServiceFlags, ServiceKey,
            SlotIndex, Sources, SourcesKey,
        },
        wire::{Addr, Be16, Proto},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::served::Owner,
        plan::{desired, tables::free_backend},
    };

    /// Tables as the layout makes them: each service has a run of its own, at a place that depends on `round`, so that
    /// an update never writes where the old run is.
    fn tables(round: u32, services: &[(u8, Vec<u8>)]) -> Tables {
        let mut tables = Tables::default();
        for id in 0..64 {
            tables.backends.insert(BackendId(id), free_backend(1));
        }
        let pods = u8::try_from(round).unwrap();
        let range = InsideKey::new(Addr::v4([10, 1, pods, 0]), 96 + 24);
        tables.inside.insert(range, Inside::PODS);
        let node = Addr::v4([192, 0, 2, pods]);
        let clients = SourcesKey::new(ServiceId(1), node, 128);
        tables.sources.insert(clients, Sources::ADMITTED);
        tables.node.insert(NodePlace::V4, node);
        let mut next = round * 1000;
        for (service, members) in services {
            let id = ServiceId(u32::from(*service));
            let head = Service {
                id,
                first_slot: SlotIndex(next),
                slot_count: u32::try_from(members.len()).unwrap(),
                algorithm: Algorithm::ROUND_ROBIN,
                flags: ServiceFlags::default(),
                affinity: 0,
            };
            let key = ServiceKey::new(Addr::v4([10, 96, 0, *service]), Be16::new(80), Proto::TCP);
            if tables.services.insert(key, head).is_some() {
                continue;
            }
            let address = ServiceKey::address(key.address);
            tables
                .services
                .insert(address, desired::address_head(Owner::default()));
            for member in members {
                let backend = BackendId(u32::from(*service) * 8 + u32::from(*member));
                tables.backends.insert(
                    backend,
                    Backend {
                        address: Addr::v4([10, 1, *service, *member]),
                        port: Be16::new(8080),
                        state: BackendState::ACTIVE,
                        zero: 0,
                        service: id,
                        generation: 1,
                    },
                );
                tables.slots.insert(SlotIndex(next), backend);
                next += 1;
            }
        }
        tables
    }

    fn some() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
        prop::collection::btree_map(0..8_u8, prop::collection::vec(0..8_u8, 0..5), 0..5)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #![proptest_config(crate::repeatable::config(512))]

        #[test]
        fn every_prefix_is_sound_and_the_end_is_wanted(from in some(), to in some()) {
            let (mut now, wanted) = (tables(0, &from), tables(1, &to));
            prop_assert_eq!(now.soundness(), Ok(()));
            for op in diff(&now, &wanted) {
                now.apply(op);
                prop_assert_eq!(now.soundness(), Ok(()), "after {:?} of\n{}", op, now);
            }
            now.prune();
            prop_assert_eq!(&now, &wanted, "{}\n{}", now, wanted);
            prop_assert_eq!(diff(&now, &wanted), vec![]);
        }
    }

    #[test]
    fn operations_come_in_the_order_of_their_variants() {
        let ops = diff(
            &tables(0, &[(1, vec![1, 2])]),
            &tables(1, &[(2, vec![1, 3])]),
        );
        let kinds: Vec<_> = ops
            .iter()
            .map(|op| match op {
                Op::ClearService(_) => 0,
                Op::ClearBackend(_) => 1,
                Op::PutInside(..) => 2,
                Op::PutNode(..) => 3,
                Op::PutSources(..) => 4,
                Op::PutBackend(..) => 5,
                Op::PutSlot(..) => 6,
                Op::PutService(..) => 7,
                Op::RemoveService(_) => 8,
                Op::RemoveAddress(_) => 9,
                Op::FreeBackend(..) => 10,
                Op::RemoveInside(_) => 11,
                Op::RemoveSources(_) => 12,
            })
            .collect();
        assert_eq!(
            kinds,
            [0, 1, 1, 2, 3, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 10, 11, 12]
        );
    }
}
