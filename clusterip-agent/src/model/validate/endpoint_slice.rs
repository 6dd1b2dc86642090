//! `EndpointSlices`.

use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort, EndpointSlice};

use super::{
    Faults, PROTOCOLS,
    address::{address, reachable},
    given, metadata, names,
};
use crate::model::problem::Fault;

/// Ports and addresses a slice may have.
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const MAX_ENDPOINTS: usize = 1000;
/// Zones, and nodes, that an endpoint may be near.
const MAX_HINTS: usize = 8;

/// The faults of a slice. An endpoint without an address and a port without a number are none: they are skipped (A11).
#[must_use]
pub fn endpoint_slice(slice: &EndpointSlice) -> Vec<Fault> {
    let mut faults = Faults::default();
    let EndpointSlice {
        address_type,
        endpoints,
        metadata,
        ports,
    } = slice;
    metadata::namespaced(&mut faults, metadata, names::dns_name);
    let types = ["IPv4", "IPv6", "FQDN"];
    if address_type.is_empty() {
        faults.add("addressType", "", "required: IPv4, IPv6 or FQDN");
    }
    faults.one_of("addressType", Some(address_type), &types);
    let endpoints = endpoints.as_deref().unwrap_or_default();
    count(&mut faults, "endpoints", endpoints.len(), MAX_ENDPOINTS);
    for (index, endpoint) in endpoints.iter().enumerate() {
        one(
            &mut faults,
            &format!("endpoints[{index}]"),
            endpoint,
            address_type,
        );
    }
    let ports = ports.as_deref().unwrap_or_default();
    count(&mut faults, "ports", ports.len(), MAX_PORTS);
    slice_ports(&mut faults, ports);
    faults.0
}

fn count(faults: &mut Faults, field: &str, found: usize, most: usize) {
    if found > most {
        faults.add(
            field,
            found,
            format!("may have at most {most} items; divide them among several slices"),
        );
    }
}

fn one(faults: &mut Faults, field: &str, endpoint: &Endpoint, address_type: &str) {
    let Endpoint {
        addresses,
        conditions: _,
        deprecated_topology: _,
        hints,
        hostname,
        node_name,
        target_ref: _,
        zone: _,
    } = endpoint;
    count(
        faults,
        &format!("{field}.addresses"),
        addresses.len(),
        MAX_ADDRESSES,
    );
    for (index, text) in addresses.iter().enumerate() {
        let field = format!("{field}.addresses[{index}]");
        let wants_v4 = match address_type {
            "IPv4" => true,
            "IPv6" => false,
            "FQDN" => {
                faults.check(field, text, names::dns_name(text.trim_end_matches('.')));
                continue;
            }
            // Already a fault.
            _ => continue,
        };
        let Some(address) = faults.check(field.as_str(), text, address(text)) else {
            continue;
        };
        if address.is_ipv4() == wants_v4 {
            faults.check(field, text, reachable(address));
        } else {
            faults.add(
                field,
                text,
                format!(
                    "must be an {address_type} address, as addressType says; put the other family into a slice of its own"
                ),
            );
        }
    }
    if let Some(EndpointHints {
        for_nodes,
        for_zones,
    }) = hints
    {
        let zones = for_zones.iter().flatten().map(|zone| &*zone.name);
        let nodes = for_nodes.iter().flatten().map(|node| &*node.name);
        let (at, zone, node) = (
            format!("{field}.hints"),
            names::label_value,
            names::dns_name,
        );
        near(faults, &format!("{at}.forZones"), zones.collect(), zone);
        near(faults, &format!("{at}.forNodes"), nodes.collect(), node);
    }
    if let Some(name) = hostname {
        faults.check(format!("{field}.hostname"), name, names::dns_label(name));
    }
    if let Some(name) = given(node_name.as_deref()) {
        faults.check(format!("{field}.nodeName"), name, names::dns_name(name));
    }
}

/// Names of what an endpoint is near, each once.
fn near(faults: &mut Faults, field: &str, all: Vec<&str>, syntax: fn(&str) -> Result<(), String>) {
    count(faults, field, all.len(), MAX_HINTS);
    let mut seen = BTreeSet::new();
    for (index, name) in all.into_iter().enumerate() {
        let field = format!("{field}[{index}].name");
        if name.is_empty() {
            faults.add(field, name, "required: a name");
        } else if !seen.insert(name) {
            faults.add(field, name, "must be unique: it is there already");
        } else {
            faults.check(field, name, syntax(name));
        }
    }
}

