//! What happens after the first listing.

use std::time::Duration;

use anyhow::Result;
use clusterip_tests::{
    ApiServer,
    apiserver::{Fault, objects},
    wait,
};

use crate::{
    listener::{Listener, NODE},
    lists::{add, listed, server, slice},
};

fn started(services: u8) -> Result<(ApiServer, Listener)> {
    let server = server(services)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.services(), listed(services));
    server.forget_requests();
    Ok((server, listener))
}

/// Requests for services, without their selector and end.
fn asked_for_services(server: &ApiServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests.filter(|it| it.contains(" services ")).collect()
}

fn begins_anew(request: &str) -> bool {
    request.starts_with("list") || request.contains("sendInitialEvents")
}

#[test]
fn what_is_created_changed_and_deleted_is_followed() -> Result<()> {
    let (server, mut listener) = started(2)?;
    add(&server, 3)?;
    listener.until("it is there", |it| it.services() == listed(3))?;
    slice(&server, 3, &[3, 4])?;
    listener.until("it has two endpoints", |it| {
        it.services()
            .contains(&"web-3 10.96.0.3:80 -> 10.244.0.3:8080, 10.244.0.4:8080".to_owned())
    })?;
    server.delete("services", "default", "web-3");
    server.delete("endpointslices", "default", "web-3-abc");
    listener.until("it is gone", |it| it.services() == listed(2))?;
    // Nothing but that was touched.
    assert_eq!(listener.count("Put Service default/web-1"), 1);
    Ok(())
}

/// A slice may come before its service, and an endpoint be in two slices for a moment (A12).
#[test]
fn a12_objects_may_come_out_of_order() -> Result<()> {
    let (server, mut listener) = started(0)?;
    slice(&server, 1, &[1])?;
    listener.until("the slice came", |it| {
        it.count("Put EndpointSlice default/web-1-abc") == 1
    })?;
    let addresses = ["10.244.0.1".to_owned()];
    server.put(objects::slice("web-1-def", "web-1", &addresses, 8080))?;
    server.put(objects::service("web-1", "10.96.0.1", 80, 8080))?;
    listener.until("it serves", |it| it.services() == listed(1))?;
    server.delete("endpointslices", "default", "web-1-abc");
    listener.until("one slice went", |it| {
        it.count("Remove EndpointSlice default/web-1-abc") == 1
    })?;
    assert_eq!(listener.services(), listed(1));
    Ok(())
}

/// The version that was seen last is enough to go on: no second list.
#[test]
fn a_watch_that_breaks_or_ends_goes_on_where_it_was() -> Result<()> {
    let (server, mut listener) = started(2)?;
    for (number, end) in [
        (3, ApiServer::cut as fn(&ApiServer)),
        (4, ApiServer::end_watches),
    ] {
        end(&server);
        add(&server, number)?;
        listener.until("nothing was missed", |it| it.services() == listed(number))?;
    }
    let asked = asked_for_services(&server);
    assert!(!asked.is_empty());
    assert!(!asked.iter().any(|it| begins_anew(it)), "{asked:?}");
    assert_eq!(listener.count("Put Service default/web-1"), 1);
    Ok(())
}

/// F9
#[test]
fn f9_after_410_all_is_listed_again_and_missed_deletions_are_found() -> Result<()> {
    let (mut server, mut listener) = started(3)?;
    server.stop();
    listener.until("the server is missed", |it| it.lost().is_some())?;
    assert_eq!(
        listener.services(),
        listed(3),
        "a lost server changes nothing"
    );
    server.delete("services", "default", "web-2");
    server.delete("endpointslices", "default", "web-2-abc");
    slice(&server, 3, &[7])?;
    server.compact();
    server.resume()?;
    let wanted = [
        "web-1 10.96.0.1:80 -> 10.244.0.1:8080".to_owned(),
        "web-3 10.96.0.3:80 -> 10.244.0.7:8080".to_owned(),
    ];
    listener.until("what was missed is known", |it| it.services() == wanted)?;
    listener.until("the server is back", |it| it.lost().is_none())?;
    assert!(asked_for_services(&server).iter().any(|it| begins_anew(it)));
    assert_eq!(listener.count("Remove Service default/web-2"), 1);
    assert_eq!(listener.count("Synced"), 1, "complete is complete");
    Ok(())
}

/// A bookmark moves the version on where nothing happens: changes of other resources do not make it too old.
#[test]
fn the_next_watch_begins_at_the_bookmark() -> Result<()> {
    let (server, mut listener) = started(1)?;
    server.put(objects::node(NODE, "zone-b"))?;
    server.bookmark();
    let version = server.version();
    // Until it was heard, the watch that follows begins before it, and is told of it again.
    let resumed = wait::until("services are watched from the bookmark on", || {
        server.forget_requests();
        server.end_watches();
        let asked = wait::until("they are watched again", || {
            asked_for_services(&server).pop()
        });
        let asked = asked.ok()?;
        asked
            .contains(&format!("resourceVersion={version}"))
            .then_some(asked)
    })?;
    assert!(!begins_anew(&resumed), "{resumed}");
    add(&server, 2)?;
    listener.until("nothing was missed", |it| it.services() == listed(2))
}

#[test]
fn a_slow_server_is_waited_for_and_what_came_is_used() -> Result<()> {
    let server = server(20)?;
    server.set_pause(Duration::from_millis(5));
    let mut listener = Listener::to(&server)?;
    listener.until("some came", |it| it.count("Put Service default/web-1") == 1)?;
    assert!(!listener.is_synced());
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.names().len(), 20);
    add(&server, 21)?;
    listener.until("the next one came", |it| it.names().len() == 21)
}

#[test]
fn what_is_no_line_of_a_watch_leads_to_a_new_list() -> Result<()> {
    let (server, mut listener) = started(1)?;
    server.say("services", "{\"type\": \"MODIFIED\", \"object\": {");
    add(&server, 2)?;
    listener.until("it is heard all the same", |it| it.services() == listed(2))?;
    assert!(asked_for_services(&server).iter().any(|it| begins_anew(it)));
    // An error in the stream that is no 410: the watch is begun again.
    server.say(
        "services",
        r#"{"type":"ERROR","object":{"kind":"Status","code":500,"message":"etcdserver: leader changed"}}"#,
    );
    add(&server, 3)?;
    listener.until("it goes on", |it| it.services() == listed(3))?;
    // A kind of event that nobody knows yet.
    server.say("services", r#"{"type":"SOMETHING","object":{}}"#);
    add(&server, 4)?;
    listener.until("it goes on", |it| it.services() == listed(4))
}

/// 429 and 503 while watching: the server is asked again, and what was known stays.
#[test]
fn a_busy_server_is_left_alone_for_a_while() -> Result<()> {
    let (server, mut listener) = started(2)?;
    server.fail(Fault::status("services", 429, 2));
    server.fail(Fault::status("endpointslices", 503, 2));
    server.cut();
    listener.until("it says that it is busy", |it| {
        it.lost()
            .is_some_and(|why| why.contains("429") || why.contains("503"))
    })?;
    assert_eq!(listener.services(), listed(2));
    add(&server, 3)?;
    listener.until("it goes on", |it| {
        it.services() == listed(3) && it.lost().is_none()
    })?;
    let asked = asked_for_services(&server);
    assert!(!asked.iter().any(|it| begins_anew(it)), "{asked:?}");
    Ok(())
}
