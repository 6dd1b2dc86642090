//! Objects as a cluster has them: what its controllers write, not what people do.

use serde_json::{Value, json};

use crate::node::NODE_V4;

/// The service `default/NAME` with one TCP port.
#[must_use]
pub fn service(name: &str, address: &str, port: u16, target: u16) -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "default",
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                               "fieldsV1": {"f:spec": {"f:ports": {}, "f:selector": {}}}}],
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
            "selector": {"app": name},
            "ports": [{"name": "main", "port": port, "targetPort": target, "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    })
}

/// The slice `default/NAME` of a service, whose endpoints are ready.
#[must_use]
pub fn slice(name: &str, service: &str, addresses: &[String], port: u16) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| {
            json!({
                "addresses": [address], "nodeName": "node-a", "zone": "zone-a",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": "default", "name": format!("{service}-{address}"),
                              "uid": format!("11111111-0000-0000-0000-{address}")},
            })
        })
        .collect();
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"kubernetes.io/service-name": service,
                       "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
        },
        "endpoints": endpoints,
        "ports": [{"name": "main", "port": port, "protocol": "TCP"}],
    })
}

/// A node in a zone, with the address of a [`crate::Node`].
#[must_use]
pub fn node(name: &str, zone: &str) -> Value {
    json!({
        "kind": "Node", "apiVersion": "v1",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": NODE_V4}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
            "images": [{"names": ["registry.example/pause:3.10"], "sizeBytes": 1}],
        },
    })
}
