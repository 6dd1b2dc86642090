//! Pods: what makes them endpoints.

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodStatus};

use super::{
    Faults, PROTOCOLS,
    address::{address, reachable},
    given, metadata, names, probe,
};
use crate::model::problem::Fault;

/// The faults of a pod. A pod without containers or address is none: it just does not serve.
#[must_use]
pub fn pod(pod: &Pod) -> Vec<Fault> {
    let mut faults = Faults::default();
    let Pod {
        metadata,
        spec,
        status,
    } = pod;
    metadata::namespaced(&mut faults, metadata, names::dns_name);
    if let Some(spec) = spec {
        if let Some(node) = given(spec.node_name.as_deref()) {
            faults.check("spec.nodeName", node, names::dns_name(node));
        }
        if let Some(seconds) = spec.termination_grace_period_seconds
            && seconds < 0
        {
            let field = "spec.terminationGracePeriodSeconds";
            faults.add(field, seconds, "must be a number of seconds, 0 or more");
        }
        for (index, container) in spec.containers.iter().enumerate() {
            probe::container(&mut faults, &format!("spec.containers[{index}]"), container);
            let ports = container.ports.as_deref().unwrap_or_default();
            container_ports(
                &mut faults,
                &format!("spec.containers[{index}].ports"),
                ports,
            );
        }
    }
    if let Some(status) = status {
        addresses(&mut faults, status);
    }
    faults.0
}

fn container_ports(faults: &mut Faults, field: &str, ports: &[ContainerPort]) {
    for (index, port) in ports.iter().enumerate() {
        let ContainerPort {
            container_port,
            host_ip: _,
            host_port: _,
            name,
            protocol,
        } = port;
        let field = format!("{field}[{index}]");
        faults.port(format!("{field}.containerPort"), *container_port);
        faults.one_of(
            &format!("{field}.protocol"),
            protocol.as_deref(),
            &PROTOCOLS,
        );
        if let Some(name) = given(name.as_deref()) {
            faults.check(format!("{field}.name"), name, names::port_name(name));
            if ports
                .iter()
                .take(index)
                .any(|p| p.name.as_deref() == Some(name))
            {
                faults.add(
                    format!("{field}.name"),
                    name,
                    "must be unique in its container: another port has this name",
                );
            }
        }
    }
}

fn addresses(faults: &mut Faults, status: &PodStatus) {
    let check = |faults: &mut Faults, field: &str, text: &str| {
        let parsed = faults.check(field, text, address(text))?;
        faults.check(field, text, reachable(parsed));
        Some(parsed)
    };
    let first = given(status.pod_ip.as_deref()).and_then(|ip| check(faults, "status.podIP", ip));
    let list = status.pod_ips.as_deref().unwrap_or_default();
    let mut parsed = Vec::new();
    for (index, ip) in list.iter().enumerate() {
        let field = format!("status.podIPs[{index}].ip");
        let Some(address) = check(faults, &field, &ip.ip) else {
            continue;
        };
        if parsed
            .iter()
            .any(|p: &std::net::IpAddr| p.is_ipv4() == address.is_ipv4())
        {
            faults.add(
                field.as_str(),
                &ip.ip,
                "a pod has at most one address of each family",
            );
        }
        if index == 0 && first.is_some_and(|first| first != address) {
            faults.add(
                field,
                &ip.ip,
                "the first of podIPs must be podIP; make them equal or leave podIP out",
            );
        }
        parsed.push(address);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(spec: &serde_json::Value, status: &serde_json::Value) -> Vec<String> {
        let object = json!({"metadata": {"name": "web-1"}, "spec": spec, "status": status});
        let object: Pod = serde_json::from_value(object).expect("a pod");
        pod(&object).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_pod_as_the_cluster_has_it_is_valid() {
        let spec = json!({"nodeName": "node-a.example", "containers": [{"name": "c", "ports": [
            {"name": "http", "containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}]}]});
        let status =
            json!({"podIP": "10.1.0.2", "podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]});
        assert!(fields(&spec, &status).is_empty());
        assert!(fields(&json!({}), &json!({})).is_empty());
    }

    #[test]
    fn a3_the_ports_of_a_container_have_numbers_and_unique_names() {
        let ports = |ports| json!({"containers": [{"name": "c", "ports": ports}]});
        for (spec, field) in [
            (ports(json!([{"containerPort": 0}])), "containerPort"),
            (ports(json!([{"containerPort": 65536}])), "containerPort"),
            (
                ports(json!([{"containerPort": 1, "protocol": "tcp"}])),
                "protocol",
            ),
            (ports(json!([{"containerPort": 1, "name": "a--b"}])), "name"),
        ] {
            let field = format!("spec.containers[0].ports[0].{field}");
            assert_eq!(fields(&spec, &json!({})), [field]);
        }
        let twice = json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]);
        assert_eq!(
            fields(&ports(twice), &json!({})),
            ["spec.containers[0].ports[1].name"]
        );
    }

    #[test]
    fn a15_the_addresses_of_a_pod_are_addresses() {
        for (status, field) in [
            (json!({"podIP": "10.1.0.02"}), "status.podIP"),
            (json!({"podIP": "127.0.0.1"}), "status.podIP"),
            (json!({"podIPs": [{"ip": "x"}]}), "status.podIPs[0].ip"),
            (
                json!({"podIPs": [{"ip": "10.1.0.1"}, {"ip": "::ffff:10.1.0.2"}]}),
                "status.podIPs[1].ip",
            ),
            (
                json!({"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.2"}]}),
                "status.podIPs[0].ip",
            ),
        ] {
            assert_eq!(fields(&json!({}), &status), [field], "{status}");
        }
    }
}
