//! Against small servers on loopback.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

use super::*;
use crate::probe::{self, check::check, grpc};

/// Answers every request with a text, or never if it is empty.
pub(super) async fn server(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let count = stream.read(&mut request).await.unwrap_or(0);
            // A byte 22 begins TLS.
            let is_known = request.starts_with(b"GET /ready HTTP/1.1\r\n") || request[0] == 22;
            assert!(count == 0 || is_known);
            if stream.write_all(answer.as_bytes()).await.is_err() || answer.is_empty() {
                open.push(stream);
            }
        }
    });
    address
}

fn http(to: SocketAddr) -> Check {
    Check::Http {
        to,
        request: "GET /ready HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        secure: false,
    }
}

/// I2
#[tokio::test]
async fn http_succeeds_from_200_to_399() {
    let limit = Duration::from_secs(10);
    for (answer, is_success) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", true),
        ("HTTP/1.1 399 Almost\r\n\r\n", true),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", false),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
        ("HTTP/1.1 199 What\r\n\r\n", false),
        ("220 smtp\r\n", false),
    ] {
        let result = check(&http(server(answer).await), limit).await;
        assert_eq!(result.is_ok(), is_success, "{answer:?}: {result:?}");
    }
    let silent = check(&http(server("").await), Duration::from_millis(50)).await;
    assert!(silent.unwrap_err().contains("no answer in"));
}

/// I2
#[tokio::test]
async fn tcp_succeeds_where_somebody_listens() {
    let limit = Duration::from_secs(10);
    let to = server("").await;
    check(&Check::Tcp { to }, limit).await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = closed.local_addr().unwrap();
    drop(closed);
    check(&Check::Tcp { to }, limit).await.unwrap_err();
}

/// Answers every call of the gRPC health service with this body, after settings and headers.
async fn grpc_server(body: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _count = stream.read(&mut request).await.unwrap();
        // SETTINGS, PING, HEADERS (`:status 200`)
        let begin =
            b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x06\0\0\0\0\0pingping\0\0\x01\x01\x04\0\0\0\x01\x88";
        stream.write_all(begin).await.unwrap();
        stream.write_all(body).await.unwrap();
        // Until the client has gone: a reset would take the answer with it.
        while stream.read(&mut request).await.is_ok_and(|count| count > 0) {}
    });
    address
}

/// I2
#[tokio::test]
async fn grpc_succeeds_where_the_health_service_says_serving() {
    let limit = Duration::from_secs(10);
    for (body, is_success) in [
        (
            &b"\0\0\x07\0\0\0\0\0\x01\0\0\0\0\x02\x08\x01\0\0\0\x01\x05\0\0\0\x01"[..],
            true,
        ),
        (b"\0\0\x07\0\x01\0\0\0\x01\0\0\0\0\x02\x08\x02", false),
        // Trailers only: the call failed. A reset of the stream. Another protocol.
        (b"\0\0\0\x01\x05\0\0\0\x01", false),
        (b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", false),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false),
    ] {
        let to = grpc_server(body).await;
        let request = grpc::request(&to.to_string(), "").unwrap().into();
        let result = check(&Check::Grpc { to, request }, limit).await;
        assert_eq!(result.is_ok(), is_success, "{body:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_named() {
    let exec = Check::Exec {
        netns: "/no/such/netns".into(),
        command: Arc::from(["true".to_owned()]),
    };
    let error = check(&exec, Duration::from_secs(10)).await.unwrap_err();
    assert!(error.contains("/no/such/netns"), "{error}");
}

/// The whole way: an object in, its readiness out as soon as its server answers.
#[tokio::test]
async fn a_pod_becomes_ready_by_its_probe() {
    let to = server("HTTP/1.1 200 OK\r\n\r\n").await;
    let probe = json!({ "readinessProbe": {
        "httpGet": { "port": to.port(), "path": "/ready" },
    } });
    let status = json!({ "podIP": to.ip().to_string() });
    let object = pod_with("web", probe, json!({}), status);
    let (events, given) = mpsc::channel(1);
    let (probed, mut inbox) = mpsc::channel(1);
    let running = tokio::spawn(probe::run(
        NODE,
        Results::default(),
        probe::Leaving::default(),
        given,
        probed,
        watch::Sender::default(),
    ));
    let batch = vec![Event::Reset, put(&object), Event::Synced];
    events.send(batch).await.unwrap();
    let mut all = Vec::new();
    while !all.contains(&Event::Synced) {
        let batch = timeout(Duration::from_secs(30), inbox.recv())
            .await
            .unwrap();
        all.extend(batch.unwrap());
    }
    assert_eq!(one(&all), "ready", "before anything is programmed: {all:?}");
    drop(events);
    running.await.unwrap();
}

/// On a runtime of one thread: thousands of probes need no thread each.
#[tokio::test]
async fn thousands_of_probes_run_on_one_thread() {
    const COUNT: usize = 3000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let probe = json!({ "readinessProbe": {
        "tcpSocket": { "port": to.port() }, "timeoutSeconds": 30,
    } });
    let status = || json!({ "podIP": to.ip().to_string() });
    let (events, given) = mpsc::channel(1);
    let (probed, mut inbox) = mpsc::channel(64);
    let running = tokio::spawn(probe::run(
        NODE,
        Results::default(),
        probe::Leaving::default(),
        given,
        probed,
        watch::Sender::default(),
    ));
    // Not in a first listing, which waits for a while only.
    let first = vec![Event::Reset, Event::Synced];
    events.send(first).await.unwrap();
    let pods = (0..COUNT).map(|number| {
        let name = format!("web-{number}");
        put(&pod_with(&name, probe.clone(), json!({}), status()))
    });
    events.send(pods.collect()).await.unwrap();
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < COUNT {
        let batch = timeout(Duration::from_mins(1), inbox.recv()).await;
        for (name, text) in seen(&batch.expect("in time").expect("events")) {
            if text == "ready" {
                ready.insert(name);
            }
        }
    }
    drop(events);
    running.await.unwrap();
}
