//! What one change costs beside many services, counted instead of timed (F5).
//!
//! Work that grows with the number of services shows in one of two ways: as writes, or as memory that is asked for while
//! something is copied. A search in a tree may take a level more; nothing may be copied as a whole.
#![expect(unused_crate_dependencies, reason = "they are the library's")]
#![expect(
    clippy::tests_outside_test_module,
    reason = "a test target is nothing but tests"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use anyhow::Result;
use clusterip_agent::{
    dataplane::Memory,
    model::{
        event::Event, range::ServiceRange, resolver::Resolver, service::Algorithm, validate::Rules,
    },
    plan::Limits,
    reconcile::Reconciler,
    source::manifests::{Listing, ManifestSource, Scan},
    state::Store,
};
use clusterip_tests::bench::agent::cluster::{Cluster, changes};
use tempfile::TempDir;

const FEW: usize = 100;
const MANY: usize = 2_000;
const ENDPOINTS: usize = 2;
/// Changes that are counted: now and then one splits a node of a tree.
const CHANGES: usize = 20;
/// How much more may be asked for beside twenty times as many services: the levels of the trees that are copied on a way
/// down, 11 of them in the place of 7.
const FACTOR: usize = 2;

/// The system's allocator, and how many bytes this thread has asked of it.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator as it comes; the count is a thread's own, and needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.with(|asked| asked.set(asked.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` is from `alloc` above, which is the system's.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What something asks for, and what it gives.
fn asked<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ASKED.get();
    let result = work();
    (ASKED.get() - before, result)
}

/// What one change costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cost {
    /// Bytes asked for, the most of all changes.
    bytes: usize,
    /// Services that are different afterwards.
    services: usize,
    /// Operations on the maps.
    ops: usize,
}

/// A reconciler that has programmed a cluster, and where it keeps its allocations.
fn installed(cluster: &Cluster) -> Result<(Reconciler<Memory>, TempDir)> {
    let limits = Limits::new(1 << 16, 1 << 18);
    let ranges = vec![ServiceRange::new("10.96.0.0/12".parse()?)];
    let state = tempfile::tempdir()?;
    let store = Store::new(state.path());
    let resolver = Resolver::new("node-0", Algorithm::default(), ranges, store.load()?);
    let mut agent = Reconciler::new(Memory::new(limits), resolver, Some(store), limits);
    agent.handle(cluster.listing()?);
    settle(&mut agent);
    Ok((agent, state))
}

/// Seconds pass: what a change retired is free again.
fn settle(agent: &mut Reconciler<Memory>) {
    for _ in 0..3 {
        agent.advance();
    }
}

fn cost(services: usize, events: impl Fn(&Cluster, usize) -> Vec<Event>) -> Result<Cost> {
    let cluster = Cluster {
        services,
        endpoints: ENDPOINTS,
    };
    let (mut agent, _state) = installed(&cluster)?;
    let mut all = Cost {
        bytes: 0,
        services: 0,
        ops: 0,
    };
    for turn in 1..=CHANGES {
        let events = events(&cluster, turn);
        let (bytes, report) = asked(|| agent.handle(events));
        assert!(report.failure.is_none(), "{report:?}");
        all.bytes = all.bytes.max(bytes);
        all.services += report.services;
        all.ops += report.ops;
        settle(&mut agent);
    }
    Ok(all)
}

fn assert_same(few: Cost, many: Cost) {
    assert_eq!((few.services, few.ops), (many.services, many.ops));
    assert!(few.ops > 0 && few.bytes > 0, "{few:?}");
    assert!(
        many.bytes <= few.bytes * FACTOR,
        "{} bytes beside {FEW} services, {} beside {MANY}",
        few.bytes,
        many.bytes
    );
}

#[test]
fn f5_a_changed_endpoint_costs_the_same_beside_many_services() -> Result<()> {
    let change = |cluster: &Cluster, turn| changes(cluster.slice(turn * 3, turn));
    assert_same(cost(FEW, change)?, cost(MANY, change)?);
    Ok(())
}

#[test]
fn f5_a_second_without_a_change_costs_nothing() -> Result<()> {
    for services in [FEW, MANY] {
        let (mut agent, _state) = installed(&Cluster {
            services,
            endpoints: ENDPOINTS,
        })?;
        let (bytes, report) = asked(|| agent.advance());
        assert_eq!((report.services, report.ops), (0, 0));
        assert!(bytes < 1000, "{bytes} bytes beside {services} services");
    }
    Ok(())
}

#[test]
fn f5_a_changed_file_costs_the_same_beside_many_files() {
    let cost = |services: usize| {
        let cluster = Cluster {
            services,
            endpoints: ENDPOINTS,
        };
        let name = |index: usize| format!("{index:05}.yaml").into();
        let file = |index, round| (name(index), Ok(cluster.slice(index, round).into()));
        let listing: Listing = (0..services).map(|index| file(index, 0)).collect();
        let mut source = ManifestSource::new(Rules::default());
        source.update(listing);
        let scan = Scan {
            read: Listing::from([file(7, 1)]),
            same: (0..services)
                .filter(|index| *index != 7)
                .map(name)
                .collect(),
            again: None,
        };
        let (bytes, events) = asked(|| source.update(scan));
        assert_eq!(events.len(), 1, "{events:?}");
        bytes
    };
    let (few, many) = (cost(FEW), cost(MANY));
    assert!(many <= few * FACTOR, "{few} bytes, then {many}");
}
