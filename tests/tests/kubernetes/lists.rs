//! The first listing, in every way a server has.

use anyhow::Result;
use clusterip_agent::source::kubernetes::Scope;
use clusterip_tests::{
    ApiServer,
    apiserver::{Answer, Fault, Streaming, objects},
};

use crate::listener::{Listener, NODE};

/// A server with a node, and so many services with an endpoint each.
pub(crate) fn server(services: u8) -> Result<ApiServer> {
    let server = ApiServer::start()?;
    server.put(objects::node(NODE, "zone-a"))?;
    for number in 1..=services {
        add(&server, number)?;
    }
    Ok(server)
}

/// Adds the service `web-NUMBER` and its slice.
pub(crate) fn add(server: &ApiServer, number: u8) -> Result<()> {
    let name = format!("web-{number}");
    server.put(objects::service(
        &name,
        &format!("10.96.0.{number}"),
        80,
        8080,
    ))?;
    slice(server, number, &[number])
}

/// Says which endpoints the service `web-NUMBER` has.
pub(crate) fn slice(server: &ApiServer, number: u8, endpoints: &[u8]) -> Result<()> {
    let name = format!("web-{number}");
    let addresses: Vec<String> = endpoints
        .iter()
        .map(|it| format!("10.244.0.{it}"))
        .collect();
    server.put(objects::slice(
        &format!("{name}-abc"),
        &name,
        &addresses,
        8080,
    ))
}

/// What a listener knows of so many services.
pub(crate) fn listed(services: u8) -> Vec<String> {
    (1..=services)
        .map(|it| format!("web-{it} 10.96.0.{it}:80 -> 10.244.0.{it}:8080"))
        .collect()
}

fn lists(server: &ApiServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    requests.filter(|it| it.starts_with("list")).collect()
}

/// F1: `Reset` first, `Synced` once and after everything.
#[test]
fn f1_a_list_that_a_watch_begins_with_is_complete_before_anything_is_done() -> Result<()> {
    let server = server(3)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.services(), listed(3));
    assert_eq!(lists(&server), Vec::<String>::new());
    assert_eq!(listener.heard.first().map(String::as_str), Some("Reset"));
    assert_eq!(listener.count("Synced"), 1);
    let synced = listener.heard.iter().position(|it| it == "Synced");
    let last = listener.heard.iter().rposition(|it| it.starts_with("Put"));
    assert!(last < synced, "{:?}", listener.heard);
    assert_eq!(&*listener.snapshot().node.zone, "zone-a");
    assert_eq!(listener.problems(), Vec::<String>::new());
    assert_eq!(listener.connection().server, server.url());
    Ok(())
}

/// F1: services alone are not enough.
#[test]
fn f1_nothing_is_complete_while_one_of_both_lists_is_missing() -> Result<()> {
    let server = server(2)?;
    server.fail(Fault::status("endpointslices", 500, Fault::ALWAYS));
    let mut listener = Listener::to(&server)?;
    listener.until(
        "services are known, and slices are asked for in vain",
        |it| {
            it.count("Put Service default/web-2") == 1
                && it
                    .lost()
                    .is_some_and(|why| why.contains("endpointslices: 500"))
        },
    )?;
    assert!(!listener.is_synced());
    assert_eq!(listener.services(), Vec::<String>::new());
    server.recover();
    listener.until("all is listed", |it| it.services() == listed(2))
}

#[test]
fn a_server_that_refuses_streaming_lists_is_asked_for_pages() -> Result<()> {
    let server = server(5)?;
    server.set_streaming(Streaming::Refused);
    server.set_page(2);
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.services(), listed(5));
    let services = lists(&server);
    let services = services.iter().filter(|it| it.contains("list services"));
    assert_eq!(services.count(), 3, "{:?}", server.requests());
    // What happens next is heard all the same.
    add(&server, 6)?;
    listener.until("the sixth is there", |it| it.services() == listed(6))
}

/// Before 1.27 nobody knew them: such a server sends what it has, and never says that this was all.
#[test]
fn a_server_that_does_not_know_streaming_lists_is_found_out() -> Result<()> {
    let server = server(2)?;
    server.set_streaming(Streaming::Unknown);
    let mut listener = Listener::to(&server)?;
    listener.until("objects come", |it| {
        it.count("Put EndpointSlice default/web-2-abc") > 0
    })?;
    assert!(!listener.is_synced());
    // As a server does once a minute: a watch that begins after one hears the next.
    listener.until("all is listed", |it| {
        server.bookmark();
        it.is_synced()
    })?;
    assert_eq!(listener.services(), listed(2));
    assert!(!lists(&server).is_empty());
    Ok(())
}

