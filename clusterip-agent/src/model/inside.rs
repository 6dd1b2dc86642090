//! What counts as inside the cluster: the ranges of its pods and the addresses of its nodes (E1).

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use super::{
    cluster::Cluster,
    exposure::{addresses, internal_addresses},
};

/// Whose the addresses of a range are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Inside {
    /// Pods'.
    Pods,
    /// A node's own.
    Node,
    /// Those of the pods of this node: nothing comes in from them by an uplink.
    OwnPods,
    /// This node's internal ones, as above. What leads to its external ones may lead what it says itself there, too.
    OwnNode,
}

/// The ranges that are inside; where one is within another, the smaller one counts.
pub type Ranges = BTreeMap<IpNet, Inside>;

/// What is inside: `pods` (`--pod-cidr`), and what the Node objects say, the one of this node, `own`, among them.
#[must_use]
pub fn inside(pods: &[IpNet], cluster: &Cluster, own: &str) -> Ranges {
    let mut ranges: Ranges = pods.iter().map(|net| (net.trunc(), Inside::Pods)).collect();
    for (_, node) in cluster.nodes() {
        ranges.extend(pod_ranges(node).map(|net| (net.trunc(), Inside::Pods)));
        ranges.extend(addresses(node).map(|(_, ip)| (ip.into(), Inside::Node)));
    }
    if let Some(node) = cluster.node(own) {
        ranges.extend(pod_ranges(node).map(|net| (net.trunc(), Inside::OwnPods)));
        ranges.extend(internal_addresses(node).map(|ip| (ip.into(), Inside::OwnNode)));
    }
    ranges
}

/// The ranges from which a node's pods have their addresses.
pub(super) fn pod_ranges(node: &Node) -> impl Iterator<Item = IpNet> {
    let spec = node.spec.iter();
    let texts = spec.flat_map(|spec| spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr));
    texts.filter_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::model::{
        object::{Kind, Object, ObjectKey, ObjectName, Spec},
        objects_for_tests::{listing, remove},
    };

    fn node(name: &str, ip: &str, pods: &[&str]) -> Object {
        let value = json!({
            "metadata": { "name": name },
            "spec": { "podCIDRs": pods, "podCIDR": pods[0] },
            "status": { "addresses": [
                { "type": "Hostname", "address": name }, { "type": "InternalIP", "address": ip },
            ] },
        });
        Object {
            key: ObjectKey {
                kind: Kind::Node,
                name: ObjectName::new("", name),
            },
            spec: Spec::Node(serde_json::from_value(value).unwrap()),
            origin: std::sync::Arc::default(),
        }
    }

    fn shown(ranges: &Ranges) -> Vec<String> {
        let range = |(net, whose): (&IpNet, &Inside)| format!("{net} {whose:?}");
        ranges.iter().map(range).collect()
    }

    /// E1
    #[test]
    fn every_node_and_its_pods_are_inside() {
        let mut cluster = Cluster::default();
        let far = node("b", "192.0.2.2", &["10.244.1.0/24", "fd00:10:244:1::/64"]);
        let objects = [node("a", "192.0.2.1", &["10.244.0.0/24"]), far.clone()];
        let mut touched = BTreeSet::new();
        for event in listing(objects) {
            cluster.apply(event, &mut touched);
        }
        let given = ["10.9.7.7/16".parse().unwrap()];
        let nearer = ["10.9.0.0/16 Pods", "10.244.0.0/24 Pods"];
        assert_eq!(
            shown(&inside(&given, &cluster, "c")),
            [
                nearer[0],
                nearer[1],
                "10.244.1.0/24 Pods",
                "192.0.2.1/32 Node",
                "192.0.2.2/32 Node",
                "fd00:10:244:1::/64 Pods",
            ]
        );
        let own: Vec<String> = shown(&inside(&given, &cluster, "a"));
        assert!(own.contains(&"10.244.0.0/24 OwnPods".to_owned()), "{own:?}");
        assert!(own.contains(&"192.0.2.1/32 OwnNode".to_owned()), "{own:?}");
        assert!(own.contains(&"192.0.2.2/32 Node".to_owned()), "{own:?}");
        cluster.apply(remove(&far), &mut touched);
        let rest = ["10.244.0.0/24 Pods", "192.0.2.1/32 Node"];
        assert_eq!(shown(&inside(&[], &cluster, "c")), rest);
    }
}
