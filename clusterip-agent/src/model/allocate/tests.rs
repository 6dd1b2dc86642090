use proptest::prelude::*;
use serde_json::json;

use super::{resting::REST, *};
use crate::model::objects_for_tests::{app, listing, name, put, remove, service};

/// Who has which addresses.
type Addresses = BTreeMap<ObjectName, Vec<IpAddr>>;

fn allocator(nets: &[&str], kept: Addresses) -> Allocator {
    let ranges = nets
        .iter()
        .map(|net| ServiceRange::new(net.parse().unwrap()))
        .collect();
    Allocator::new(ranges, kept, BTreeMap::new())
}

/// The allocations after these events.
fn settle(
    allocator: &mut Allocator,
    cluster: &mut Cluster,
    events: Vec<crate::model::event::Event>,
) -> Addresses {
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
        let fresh = || allocator(&["10.0.0.0/27"], Addresses::new());
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
    let (mut first, mut cluster) = (allocator(&range, Addresses::new()), Cluster::default());
    let before = settle(&mut first, &mut cluster, listing([app("web")]));
    let address = before[&name("web")][0];
    assert!(first.addresses(&name("web"))[0].provisional);
    let unkept = |allocator: &Allocator| {
        let addresses = |name: &ObjectName| (name.clone(), allocator.held_by(name).collect());
        Changes {
            addresses: allocator.unkept().map(addresses).collect(),
            resting: allocator.unkept_resting().collect(),
            ..Changes::default()
        }
    };
    assert_eq!(unkept(&first).addresses, first.kept());
    let kept = first.kept();
    first.saved(&mut BTreeSet::new());
    assert!(unkept(&first).is_empty());
    assert!(!first.addresses(&name("web"))[0].provisional);

    // After a restart an explicit request for it comes too late, and so does one that comes live.
    let rival = named("a-rival", &address.to_string());
    for events in [
        vec![listing([app("web"), rival.clone()])],
        vec![listing([app("web")]), vec![put(rival.clone())]],
    ] {
        let (mut next, mut cluster) = (allocator(&range, kept.clone()), Cluster::default());
        let mut after = Addresses::new();
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
    let kept = Addresses::from([(name("web"), vec![address])]);
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
    let (mut both, mut cluster) = (allocator(&nets, Addresses::new()), Cluster::default());
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

    let (mut one, mut cluster) = (allocator(&nets[..1], Addresses::new()), Cluster::default());
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
    let kept = Addresses::from([(name("web"), vec!["10.0.9.9".parse().unwrap()])]);
    let (mut next, mut cluster) = (allocator(&["10.0.0.0/27"], kept), Cluster::default());
    let after = settle(&mut next, &mut cluster, listing([app("web")]));
    assert!(after[&name("web")][0].to_string().starts_with("10.0.0."));
}

/// G4
#[test]
fn a_released_address_rests_before_somebody_else_gets_it() {
    // Two usable addresses.
    let range = ["10.0.0.0/30"];
    let two = |allocator: &mut Allocator, cluster: &mut Cluster| {
        settle(allocator, cluster, listing([app("a"), app("b")]))
    };
    let (mut one, mut cluster) = (allocator(&range, Addresses::new()), Cluster::default());
    let before = two(&mut one, &mut cluster);
    let address = before[&name("a")][0];
    let third = settle(&mut one, &mut cluster, vec![put(app("c"))]);
    assert!(third[&name("c")].is_empty(), "the range is full");
    let after = settle(&mut one, &mut cluster, vec![remove(&app("a"))]);
    assert!(after[&name("c")].is_empty(), "flows to it may live");
    assert_eq!(one.resting(), BTreeMap::from([(address, name("a"))]));

    // The rest goes on after a restart, and its last owner may come back at once.
    let ranges = vec![ServiceRange::new("10.0.0.0/30".parse().unwrap())];
    let mut next = Allocator::new(ranges, one.kept(), one.resting());
    let mut again = Cluster::default();
    let waits = settle(&mut next, &mut again, listing([app("b"), app("c")]));
    assert!(waits[&name("c")].is_empty());
    let back = settle(&mut next, &mut again, vec![put(app("a"))]);
    assert_eq!(back[&name("a")], [address]);

    for advance in 1..=REST {
        let mut touched = BTreeSet::new();
        one.advance(&mut touched);
        one.settle(&cluster, &mut touched);
        let has_it = !one.addresses(&name("c")).is_empty();
        assert_eq!(has_it, advance == REST);
    }
    assert_eq!(one.addresses(&name("c"))[0].address, address);
    assert!(one.faults(&name("c")).is_empty());
}

/// G4
#[test]
fn an_external_name_gives_its_address_back() {
    let (mut one, mut cluster) = (
        allocator(&["10.0.0.0/27"], Addresses::new()),
        Cluster::default(),
    );
    settle(&mut one, &mut cluster, listing([app("web")]));
    let external = service(
        "web",
        &json!({ "type": "ExternalName", "externalName": "example.com" }),
    );
    let after = settle(&mut one, &mut cluster, vec![put(external)]);
    assert!(after[&name("web")].is_empty());
    assert!(one.kept().is_empty());
}

/// G5
#[test]
fn an_upgrade_adds_the_second_family_and_a_downgrade_releases_it() {
    let nets = ["10.0.0.0/24", "fd00::/112"];
    let (mut both, mut cluster) = (allocator(&nets, Addresses::new()), Cluster::default());
    let with = |policy: &str| {
        service(
            "web",
            &json!({ "ipFamilyPolicy": policy, "ports": [{ "port": 80 }] }),
        )
    };
    let single = settle(&mut both, &mut cluster, listing([with("SingleStack")]));
    let dual = settle(&mut both, &mut cluster, vec![put(with("RequireDualStack"))]);
    let [first, second] = dual[&name("web")][..] else {
        panic!("{dual:?}");
    };
    assert_eq!(single[&name("web")], [first], "an update keeps it");
    assert_eq!(Family::of(second), Family::V6);
    let down = settle(&mut both, &mut cluster, vec![put(with("SingleStack"))]);
    assert_eq!(down, single);
    assert!(both.resting().contains_key(&second));
}

/// G6
#[test]
fn a_full_range_an_address_outside_and_a_taken_one_have_their_own_errors() {
    let (mut one, mut cluster) = (
        allocator(&["10.0.0.0/30"], Addresses::new()),
        Cluster::default(),
    );
    let objects = [
        named("a-named", "10.0.0.1"),
        named("b-taken", "10.0.0.1"),
        named("c-outside", "10.0.9.9"),
        named("d-reserved", "10.0.0.3"),
        app("e-last"),
        app("f-full"),
    ];
    settle(&mut one, &mut cluster, listing(objects));
    for (service, message) in [
        ("b-taken", "is taken by Service default/a-named"),
        ("c-outside", "is outside the service range 10.0.0.0/30"),
        ("d-reserved", "is the first or last address"),
        ("f-full", "the service range 10.0.0.0/30 is full"),
    ] {
        let faults = one.faults(&name(service));
        assert!(faults[0].message.contains(message), "{service}: {faults:?}");
    }
}

proptest! {
    #![proptest_config(crate::repeatable::config(64))]

    /// G4: under any sequence of changes no address has two owners, no one gets an address that rests after another,
    /// and restarts change nothing.
    #[test]
    fn no_address_is_given_twice(steps in prop::collection::vec((0..8_u8, 0..6_u8), 1..40)) {
        let ranges = || vec![ServiceRange::new("10.0.0.0/29".parse().unwrap())];
        let mut one = Allocator::new(ranges(), Addresses::new(), BTreeMap::new());
        let mut cluster = Cluster::default();
        settle(&mut one, &mut cluster, listing([]));
        for (number, what) in steps {
            let service_name = format!("s{number}");
            let resting = one.resting();
            let before = one.kept();
            match what {
                0..3 => {
                    settle(&mut one, &mut cluster, vec![put(app(&service_name))]);
                    for (owner, addresses) in one.kept() {
                        for address in addresses {
                            let is_new = !before.get(&owner).is_some_and(|it| it.contains(&address));
                            let last = resting.get(&address);
                            prop_assert!(!is_new || last.is_none_or(|last| *last == owner));
                        }
                    }
                }
                3 => {
                    settle(&mut one, &mut cluster, vec![put(named(&service_name, "10.0.0.3"))]);
                }
                4 => {
                    settle(&mut one, &mut cluster, vec![remove(&app(&service_name))]);
                }
                _ => {
                    let mut touched = BTreeSet::new();
                    one.advance(&mut touched);
                    one.settle(&cluster, &mut touched);
                }
            }
            let kept = one.kept();
            let all: Vec<&IpAddr> = kept.values().flatten().collect();
            let unique: BTreeSet<&IpAddr> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), unique.len());
            let next = Allocator::new(ranges(), one.kept(), one.resting());
            prop_assert_eq!(next.kept(), kept);
        }
    }
}