#[test]
fn a_list_whose_next_page_is_forgotten_is_begun_again() -> Result<()> {
    let server = server(5)?;
    server.set_streaming(Streaming::Refused);
    server.set_page(2);
    // The second page is too old.
    server.fail(Fault::status("services", 200, 0));
    server.fail(Fault {
        verb: "list",
        resource: "services",
        times: 1,
        answer: Answer::Status {
            code: 410,
            reason: "Expired",
            message: "The provided continue parameter is too old".to_owned(),
            again: None,
        },
    });
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", |it| it.services() == listed(5))
}

#[test]
fn a_first_list_that_breaks_off_is_begun_again() -> Result<()> {
    let server = server(4)?;
    for (verb, bytes) in [("watch", 100), ("watch", 2500)] {
        server.fail(Fault {
            verb,
            resource: "services",
            times: 1,
            answer: Answer::Broken(bytes),
        });
    }
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.services(), listed(4));
    Ok(())
}

/// What was in a list that broke off and is gone when it is begun again is gone here too.
#[test]
fn f9_what_only_a_broken_list_had_is_gone() -> Result<()> {
    let server = server(2)?;
    server.fail(Fault {
        verb: "watch",
        resource: "services",
        times: 1,
        answer: Answer::Broken(1500),
    });
    server.fail(Fault::status("services", 503, 2));
    let mut listener = Listener::to(&server)?;
    listener.until("one service is known", |it| {
        it.count("Put Service default/web-1") == 1
    })?;
    server.delete("services", "default", "web-1");
    listener.until("all is listed", Listener::is_synced)?;
    listener.until("only one is left", |it| it.names() == ["web-2"].into())
}

/// A13: kube-proxy's filter, live.
#[test]
fn a13_labels_take_a_service_out_and_back_in() -> Result<()> {
    let server = server(2)?;
    let labelled = |label: Option<&str>| -> Result<()> {
        let mut service = objects::service("web-1", "10.96.0.1", 80, 8080);
        if let Some(label) = label {
            service["metadata"]["labels"] = serde_json::json!({label: "other"});
        }
        server.put(service)
    };
    labelled(Some("service.kubernetes.io/service-proxy-name"))?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.names(), ["web-2"].into());
    labelled(None)?;
    listener.until("it is back", |it| it.services() == listed(2))?;
    labelled(Some("service.kubernetes.io/headless"))?;
    listener.until("it is gone", |it| it.names() == ["web-2"].into())?;
    Ok(())
}

/// J3: the resolver answers for services that the dataplane does not have.
#[test]
fn j3_where_names_are_answered_headless_services_are_listed_too() -> Result<()> {
    let server = server(1)?;
    let mut headless = objects::service("db", "None", 5432, 5432);
    headless["metadata"]["labels"] = serde_json::json!({"service.kubernetes.io/headless": ""});
    server.put(headless)?;
    let file = server.kubeconfig()?;
    let mut listener = Listener::by(file.path(), &[], &Scope::new(NODE, true))?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.names(), ["db", "web-1"].into());
    assert_eq!(listener.services(), listed(1));
    Ok(())
}

/// A list of nothing is complete too.
#[test]
fn an_empty_cluster_is_complete_and_a_node_that_is_not_there_is_named() -> Result<()> {
    for streaming in [Streaming::Supported, Streaming::Refused] {
        let server = ApiServer::start()?;
        server.set_streaming(streaming);
        let mut listener = Listener::to(&server)?;
        listener.until("all is listed", Listener::is_synced)?;
        let problems = listener.problems();
        assert!(
            matches!(problems.as_slice(), [one] if one.starts_with("Node node-a: the API server has no node of this name")),
            "{problems:?}"
        );
        server.put(objects::node(NODE, "zone-b"))?;
        listener.until("the node is known", |it| {
            it.problems().is_empty() && &*it.snapshot().node.zone == "zone-b"
        })?;
    }
    Ok(())
}
