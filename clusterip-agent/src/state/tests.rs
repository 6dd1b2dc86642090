//! Whatever becomes of the files: never half a state, and never an end of the agent.

use std::{collections::BTreeMap, net::IpAddr};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    model::{node_ports::PortKey, object::ObjectName, service::Protocol},
    repeatable::config,
};

fn name(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

fn some() -> Allocations {
    let key = PortKey {
        port: 80,
        protocol: Protocol::Udp,
    };
    let addresses = ["10.96.0.10", "fd00:10:96::a"].map(|text| text.parse().unwrap());
    Allocations {
        addresses: BTreeMap::from([(name("web"), addresses.to_vec())]),
        resting: BTreeMap::from([("10.96.0.9".parse().unwrap(), name("web"))]),
        node_ports: BTreeMap::from([(
            name("web"),
            BTreeMap::from([(key, 30_123), (PortKey::HEALTH_CHECK, 30_124)]),
        )]),
    }
}

fn one(service: &str, address: &str) -> Changes {
    let address = address.parse().unwrap();
    Changes {
        addresses: BTreeMap::from([(name(service), vec![address])]),
        ..Changes::default()
    }
}

/// A store, and what it was told to keep.
struct Told {
    store: Store,
    now: Allocations,
}

impl Told {
    fn new(directory: &Path, now: Allocations) -> Self {
        let store = Store::new(directory);
        Self { store, now }
    }

    fn save(&mut self, changes: &Changes) -> Result<(), StateError> {
        self.now.apply(changes.clone());
        self.store.save(changes, || self.now.clone())
    }
}

/// A directory in which all of `some` is kept.
fn kept() -> (TempDir, Told) {
    let directory = tempfile::tempdir().unwrap();
    let mut told = Told::new(directory.path(), some());
    told.save(&Changes::default()).unwrap();
    (directory, told)
}

fn loaded(directory: &TempDir) -> Allocations {
    Store::new(directory.path()).load().unwrap()
}

fn aside_of(directory: &TempDir, name: &str) -> PathBuf {
    aside(&directory.path().join(name))
}

/// G4
#[test]
fn g4_allocations_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/when/needed");
    let mut told = Told::new(&path, Allocations::new());
    assert_eq!(told.store.load().unwrap(), Allocations::new());
    for change in [
        one("a", "10.96.0.1"),
        one("b", "10.96.0.2"),
        Changes::default(),
    ] {
        told.save(&change).unwrap();
        assert_eq!(Store::new(&path).load().unwrap(), told.now);
    }
    let gone = Changes {
        addresses: BTreeMap::from([(name("a"), Vec::new())]),
        resting: BTreeMap::from([("10.96.0.1".parse().unwrap(), Some(name("a")))]),
        node_ports: some().node_ports,
    };
    told.save(&gone).unwrap();
    assert_eq!(Store::new(&path).load().unwrap(), told.now);
    let rested = Changes {
        resting: BTreeMap::from([("10.96.0.1".parse().unwrap(), None)]),
        node_ports: BTreeMap::from([(name("web"), BTreeMap::new())]),
        ..Changes::default()
    };
    told.save(&rested).unwrap();
    let found = Store::new(&path).load().unwrap();
    assert_eq!(found, told.now);
    let wanted = BTreeMap::from([(name("b"), vec!["10.96.0.2".parse().unwrap()])]);
    assert_eq!((found.addresses, found.resting.len()), (wanted, 0));
}

#[test]
fn a_change_adds_a_line_and_leaves_the_rest_as_it_is() {
    let (directory, mut told) = kept();
    let whole = fs::read(directory.path().join(FILE)).unwrap();
    told.save(&one("a", "10.96.0.1")).unwrap();
    told.save(&one("b", "10.96.0.2")).unwrap();
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), whole);
    let journal = fs::read_to_string(directory.path().join(JOURNAL)).unwrap();
    let shown: Vec<&str> = journal.lines().map(|line| &line[17..]).collect();
    let head = format!(r#"{{"version":1,"of":"{}"}}"#, journal::checksum(&whole));
    assert_eq!(
        shown,
        [
            head.as_str(),
            r#"{"services":{"default/a":["10.96.0.1"]}}"#,
            r#"{"services":{"default/b":["10.96.0.2"]}}"#,
        ]
    );
}

#[test]
fn a_journal_that_became_long_makes_room_for_another() {
    let (directory, mut told) = kept();
    let length = || fs::metadata(directory.path().join(JOURNAL)).unwrap().len();
    let mut longest = 0;
    for number in 0..8_000_u32 {
        let address = IpAddr::from(std::net::Ipv4Addr::from(0x0a60_0100 + number % 7));
        told.save(&one("a", &address.to_string())).unwrap();
        let now = length();
        if now < longest {
            break;
        }
        longest = now;
    }
    assert!(longest < 300 << 10, "{longest} bytes");
    assert!(length() < longest);
    assert_eq!(loaded(&directory), told.now);
}

