//! Probes of a container.

use k8s_openapi::{
    api::core::v1::{Container, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Faults, names};

/// The probes of a container; `field` is where the container is.
pub(super) fn container(faults: &mut Faults, field: &str, container: &Container) {
    for (name, probe) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        if let Some(probe) = probe {
            let field = format!("{field}.{name}");
            handler(faults, &field, probe);
            numbers(faults, &field, probe, name == "readinessProbe");
        }
    }
}

/// One way to ask, and no other.
fn handler(faults: &mut Faults, field: &str, probe: &Probe) {
    let given = [
        ("exec", probe.exec.is_some()),
        ("grpc", probe.grpc.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
    ];
    let given = given.iter().filter(|(_, is_given)| *is_given);
    let given: Vec<&str> = given.map(|(name, _)| *name).collect();
    if given.len() != 1 {
        faults.add(
            field,
            given.join(", "),
            "must have exactly one of exec, grpc, httpGet and tcpSocket",
        );
    }
    if let Some(exec) = &probe.exec
        && exec.command.as_ref().is_none_or(Vec::is_empty)
    {
        let field = format!("{field}.exec.command");
        faults.add(field, "", "must name a program");
    }
    if let Some(grpc) = &probe.grpc {
        faults.port(format!("{field}.grpc.port"), grpc.port);
    }
    if let Some(tcp) = &probe.tcp_socket {
        port(faults, format!("{field}.tcpSocket.port"), &tcp.port);
    }
    if let Some(http) = &probe.http_get {
        port(faults, format!("{field}.httpGet.port"), &http.port);
        faults.one_of(
            &format!("{field}.httpGet.scheme"),
            http.scheme.as_deref(),
            &["HTTP", "HTTPS"],
        );
    }
}

fn port(faults: &mut Faults, field: String, port: &IntOrString) {
    match port {
        IntOrString::Int(number) => faults.port(field, *number),
        IntOrString::String(name) => {
            faults.check(field, name, names::port_name(name));
        }
    }
}

/// 0 is the default, as if it were left out.
fn numbers(faults: &mut Faults, field: &str, probe: &Probe, is_readiness: bool) {
    for (name, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        if let Some(number) = number.filter(|number| *number < 0) {
            faults.add(format!("{field}.{name}"), number, "must be 0 or more");
        }
    }
    if let Some(number) = probe.success_threshold.filter(|number| *number > 1)
        && !is_readiness
    {
        faults.add(
            format!("{field}.successThreshold"),
            number,
            "must be 1 for liveness and startup probes; take it away",
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn faults(container_of: &Value) -> Vec<String> {
        let object: Container = serde_json::from_value(container_of.clone()).expect("a container");
        let mut faults = Faults::default();
        container(&mut faults, "c", &object);
        let fields = faults.0.into_iter().map(|fault| fault.field);
        fields.collect()
    }

    #[test]
    fn a_probe_asks_in_one_way_and_counts_from_nought() {
        let tcp = json!({ "port": "http" });
        for (name, probe, wanted) in [
            ("readinessProbe", json!({ "tcpSocket": tcp }), &[][..]),
            ("readinessProbe", json!({}), &[""]),
            (
                "readinessProbe",
                json!({ "tcpSocket": tcp, "exec": { "command": ["true"] } }),
                &[""],
            ),
            ("readinessProbe", json!({ "exec": {} }), &[".exec.command"]),
            (
                "startupProbe",
                json!({ "grpc": { "port": 0 } }),
                &[".grpc.port"],
            ),
            (
                "livenessProbe",
                json!({ "httpGet": { "port": 70_000, "scheme": "FTP" } }),
                &[".httpGet.port", ".httpGet.scheme"],
            ),
            (
                "livenessProbe",
                json!({ "tcpSocket": { "port": "no--good" }, "periodSeconds": -1 }),
                &[".tcpSocket.port", ".periodSeconds"],
            ),
            (
                "livenessProbe",
                json!({ "tcpSocket": tcp, "successThreshold": 2 }),
                &[".successThreshold"],
            ),
            (
                "readinessProbe",
                json!({ "tcpSocket": tcp, "successThreshold": 2 }),
                &[],
            ),
        ] {
            let wanted: Vec<String> = wanted.iter().map(|it| format!("c.{name}{it}")).collect();
            let found = faults(&json!({ "name": "main", name: probe }));
            assert_eq!(found, wanted, "{probe}");
        }
    }
}
