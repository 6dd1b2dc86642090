use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::objects_for_tests::{app, listing, name, put, remove, service};

fn allocator(nets: &[&str], kept: Allocations) -> Allocator {
    let ranges = nets
        .iter()
        .map(|net| ServiceRange::new(net.parse().unwrap()))
        .collect();
    Allocator::new(ranges, kept)
}

/// The allocations after these events.
fn settle(
    allocator: &mut Allocator,
    cluster: &mut Cluster,
    events: Vec<crate::model::event::Event>,
) -> Allocations {
    let mut touched = BTreeSet::new();
    for event in events {
        cluster.apply(event, &mut touched);
    }
    allocator.settle(cluster, &mut touched);
    cluster
        .services()
        .map(|name| {
            let addresses = allocator.addresses(name);
            let addresses = addresses.iter().map(|it| it.address).collect();
            (name.clone(), addresses)
        })
        .collect()
}

fn named(service_name: &str, ip: &str) -> crate::model::object::Object {
    service(
        service_name,
        &json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }),
    )
}

proptest! {
    #![proptest_config(crate::repeatable::config(64))]

    /// G2: what a service gets depends on the objects, not on the order in which they come.
    #[test]
    fn allocation_is_a_function_of_the_objects(
        order in Just((0..24_u8).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let object = |index: u8| match index {
            0..8 => named(&format!("named-{index}"), &format!("10.0.0.{}", 17 + index % 5)),
            _ => app(&format!("auto-{index}")),
        };
        let fresh = || allocator(&["10.0.0.0/27"], Allocations::new());
        let sorted = settle(&mut fresh(), &mut Cluster::default(), listing((0..24).map(object)));
        let shuffled = order.into_iter().map(object);
        let other = settle(&mut fresh(), &mut Cluster::default(), listing(shuffled));
        prop_assert_eq!(&sorted, &other);
        let all: Vec<&IpAddr> = sorted.values().flatten().collect();
        let unique: BTreeSet<&IpAddr> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), unique.len(), "G4: never the same address twice");
    }
}

/// G4
#[test]
fn who_has_an_address_keeps_it() {
    let range = ["10.0.0.0/27"];
    let (mut first, mut cluster) = (allocator(&range, Allocations::new()), Cluster::default());
    let before = settle(&mut first, &mut cluster, listing([app("web")]));
    let address = before[&name("web")][0];
    assert!(first.addresses(&name("web"))[0].provisional);
    let kept = first.unsaved().unwrap();
    first.saved(&mut BTreeSet::new());
    assert_eq!(first.unsaved(), None);
    assert!(!first.addresses(&name("web"))[0].provisional);

    // After a restart an explicit request for it comes too late, and so does one that comes live.
    let rival = named("a-rival", &address.to_string());
    for events in [
        vec![listing([app("web"), rival.clone()])],
        vec![listing([app("web")]), vec![put(rival.clone())]],
    ] {
        let (mut next, mut cluster) = (allocator(&range, kept.clone()), Cluster::default());
        let mut after = Allocations::new();
        for events in events {
            after = settle(&mut next, &mut cluster, events);
        }
        assert_eq!(after[&name("web")], [address]);
        assert!(after[&name("a-rival")].is_empty());
        let fault = &next.faults(&name("a-rival"))[0];
        assert!(fault.message.contains("Service default/web"), "{fault:?}");
        assert!(next.handed_over().is_empty());
        // It is free as soon as its owner is gone.
        let after = settle(&mut next, &mut cluster, vec![remove(&app("web"))]);
        assert_eq!(after[&name("a-rival")], [address]);
        assert!(next.faults(&name("a-rival")).is_empty());
    }
}

#[test]
fn an_address_that_went_to_another_service_meanwhile_is_known() {
    let address = "10.0.0.20".parse().unwrap();
    let kept = Allocations::from([(name("web"), vec![address])]);
    let (mut next, mut cluster) = (allocator(&["10.0.0.0/27"], kept), Cluster::default());
    settle(
        &mut next,
        &mut cluster,
        listing([named("other", "10.0.0.20")]),
    );
    assert_eq!(next.handed_over(), BTreeSet::from([address]));
}

/// G5
#[test]
fn families_follow_the_policy() {
    let nets = ["10.0.0.0/24", "fd00::/112"];
    let (mut both, mut cluster) = (allocator(&nets, Allocations::new()), Cluster::default());
    let with = |policy: &str, families: &[&str]| {
        service(
            "web",
            &json!({ "ipFamilyPolicy": policy, "ipFamilies": families, "ports": [{ "port": 80 }] }),
        )
    };
    let mut families_of = |object| {
        let all = settle(&mut both, &mut cluster, listing([object]));
        let addresses = all[&name("web")].iter();
        addresses
            .map(|it| Family::of(*it).name())
            .collect::<Vec<_>>()
    };
    assert_eq!(families_of(app("web")), ["IPv4"]);
    assert_eq!(families_of(with("PreferDualStack", &[])), ["IPv4", "IPv6"]);
    assert_eq!(families_of(with("SingleStack", &["IPv6"])), ["IPv6"]);
    assert_eq!(
        families_of(with("RequireDualStack", &["IPv6"])),
        ["IPv6", "IPv4"]
    );

    let (mut one, mut cluster) = (
        allocator(&nets[..1], Allocations::new()),
        Cluster::default(),
    );
    let preferred = settle(
        &mut one,
        &mut cluster,
        listing([with("PreferDualStack", &[])]),
    );
    assert_eq!(preferred[&name("web")].len(), 1);
    assert!(one.faults(&name("web")).is_empty());
    let required = settle(
        &mut one,
        &mut cluster,
        listing([with("RequireDualStack", &[])]),
    );
    assert_eq!(
        required[&name("web")],
        preferred[&name("web")],
        "an update keeps it"
    );
    assert!(
        one.faults(&name("web"))[0]
            .message
            .contains("no IPv6 service range")
    );
}

#[test]
fn a_range_that_became_smaller_is_left() {
    let kept = Allocations::from([(name("web"), vec!["10.0.9.9".parse().unwrap()])]);
    let (mut next, mut cluster) = (allocator(&["10.0.0.0/27"], kept), Cluster::default());
    let after = settle(&mut next, &mut cluster, listing([app("web")]));
    assert!(after[&name("web")][0].to_string().starts_with("10.0.0."));
}