#[test]
fn a_damaged_file_is_set_aside() {
    for text in [
        "",
        "{",
        r#"{"version":2,"services":{}}"#,
        r#"{"version":1,"services":{"web":["10.96.0.1"]}}"#,
        r#"{"version":1,"services":{"default/web":["10.96.0.300"]}}"#,
        r#"{"version":1,"services":{},"resting":{"10.96.0.3":"web"}}"#,
        r#"{"version":1,"services":{},"nodePorts":{"a/web":{"80":30000}}}"#,
        r#"{"version":1,"services":{},"nodePorts":{"a/web":{"0/TCP":30000}}}"#,
        r#"{"version":1,"services":{"a/web":["10.96.0.3"],"b/web":["10.96.0.3"]}}"#,
    ] {
        let (directory, mut told) = kept();
        told.save(&one("a", "10.96.0.1")).unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, text).unwrap();
        assert_eq!(loaded(&directory), Allocations::new(), "{text}");
        assert!(!path.exists(), "{text}");
        let aside = fs::read_to_string(aside_of(&directory, FILE)).unwrap();
        assert_eq!(aside, text);
        let mut next = Told::new(directory.path(), some());
        next.save(&Changes::default()).unwrap();
        assert_eq!(loaded(&directory), some(), "the old journal has no say");
    }
}

/// G4: whatever was done when the machine stopped, the old state or the new one is there, and the next one can be kept.
#[test]
fn g4_a_crash_in_any_moment_of_saving_leaves_the_old_or_the_new_state() {
    let new = Allocations {
        addresses: one("new", "10.96.0.77").addresses,
        ..Allocations::new()
    };
    let bytes = text::text(&new).unwrap();
    let whole = bytes.len();
    let begun = [0, 1, whole / 2, whole - 1, whole].map(|length| (0, length));
    for (count, length) in begun.into_iter().chain((1..=4).map(|count| (count, 0))) {
        // Beside a journal with a change, which the new file holds or not.
        let (directory, mut told) = kept();
        told.save(&one("a", "10.96.0.1")).unwrap();
        durable::replace_in_part(&directory.path().join(FILE), &bytes, count, length);
        let wanted = if count < 3 { &told.now } else { &new };
        let found = loaded(&directory);
        assert_eq!(&found, wanted, "after {count} steps and {length} bytes");
        // The journal of the new file, in part.
        let head = journal::head(&bytes).unwrap();
        let journal = directory.path().join(JOURNAL);
        for count in if count < 3 { 0..0 } else { 0..5 } {
            durable::replace_in_part(&journal, head.as_bytes(), count, head.len() / 2);
            assert_eq!(
                loaded(&directory),
                new,
                "after {count} steps of the journal"
            );
        }
        let mut next = Told::new(directory.path(), found);
        next.save(&one("b", "10.96.0.2")).unwrap();
        next.save(&one("c", "10.96.0.3")).unwrap();
        assert_eq!(loaded(&directory), next.now);
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 2, "nothing is left beside the files");
    }
}

/// G4: a line of which only a part came to the disk was not kept yet, and nothing before it is lost.
#[test]
fn g4_a_crash_in_any_moment_of_adding_a_change_leaves_the_old_or_the_new_state() {
    let (directory, mut told) = kept();
    told.save(&one("a", "10.96.0.1")).unwrap();
    let path = directory.path().join(JOURNAL);
    let (old, before) = (told.now.clone(), fs::read(&path).unwrap());
    told.save(&one("b", "10.96.0.2")).unwrap();
    let after = fs::read(&path).unwrap();
    for length in before.len()..=after.len() {
        for rest in [&b""[..], b"\0\0\0\0", b"rubbish without an end"] {
            let mut bytes = after[..length].to_vec();
            bytes.extend_from_slice(rest);
            fs::write(&path, bytes).unwrap();
            // The end of the line alone is no part of what the checksum is of.
            let is_whole = length == after.len() || (length + 1 == after.len() && rest.is_empty());
            let wanted = if is_whole { &told.now } else { &old };
            assert_eq!(&loaded(&directory), wanted, "{length} bytes");
            assert!(!aside_of(&directory, JOURNAL).exists());
        }
    }
    // What an agent that goes on adds comes to stand in its place.
    told.save(&one("c", "10.96.0.3")).unwrap();
    assert_eq!(loaded(&directory), told.now);
}

