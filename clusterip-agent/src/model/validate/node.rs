//! Nodes and namespaces.

use k8s_openapi::api::core::v1::{Namespace, Node};

use super::{
    Faults,
    address::{address, cidr},
    given, metadata, names,
};
use crate::model::problem::Fault;

/// The faults of a namespace.
#[must_use]
pub fn namespace(namespace: &Namespace) -> Vec<Fault> {
    let mut faults = Faults::default();
    let Namespace {
        metadata,
        spec: _,
        status: _,
    } = namespace;
    metadata::cluster_wide(&mut faults, metadata, names::dns_label);
    faults.0
}

/// The faults of a node: its ranges and addresses decide what counts as inside.
#[must_use]
pub fn node(node: &Node) -> Vec<Fault> {
    let mut faults = Faults::default();
    let Node {
        metadata,
        spec,
        status,
    } = node;
    metadata::cluster_wide(&mut faults, metadata, names::dns_name);
    if let Some(spec) = spec {
        let first = given(spec.pod_cidr.as_deref())
            .and_then(|text| faults.check("spec.podCIDR", text, cidr(text)));
        let mut ranges: Vec<ipnet::IpNet> = Vec::new();
        for (index, text) in spec.pod_cidrs.iter().flatten().enumerate() {
            let field = format!("spec.podCIDRs[{index}]");
            let Some(range) = faults.check(field.as_str(), text, cidr(text)) else {
                continue;
            };
            let is_v4 = range.addr().is_ipv4();
            if ranges.iter().any(|r| r.addr().is_ipv4() == is_v4) {
                faults.add(field, text, "a node has at most one range of each family");
            } else if index == 0 && first.is_some_and(|first| first != range) {
                faults.add(
                    field,
                    text,
                    "the first of podCIDRs must be podCIDR; make them equal or leave podCIDR out",
                );
            }
            ranges.push(range);
        }
    }
    let addresses = status.as_ref().and_then(|s| s.addresses.as_deref());
    for (index, entry) in addresses.unwrap_or_default().iter().enumerate() {
        // The other types are names.
        if matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP") {
            let field = format!("status.addresses[{index}].address");
            faults.check(field, &entry.address, address(&entry.address));
        }
    }
    faults.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(object: serde_json::Value) -> Vec<String> {
        let object: Node = serde_json::from_value(object).expect("a node");
        node(&object).into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn a_node_as_the_cluster_has_it_is_valid() {
        let object = json!({
            "metadata": {"name": "node-a.example", "labels": {"topology.kubernetes.io/zone": "z1"}},
            "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:1::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "node-a"}]}
        });
        assert!(fields(object).is_empty());
    }

    #[test]
    fn a15_ranges_and_addresses_of_a_node_are_such() {
        let node =
            |spec, status| json!({"metadata": {"name": "a"}, "spec": spec, "status": status});
        for (spec, status, field) in [
            (json!({"podCIDR": "10.244.0.0"}), json!({}), "spec.podCIDR"),
            (
                json!({"podCIDRs": ["10.0.0.0/8", "10.1.0.0/16"]}),
                json!({}),
                "spec.podCIDRs[1]",
            ),
            (
                json!({"podCIDR": "10.1.0.0/16", "podCIDRs": ["10.0.0.0/16"]}),
                json!({}),
                "spec.podCIDRs[0]",
            ),
            (
                json!({}),
                json!({"addresses": [{"type": "InternalIP", "address": "node-a"}]}),
                "status.addresses[0].address",
            ),
        ] {
            assert_eq!(fields(node(spec, status)), [field]);
        }
    }

    #[test]
    fn objects_outside_namespaces_have_none() {
        let object = json!({"metadata": {"name": "a", "namespace": "b"}});
        assert_eq!(fields(object.clone()), ["metadata.namespace"]);
        let object: Namespace = serde_json::from_value(object).expect("a namespace");
        assert_eq!(namespace(&object).len(), 1);
    }
}