fn slice_ports(faults: &mut Faults, ports: &[EndpointPort]) {
    let mut seen = BTreeSet::new();
    for (index, entry) in ports.iter().enumerate() {
        let EndpointPort {
            app_protocol,
            name,
            port,
            protocol,
        } = entry;
        let field = format!("ports[{index}]");
        let name = name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            faults.check(format!("{field}.name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            faults.add(
                format!("{field}.name"),
                name,
                "must be unique in the slice: another port has this name, or both have none",
            );
        }
        if let Some(port) = port {
            faults.port(format!("{field}.port"), *port);
        }
        faults.one_of(
            &format!("{field}.protocol"),
            protocol.as_deref(),
            &PROTOCOLS,
        );
        if let Some(protocol) = app_protocol {
            let syntax = names::qualified_name(protocol);
            faults.check(format!("{field}.appProtocol"), protocol, syntax);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(object: &serde_json::Value) -> Vec<String> {
        let object: EndpointSlice = serde_json::from_value(object.clone()).expect("a slice");
        endpoint_slice(&object)
            .into_iter()
            .map(|fault| fault.field)
            .collect()
    }

    fn slice(
        address_type: &str,
        endpoints: &serde_json::Value,
        ports: &serde_json::Value,
    ) -> serde_json::Value {
        json!({"metadata": {"name": "web-abc"}, "addressType": address_type, "endpoints": endpoints, "ports": ports})
    }

    #[test]
    fn a11_an_endpoint_without_address_and_a_port_without_number_are_no_faults() {
        let endpoints = json!([{"addresses": []}, {"addresses": ["10.1.0.1"], "nodeName": "a"}]);
        assert!(fields(&slice("IPv4", &endpoints, &json!([{"name": "http"}]))).is_empty());
    }

    #[test]
    fn a15_a_mapped_address_is_an_ipv4_address_in_a_slice_too() {
        let endpoints = json!([{"addresses": ["::ffff:10.1.0.1"]}]);
        assert!(fields(&slice("IPv4", &endpoints, &json!([]))).is_empty());
        assert_eq!(
            fields(&slice("IPv6", &endpoints, &json!([]))),
            ["endpoints[0].addresses[0]"]
        );
    }

    #[test]
    fn addresses_are_of_the_type_and_reachable() {
        for (kind, text) in [
            ("IPv4", "fd00::1"),
            ("IPv4", "10.1.0.01"),
            ("IPv4", "127.0.0.1"),
            ("IPv6", "fe80::1"),
            ("FQDN", "a_b"),
        ] {
            let endpoints = json!([{"addresses": [text]}]);
            assert_eq!(
                fields(&slice(kind, &endpoints, &json!([]))),
                ["endpoints[0].addresses[0]"],
                "{text}"
            );
        }
        assert_eq!(
            fields(&slice("IP", &json!([]), &json!([]))),
            ["addressType"]
        );
        assert_eq!(fields(&slice("", &json!([]), &json!([]))), ["addressType"]);
    }

    #[test]
    fn a8_hints_name_zones_and_nodes_each_once() {
        let hints = |hints: serde_json::Value| {
            let endpoints = json!([{"addresses": ["10.1.0.1"], "hints": hints}]);
            fields(&slice("IPv4", &endpoints, &json!([])))
        };
        let names = |all: &[&str]| all.iter().map(|name| json!({ "name": name })).collect();
        let zones = |all: &[&str]| -> serde_json::Value { names(all) };
        let good = json!({"forZones": zones(&["a", "B_1"]), "forNodes": zones(&["n.a"])});
        assert!(hints(good).is_empty());
        let nine = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
        let at = |field: &str| vec![format!("endpoints[0].hints.{field}")];
        for (bad, field) in [
            (json!({"forZones": zones(&["a", "a"])}), "forZones[1].name"),
            (json!({"forZones": zones(&["a b"])}), "forZones[0].name"),
            (json!({"forZones": zones(&[""])}), "forZones[0].name"),
            (json!({"forNodes": zones(&["A"])}), "forNodes[0].name"),
            (json!({"forZones": zones(&nine)}), "forZones"),
            (json!({"forNodes": zones(&nine)}), "forNodes"),
        ] {
            assert_eq!(hints(bad), at(field));
        }
    }

    #[test]
    fn a2_port_names_are_unique_an_unnamed_one_is_the_empty_name() {
        for (ports, field) in [
            (json!([{"port": 1}, {"port": 2}]), "ports[1].name"),
            (
                json!([{"name": "a", "port": 1}, {"name": "a", "port": 2}]),
                "ports[1].name",
            ),
            (json!([{"port": 0}]), "ports[0].port"),
            (
                json!([{"port": 1, "protocol": "ICMP"}]),
                "ports[0].protocol",
            ),
            (
                json!([{"port": 1, "appProtocol": "a b"}]),
                "ports[0].appProtocol",
            ),
        ] {
            assert_eq!(fields(&slice("IPv4", &json!([]), &ports)), [field]);
        }
    }

    #[test]
    fn a_slice_has_at_most_1000_endpoints() {
        let endpoints: Vec<_> = (0..1001)
            .map(|_| json!({"addresses": ["10.1.0.1"]}))
            .collect();
        assert_eq!(
            fields(&slice("IPv4", &json!(endpoints), &json!([]))),
            ["endpoints"]
        );
    }
}