#[test]
fn of_a_damaged_journal_what_is_whole_counts_and_the_later_gift_wins() {
    let (directory, mut told) = kept();
    told.save(&one("a", "10.96.0.1")).unwrap();
    let moved = Changes {
        addresses: BTreeMap::from([(name("a"), Vec::new())]),
        ..Changes::default()
    };
    told.save(&moved).unwrap();
    told.save(&one("b", "10.96.0.1")).unwrap();
    let path = directory.path().join(JOURNAL);
    let text = fs::read_to_string(&path).unwrap();
    // The line that says that `a` has it no more.
    let damaged = text.replace(r#""default/a":[]"#, r#""default/a":[ "#);
    assert_ne!(damaged, text);
    fs::write(&path, &damaged).unwrap();
    assert_eq!(loaded(&directory), told.now);
    let aside = aside_of(&directory, JOURNAL);
    assert_eq!(fs::read_to_string(aside).unwrap(), damaged);
    assert!(path.exists(), "it is needed until all is written anew");
}

#[test]
fn a_journal_of_another_file_has_no_say() {
    let (directory, mut told) = kept();
    told.save(&one("a", "10.96.0.1")).unwrap();
    let text = text::text(&some()).unwrap();
    fs::write(directory.path().join(FILE), [&text[..], b"\n"].concat()).unwrap();
    assert_eq!(loaded(&directory), some());
    fs::remove_file(directory.path().join(FILE)).unwrap();
    assert_eq!(loaded(&directory), Allocations::new());
}

/// Files that somebody takes away or replaces under a running agent are written anew.
#[test]
fn what_is_not_there_any_more_is_not_continued() {
    let take_away: [fn(&Path); 4] = [
        |directory| fs::remove_file(directory.join(FILE)).unwrap(),
        |directory| fs::remove_file(directory.join(JOURNAL)).unwrap(),
        |directory| fs::remove_dir_all(directory).unwrap(),
        |directory| {
            let (new, path) = (directory.join("copy"), directory.join(JOURNAL));
            fs::copy(&path, &new).unwrap();
            fs::rename(new, path).unwrap();
        },
    ];
    for act in take_away {
        let (directory, mut told) = kept();
        told.save(&one("a", "10.96.0.1")).unwrap();
        act(directory.path());
        told.save(&one("b", "10.96.0.2")).unwrap();
        assert_eq!(loaded(&directory), told.now);
    }
}

#[test]
fn every_truncated_file_is_set_aside() {
    let bytes = text::text(&some()).unwrap();
    for length in 0..bytes.len() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), &bytes[..length]).unwrap();
        let found = loaded(&directory);
        let is_whole = found == some() && length + 1 == bytes.len();
        assert!(found == Allocations::new() || is_whole, "{length} bytes");
    }
}

#[test]
fn an_address_that_rests_for_nobody_known_is_kept_too() {
    let (directory, mut told) = kept();
    let rests = Changes {
        resting: BTreeMap::from([("10.96.0.44".parse().unwrap(), Some(ObjectName::unknown()))]),
        ..Changes::default()
    };
    told.save(&rests).unwrap();
    assert_eq!(loaded(&directory), told.now);
    let mut next = Told::new(directory.path(), told.now.clone());
    next.save(&Changes::default()).unwrap();
    assert_eq!(loaded(&directory), told.now);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut told = Told::new(&file.path().join("below-a-file"), some());
    let error = told.save(&Changes::default()).unwrap_err();
    assert!(error.to_string().contains("below-a-file"), "{error}");
}

proptest! {
    #![proptest_config(config(64))]

    /// G4: no row of changes and starts is told apart from one state that was written as a whole.
    #[test]
    fn g4_changes_add_up(steps in prop::collection::vec((0..6_u8, 0..40_u8, any::<bool>()), 0..60)) {
        let directory = tempfile::tempdir().unwrap();
        let mut told = Told::new(directory.path(), Allocations::new());
        for (service, address, restarts) in steps {
            let mut change = one(&service.to_string(), &format!("10.96.0.{address}"));
            // An address has one owner.
            let given: Vec<IpAddr> = change.addresses.values().flatten().copied().collect();
            for (other, held) in &told.now.addresses {
                if held.iter().any(|it| given.contains(it)) {
                    change.addresses.entry(other.clone()).or_default();
                }
            }
            told.save(&change).unwrap();
            if restarts {
                let now = loaded(&directory);
                prop_assert_eq!(&now, &told.now);
                told = Told::new(directory.path(), now);
            }
        }
        if !told.now.addresses.is_empty() {
            prop_assert_eq!(loaded(&directory), told.now);
        }
    }
}
