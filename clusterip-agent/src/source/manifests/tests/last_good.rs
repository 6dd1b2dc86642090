//! H, over a restart: what an agent has kept of good files, and what the next one makes of bad ones.

use super::*;

/// The copies of one agent, as the next one finds them.
fn kept(source: &ManifestSource, read: Listing, mut copies: Listing) -> Listing {
    copies.retain(|name, _| source.has(name));
    copies.extend(source.good(read).map(|(name, text)| (name, Ok(text))));
    copies
}

/// One agent after another over successive contents of the directory: what each sees first.
fn restarts(contents: &[&[(&str, &str)]]) -> Vec<Vec<String>> {
    let mut copies = Listing::new();
    let each = contents.iter().map(|files| {
        let mut source = source();
        source.remember(copies.clone());
        let events = source.update(listing(files));
        copies = kept(&source, listing(files), std::mem::take(&mut copies));
        let shown = events.iter().map(|event| match event {
            Event::Put(object) => format!("put {} {}", object.key, port(object)),
            event => self::shown(std::slice::from_ref(event)).concat(),
        });
        shown.collect()
    });
    each.collect()
}

fn port(object: &Object) -> u16 {
    let Spec::Service(service) = &object.spec else {
        return 0;
    };
    let spec = service.spec.as_ref();
    let port = spec.and_then(|spec| spec.ports().next());
    port.map_or(0, |port| port.port)
}

#[test]
fn an_object_that_turned_bad_while_no_agent_ran_keeps_its_last_good_state() {
    let good = service("web", 80);
    let bad = good.replace("80", "eighty");
    let seen = restarts(&[
        &[("web.yaml", &good)],
        &[("web.yaml", &bad)],
        // And over any number of restarts.
        &[("web.yaml", &bad)],
        &[("web.yaml", &service("web", 81))],
    ]);
    let with = |port: u16, problems: usize| {
        let put = format!("put Service default/web {port}");
        vec![
            "reset".to_owned(),
            put,
            "synced".to_owned(),
            format!("problems {problems}"),
        ]
    };
    assert_eq!(seen, [with(80, 0), with(80, 1), with(80, 1), with(81, 0)]);
}

#[test]
fn a_text_that_is_no_yaml_keeps_what_it_defined() {
    let good = service("web", 80);
    let seen = restarts(&[&[("web.yaml", &good)], &[("web.yaml", "kind: [")]]);
    assert_eq!(seen[1][1], "put Service default/web 80");
}

#[test]
fn the_good_objects_of_a_bad_file_are_as_they_are_now() {
    let both = format!("{}---\n{}", service("web", 80), service("db", 80));
    let changed = format!(
        "{}---\n{}",
        service("web", 81),
        service("db", 80).replace("80", "x")
    );
    let without = service("db", 80).replace("80", "x");
    let seen = restarts(&[
        &[("all.yaml", &both)],
        &[("all.yaml", &changed)],
        &[("all.yaml", &without)],
    ]);
    assert_eq!(
        seen[1][1..3],
        ["put Service default/db 80", "put Service default/web 81"]
    );
    assert_eq!(
        seen[2][1..3],
        ["put Service default/db 80", "synced"],
        "it was taken out of the file"
    );
}

#[test]
fn a_file_that_is_gone_is_gone_and_one_that_never_was_good_hinders_no_other() {
    let good = service("web", 80);
    let mixed = format!("kind: Service\napiVersion: v1\nmetadata: {{name: Bad_Name}}\n---\n{good}");
    let worse = mixed.replace("80", "x");
    let seen = restarts(&[&[("all.yaml", &mixed)], &[("all.yaml", &worse)], &[]]);
    assert_eq!(seen[0][1], "put Service default/web 80");
    assert_eq!(seen[1][1], "put Service default/web 80");
    assert_eq!(seen[2], ["reset", "synced", "problems 0"]);
}

/// While an agent runs an address may not be changed. A restart is a new beginning.
#[test]
fn what_is_good_counts_as_it_is_whatever_it_was_before() {
    let at = |address: &str| format!("{}  clusterIP: {address}\n", service("web", 80));
    let (one, two) = (at("10.96.0.1"), at("10.96.0.2"));
    let seen = restarts(&[&[("web.yaml", &one)], &[("web.yaml", &two)]]);
    assert_eq!(seen[1].last().unwrap(), "problems 0");
    let mut running = source();
    running.update(listing(&[("web.yaml", &one)]));
    let events = running.update(listing(&[("web.yaml", &two)]));
    assert_eq!(shown(&events), ["problems 1"]);
}

#[test]
fn a_file_that_cannot_be_read_at_the_start_keeps_what_it_defined() {
    let mut source = source();
    source.remember(listing(&[("web.yaml", &service("web", 80))]));
    let unreadable = Listing::from([("web.yaml".into(), Err("cannot be read".to_owned()))]);
    let events = source.update(unreadable.clone());
    assert_eq!(
        shown(&events),
        ["reset", "put Service default/web", "synced", "problems 1"]
    );
    assert!(source.has("web.yaml") && source.good(unreadable).next().is_none());
}
