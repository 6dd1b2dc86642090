//! A server that says no, is not there, or is not well.

use anyhow::Result;
use clusterip_agent::source::kubernetes::{Resource, Scope};
use clusterip_tests::{
    ApiServer,
    apiserver::{Answer, Fault, objects, write_kubeconfig},
};

use crate::{
    listener::{Listener, NODE},
    lists::{add, listed, server},
};

#[test]
fn rbac_that_says_no_is_named_with_verb_and_resource() -> Result<()> {
    let server = server(1)?;
    server.fail(Fault::forbidden("watch", "endpointslices"));
    let mut listener = Listener::to(&server)?;
    listener.until("the refusal is known", |it| it.lost().is_some())?;
    let why = listener.lost().unwrap_or_default();
    for words in [
        "cannot watch endpointslices: 403 endpointslices is forbidden: User",
        "let the agent's account get, list and watch endpointslices.discovery.k8s.io",
    ] {
        assert!(why.contains(words), "{why}");
    }
    assert!(!listener.is_synced());
    let unlisted: Vec<_> = listener
        .connection()
        .unlisted()
        .map(Resource::name)
        .collect();
    assert!(unlisted.contains(&"endpointslices"), "{unlisted:?}");
    // Somebody mends it.
    server.recover();
    listener.until("all is listed", |it| it.services() == listed(1))?;
    listener.until("nothing is lost", |it| it.lost().is_none())
}

/// What hangs on the node's own object is not worth all services.
#[test]
fn without_the_right_to_see_its_node_services_are_served_and_it_is_said() -> Result<()> {
    let server = server(1)?;
    server.fail(Fault::forbidden("watch", "nodes"));
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", |it| {
        it.is_synced() && it.services() == listed(1)
    })?;
    listener.until("it is said", |it| {
        it.problems()
            .iter()
            .any(|it| it.contains("cannot watch nodes: 403"))
    })?;
    server.recover();
    listener.until("the node is known", |it| {
        it.problems().is_empty() && &*it.snapshot().node.zone == "zone-a"
    })
}

#[test]
fn who_is_not_known_any_more_is_told_to_renew() -> Result<()> {
    let server = server(1)?;
    server.fail(Fault {
        verb: "",
        resource: "",
        times: Fault::ALWAYS,
        answer: Answer::Status {
            code: 401,
            reason: "Unauthorized",
            message: "Unauthorized".to_owned(),
            again: None,
        },
    });
    let mut listener = Listener::to(&server)?;
    listener.until("it is said", |it| {
        it.lost().is_some_and(|why| {
            why.contains("401 Unauthorized; the API server does not know who asks: renew")
        })
    })?;
    server.recover();
    listener.until("all is listed", Listener::is_synced)
}

/// As kubelets do it: the file is the same, what is in it is renewed.
#[test]
fn an_identity_that_is_renewed_in_its_file_counts_without_a_restart() -> Result<()> {
    let server = server(1)?;
    let file = server.kubeconfig()?;
    let mut listener = Listener::by(file.path(), &[], &Scope::new(NODE, false))?;
    listener.until("all is listed", Listener::is_synced)?;
    server.set_token("renewed");
    server.cut();
    listener.until("it is not known any more", |it| {
        it.lost().is_some_and(|why| why.contains("401"))
    })?;
    write_kubeconfig(file.path(), &server.url(), "renewed")?;
    add(&server, 2)?;
    listener.until("it is known again", |it| it.services() == listed(2))?;
    listener.until("nothing is lost", |it| it.lost().is_none())
}

/// F4
#[test]
fn f4_a_server_that_is_gone_for_a_while_changes_nothing() -> Result<()> {
    let mut server = server(2)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    server.stop();
    listener.until("it is missed", |it| {
        it.lost().is_some_and(|why| why.contains("refused"))
    })?;
    assert_eq!(listener.services(), listed(2));
    assert!(!listener.heard.iter().any(|it| it.starts_with("Remove")));
    add(&server, 3)?;
    server.resume()?;
    listener.until("it is back", |it| it.services() == listed(3))?;
    listener.until("it is not missed", |it| it.lost().is_none())?;
    // What it remembers need not be told again.
    assert_eq!(listener.count("Put Service default/web-1"), 1);
    Ok(())
}

#[test]
fn a_server_that_is_not_there_at_the_start_is_waited_for() -> Result<()> {
    let mut server = server(1)?;
    server.stop();
    let mut listener = Listener::to(&server)?;
    listener.until("it is missed", |it| it.lost().is_some())?;
    assert!(!listener.is_synced());
    server.resume()?;
    listener.until("all is listed", |it| it.services() == listed(1))
}

/// As in a cluster with several: the first that answers is asked, and stays.
#[test]
fn servers_are_tried_in_turn() -> Result<()> {
    let (mut gone, mut first, second) = (server(0)?, server(2)?, server(2)?);
    gone.stop();
    let addresses = [gone.url(), first.url(), second.url()];
    let mut listener = Listener::to_one_of(&addresses)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.connection().server, first.url());
    assert_eq!(second.requests(), Vec::<String>::new());
    first.stop();
    // Its versions are the same: it has the same etcd behind it.
    add(&second, 3)?;
    listener.until("the second one is heard", |it| it.services() == listed(3))?;
    assert_eq!(listener.connection().server, second.url());
    listener.until("nothing is lost", |it| it.lost().is_none())
}

/// A server that cannot reach its etcd answers, but not what is asked.
#[test]
fn a_server_that_is_not_well_is_passed_over() -> Result<()> {
    let (sick, well) = (server(0)?, server(1)?);
    sick.fail(Fault::status("", 500, Fault::ALWAYS));
    let mut listener = Listener::to_one_of(&[sick.url(), well.url()])?;
    listener.until("all is listed", |it| it.services() == listed(1))?;
    assert_eq!(listener.connection().server, well.url());
    Ok(())
}

#[test]
fn what_is_no_api_server_is_found_out() -> Result<()> {
    let server = ApiServer::start()?;
    server.put(objects::node(NODE, "zone-a"))?;
    server.set_streaming(clusterip_tests::apiserver::Streaming::Refused);
    server.fail(Fault {
        verb: "list",
        resource: "",
        times: Fault::ALWAYS,
        answer: Answer::Text("<html>It works!</html>"),
    });
    let mut listener = Listener::to(&server)?;
    listener.until("it is said", |it| {
        it.lost()
            .is_some_and(|why| why.contains("the answer is none of an API server"))
    })?;
    assert!(!listener.is_synced());
    server.recover();
    listener.until("it is one now", Listener::is_synced)
}
