//! The server as people use it: `curl` and `kubectl` write, the source hears.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use clusterip_tests::{ApiServer, require};

use serde_json::Value;

use crate::{
    listener::{Listener, NODE},
    lists::{listed, server},
};

/// A program that is given a text.
fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        // No machine's own configuration comes in.
        .env("KUBECONFIG", "/dev/null")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(input.as_bytes())?;
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(
        status.success(),
        "{program} {arguments:?}: {status}\n{said}{}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(said)
}

fn manifest(endpoint: u8) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web-1, namespace: default}}\n\
         spec: {{clusterIP: 10.96.0.1, selector: {{app: web}}, ports: [{{name: main, port: 80, targetPort: 8080}}]}}\n\
         ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: web-1-abc, namespace: default, labels: {{kubernetes.io/service-name: web-1}}}}\n\
         addressType: IPv4\nports: [{{name: main, port: 8080}}]\nendpoints: [{{addresses: [10.244.0.{endpoint}]}}]\n"
    )
}

#[test]
fn what_kubectl_applies_is_served() -> Result<()> {
    if !require::program("kubectl") {
        return Ok(());
    }
    let server = server(0)?;
    let mut listener = Listener::to(&server)?;
    let kubectl = |arguments: &[&str], input: &str| {
        let url = server.url();
        run("kubectl", &[&["--server", &url], arguments].concat(), input)
    };
    let apply = ["apply", "--validate=false", "-f", "-"];
    kubectl(&apply, &manifest(1))?;
    listener.until("it is heard", |it| it.services() == listed(1))?;
    kubectl(&apply, &manifest(7))?;
    listener.until("the change is heard", |it| {
        it.services() == ["web-1 10.96.0.1:80 -> 10.244.0.7:8080"]
    })?;
    let table = kubectl(&["get", "services,endpointslices", "-A"], "")?;
    for words in ["service/web-1", "endpointslice.discovery.k8s.io/web-1-abc"] {
        assert!(table.contains(words), "{table}");
    }
    assert!(kubectl(&["get", "node", NODE, "-o", "name"], "")?.contains(NODE));
    kubectl(
        &[
            "delete",
            "service",
            "web-1",
            "-n",
            "default",
            "--wait=false",
        ],
        "",
    )?;
    listener.until("it is gone", |it| it.names().is_empty())
}

#[test]
fn what_curl_posts_is_served() -> Result<()> {
    let server = server(0)?;
    let mut listener = Listener::to(&server)?;
    let curl = |method: &str, path: &str, body: &str| {
        let url = format!("{}{path}", server.url());
        run(
            "curl",
            &[
                "--silent",
                "--show-error",
                "--fail-with-body",
                "-X",
                method,
                &url,
                "--data-binary",
                "@-",
            ],
            body,
        )
    };
    curl(
        "POST",
        "/api/v1/namespaces/default/services",
        r#"{"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}"#,
    )?;
    listener.until("it has an address", |it| !it.services().is_empty())?;
    let address = address(&server)?;
    assert_eq!(listener.services(), [format!("web {address}:80 -> ")]);
    curl(
        "PUT",
        "/api/v1/namespaces/default/services/web",
        r#"{"metadata": {"name": "web"}, "spec": {"ports": [{"port": 81}]}}"#,
    )?;
    listener.until("it has another port", |it| {
        it.services() == [format!("web {address}:81 -> ")]
    })?;
    curl("DELETE", "/api/v1/namespaces/default/services/web", "")?;
    listener.until("it is gone", |it| it.names().is_empty())
}

fn address(server: &ApiServer) -> Result<String> {
    let services = server.objects("services");
    let first = services.first().context("no service")?;
    let address = first.pointer("/spec/clusterIP").and_then(Value::as_str);
    let address = address.context("no address")?;
    Ok(address.to_owned())
}
