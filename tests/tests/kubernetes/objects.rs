//! Objects that are not what they ought to be, and what a server gives that a directory does not.

use anyhow::Result;
use clusterip_tests::apiserver::{Streaming, objects};
use serde_json::json;

use crate::{
    listener::Listener,
    lists::{add, listed, server},
};

/// One bad object never hides another, and one that turns bad keeps its last good state.
#[test]
fn h_a_malformed_object_is_skipped_and_named() -> Result<()> {
    for streaming in [Streaming::Supported, Streaming::Refused] {
        let server = server(2)?;
        server.set_streaming(streaming);
        let bad = |ports: serde_json::Value| {
            json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web-9", "namespace": "default"},
                   "spec": {"clusterIP": "10.96.0.9", "ports": ports}})
        };
        server.put_raw(
            "services",
            "default",
            "web-9",
            bad(json!([{"port": "eighty"}])),
        );
        server.put_raw(
            "services",
            "default",
            "web-8",
            json!({"metadata": {"namespace": "default"}, "spec": {}}),
        );
        server.put_raw(
            "endpointslices",
            "default",
            "x",
            json!({"metadata": {"name": "x", "namespace": "default"}, "endpoints": 7}),
        );
        let mut listener = Listener::to(&server)?;
        listener.until("all is listed", Listener::is_synced)?;
        assert_eq!(listener.services(), listed(2));
        let problems = listener.problems().join("\n");
        for words in [
            "Service default/web-9: is not what the API says it is: invalid type: string \"eighty\", expected i32",
            "Service: metadata.name: required",
            "EndpointSlice default/x: is not what the API says it is",
        ] {
            assert!(problems.contains(words), "{problems}");
        }
        // Readable, and against the rules.
        server.put_raw("services", "default", "web-9", bad(json!([{"port": 0}])));
        listener.until("the rule is named", |it| {
            it.problems()
                .iter()
                .any(|it| it.starts_with("Service default/web-9: spec.ports[0].port: \"0\": "))
        })?;
        add(&server, 9)?;
        let good = "web-9 10.96.0.9:80 -> 10.244.0.9:8080".to_owned();
        listener.until("it is good now", |it| it.services().contains(&good))?;
        server.put_raw(
            "services",
            "default",
            "web-9",
            bad(json!([{"port": "eighty"}])),
        );
        listener.until("it is bad again", |it| {
            it.problems().iter().any(|it| it.contains("eighty"))
        })?;
        assert!(
            listener.services().contains(&good),
            "{:?}",
            listener.services()
        );
        server.delete("services", "default", "web-9");
        listener.until("it is gone, and the problem with it", |it| {
            it.services() == listed(2) && !it.problems().iter().any(|it| it.contains("web-9"))
        })?;
    }
    Ok(())
}

/// Addresses come from the server, whatever this node's range is; a service that has none has none.
#[test]
fn g_a_service_has_the_address_that_the_server_gave_it() -> Result<()> {
    let server = server(0)?;
    server.put(objects::service("far", "10.43.7.9", 80, 8080))?;
    server.put_raw(
        "services",
        "default",
        "pending",
        json!({"metadata": {"name": "pending", "namespace": "default", "resourceVersion": "1"},
               "spec": {"type": "ExternalName", "externalName": "example.org"}}),
    );
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.services(), ["far 10.43.7.9:80 -> "]);
    assert_eq!(listener.problems(), Vec::<String>::new());
    // The address goes to another service at once: the server says so.
    server.delete("services", "default", "far");
    server.put(objects::service("near", "10.43.7.9", 80, 8080))?;
    listener.until("the other one has it", |it| {
        it.services() == ["near 10.43.7.9:80 -> "]
    })?;
    assert_eq!(listener.problems(), Vec::<String>::new());
    Ok(())
}

/// The same while nobody listened: for a moment the listing has both.
#[test]
fn g4_an_address_that_changed_hands_during_a_disconnect_has_its_new_owner() -> Result<()> {
    let mut server = server(1)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    server.stop();
    server.delete("services", "default", "web-1");
    server.put(objects::service("aaa", "10.96.0.1", 80, 8080))?;
    server.compact();
    server.resume()?;
    listener.until("the other one has it", |it| {
        it.services() == ["aaa 10.96.0.1:80 -> "]
    })?;
    listener.until("nothing is wrong", |it| it.problems().is_empty())
}

/// What a node says of itself with every breath is no change of anything.
#[test]
fn a_heartbeat_of_the_node_changes_nothing() -> Result<()> {
    let server = server(1)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    let mut node = objects::node(crate::listener::NODE, "zone-a");
    node["status"]["conditions"][0]["lastHeartbeatTime"] = json!("2026-01-01T00:05:00Z");
    let before = listener.snapshot().clone();
    server.put(node)?;
    add(&server, 2)?;
    listener.until("what came after it is known", |it| {
        it.services() == listed(2)
    })?;
    assert_eq!(listener.snapshot().node, before.node);
    // A15, E1: what it says that matters is there.
    assert!(!listener.snapshot().inside.is_empty());
    Ok(())
}

/// Node ports come from the server's range, whatever it is.
#[test]
fn g3_a_node_port_out_of_any_range_is_the_servers_affair() -> Result<()> {
    let server = server(0)?;
    let mut service = objects::service("web", "10.96.0.1", 80, 8080);
    service["spec"]["type"] = json!("NodePort");
    service["spec"]["ports"][0]["nodePort"] = json!(8099);
    server.put(service)?;
    let mut listener = Listener::to(&server)?;
    listener.until("all is listed", Listener::is_synced)?;
    assert_eq!(listener.problems(), Vec::<String>::new());
    let service = listener.service("web").expect("a service");
    let ports: Vec<u16> = service
        .about
        .node_ports
        .iter()
        .map(|it| it.node_port)
        .collect();
    assert_eq!(ports, [8099]);
    Ok(())
}

/// A8: the zone of the node's own object, and what hangs on it, as it is now.
#[test]
fn a8_a_node_that_moves_to_another_zone_has_that_ones_endpoints_at_once() -> Result<()> {
    let server = server(0)?;
    server.put(objects::service("web", "10.96.0.1", 80, 8080))?;
    let pods = ["10.244.0.11", "10.244.0.12"].map(str::to_owned);
    let mut slice = objects::slice("web-abc", "web", &pods, 8080);
    for (place, zone) in ["zone-a", "zone-b"].into_iter().enumerate() {
        slice["endpoints"][place]["zone"] = json!(zone);
        slice["endpoints"][place]["hints"] = json!({"forZones": [{"name": zone}]});
    }
    server.put(slice)?;
    let mut listener = Listener::to(&server)?;
    for (zone, pod) in [("zone-a", 11), ("zone-b", 12), ("zone-a", 11)] {
        server.put(objects::node(crate::listener::NODE, zone))?;
        listener.until(zone, |it| {
            it.services() == [format!("web 10.96.0.1:80 -> 10.244.0.{pod}:8080")]
        })?;
    }
    // No zone that anybody has: all of them.
    server.put(objects::node(crate::listener::NODE, "zone-c"))?;
    listener.until("all are used", |it| {
        it.services() == ["web 10.96.0.1:80 -> 10.244.0.11:8080, 10.244.0.12:8080"]
    })
}
