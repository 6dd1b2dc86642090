//! Which node announces an address of the pool of load balancers on its uplinks. Every node finds the same one by itself, by
//! rendezvous hashing (docs/adr/0016-announcing-the-pool.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::Hasher as _,
    net::IpAddr,
    sync::Arc,
};

use clusterip_common::{packet::Mac, wire::Addr};
use k8s_openapi::api::core::v1::Node;
use siphasher::sip::SipHasher24;

use super::{
    allocate::Assigned, cluster::Cluster, endpoints::Candidate, facts::TrafficPolicy,
    problem::Fault, resolve::Context, resolver::is_leaving, service::Family,
};

/// Label of a node that load balancers leave out, whatever its value.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What nodes are ranked for that give addresses of the pool out.
const PROVIDER: &[u8] = b"load balancers";

/// An address of the pool, and who announces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// The address.
    pub address: IpAddr,
    /// The node; none where no node may.
    pub node: Option<Arc<str>>,
    /// It is not kept on disk yet, and may become another one.
    pub provisional: bool,
}

/// Somebody who is not this node's announcer has the address too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The link address that answers for it.
    pub mac: Mac,
    /// The uplink where that was seen.
    pub interface: String,
}

/// Addresses that others have, too.
pub type Conflicts = BTreeMap<IpAddr, Conflict>;

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mac, interface } = self;
        let mac: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "{} on {interface}", mac.join(":"))
    }
}

/// The nodes that may announce, by name. Where there are no Node objects it is this one.
pub(super) fn nodes(cluster: &Cluster, own: &Arc<str>) -> Vec<Arc<str>> {
    let mut all = cluster.nodes().peekable();
    if all.peek().is_none() {
        return vec![own.clone()];
    }
    all.filter(|(_, node)| is_eligible(node))
        .map(|(name, _)| name.into())
        .collect()
}

/// The nodes that may give addresses of the pool out, by name; where there are no Node objects it is this one.
pub(super) fn providers(cluster: &Cluster, own: &Arc<str>) -> Arc<[Arc<str>]> {
    let mut all = cluster.nodes().peekable();
    if all.peek().is_none() {
        return [own.clone()].into();
    }
    all.filter(|(_, node)| is_alive(node))
        .map(|(name, _)| name.into())
        .collect()
}

/// How many of some nodes come before one of them, by rendezvous hashing; none if it is not among them.
#[must_use]
pub fn rank(own: &str, nodes: &[Arc<str>]) -> Option<usize> {
    let own = nodes.iter().find(|node| ***node == *own)?;
    let place = |node: &Arc<str>| (score(PROVIDER, node), node.clone());
    let before = nodes.iter().filter(|node| place(node) > place(own));
    Some(before.count())
}

fn is_eligible(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    !labels.is_some_and(|labels| labels.contains_key(EXCLUDE_LABEL)) && is_alive(node)
}

/// A node that says nothing of its readiness is ready.
fn is_alive(node: &Node) -> bool {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let mut ready = conditions
        .into_iter()
        .flatten()
        .filter(|it| it.type_ == "Ready");
    ready.all(|it| it.status == "True") && !is_leaving(node)
}

/// The one of some nodes whose hash with the address is the highest: a node that goes moves its own addresses, and one that
/// comes gets an equal share of all.
#[must_use]
pub fn elect<'a>(
    address: IpAddr,
    nodes: impl IntoIterator<Item = &'a Arc<str>>,
) -> Option<&'a Arc<str>> {
    let address = Addr::from(address).octets();
    nodes
        .into_iter()
        .max_by_key(|node| (score(&address, node), *node))
}

fn score(what: &[u8], node: &str) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(what);
    hasher.write(node.as_bytes());
    hasher.finish()
}

/// Who announces the addresses of a service. `endpoints` are those of its ports: under the policy Local a node without one that
/// is ready is none of the candidates.
pub(super) fn announcements(
    context: &Context<'_>,
    pooled: &[Assigned],
    policy: TrafficPolicy,
    endpoints: &[(Family, Vec<Candidate>)],
    faults: &mut Vec<Fault>,
) -> Vec<Announcement> {
    let announcement = |it: &Assigned| {
        let Assigned {
            address,
            automatic: _,
            provisional,
        } = *it;
        let family = Family::of(address);
        // Without Node objects nobody else would.
        let is_alone = context.cluster.nodes().next().is_none();
        let near =
            (policy == TrafficPolicy::Local && !is_alone).then(|| nodes_of(endpoints, family));
        let nodes = context.announcers.iter();
        let nodes = nodes.filter(|node| near.as_ref().is_none_or(|near| near.contains(*node)));
        Announcement {
            address,
            node: elect(address, nodes).cloned(),
            provisional,
        }
    };
    for it in pooled {
        if let Some(conflict) = context.conflicts.get(&it.address) {
            faults.push(Fault {
                field: "spec.loadBalancerIP".to_owned(),
                value: it.address.to_string(),
                message: format!(
                    "is {conflict} already: this node does not announce it until nobody else answers for it"
                ),
            });
        }
    }
    pooled.iter().map(announcement).collect()
}

/// The nodes that have ready endpoints; if there is none, those with endpoints that serve and terminate (A6).
fn nodes_of(endpoints: &[(Family, Vec<Candidate>)], family: Family) -> BTreeSet<Arc<str>> {
    let nodes = |is_it: fn(&Candidate) -> bool| -> BTreeSet<Arc<str>> {
        let own = endpoints.iter().filter(|(of, _)| *of == family);
        let all = own.flat_map(|(_, all)| all).filter(|it| is_it(it));
        all.map(|it| it.node.clone()).collect()
    };
    let ready = nodes(|it| it.ready);
    if ready.is_empty() {
        nodes(|it| it.serving && it.terminating)
    } else {
        ready
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn addresses() -> impl Iterator<Item = IpAddr> {
        (0..=255).map(|last| Ipv4Addr::new(203, 0, 113, last).into())
    }

    fn elected(nodes: &[Arc<str>]) -> Vec<Arc<str>> {
        let all = addresses().filter_map(|address| elect(address, nodes));
        all.cloned().collect()
    }

    #[test]
    fn every_node_finds_the_same_one_in_any_order() {
        let nodes = names(&["a", "b", "c", "d"]);
        let mut reversed = nodes.clone();
        reversed.reverse();
        assert_eq!(elected(&nodes), elected(&reversed));
        assert_eq!(elect(Ipv4Addr::LOCALHOST.into(), []), None);
        // What is announced somewhere stays there through an upgrade.
        let first: Vec<_> = elected(&nodes).into_iter().take(8).collect();
        assert_eq!(first, names(&["b", "b", "c", "b", "a", "d", "d", "b"]));
    }

    #[test]
    fn a_node_that_goes_moves_its_own_addresses_and_no_other() {
        let all = names(&["a", "b", "c", "d"]);
        let before = elected(&all);
        let after = elected(&names(&["a", "b", "d"]));
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || &**before == "c", "{before} -> {after}");
        }
        for node in &all {
            let share = before.iter().filter(|it| *it == node).count();
            assert!((40..=90).contains(&share), "{node} has {share} of 256");
        }
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b);
        let heirs: BTreeSet<_> = moved.map(|(_, heir)| heir).collect();
        assert_eq!(heirs.len(), 3, "all of the others take a part");
    }

    #[test]
    fn a_node_that_is_not_ready_or_left_out_is_none_of_them() {
        let node = |value| is_eligible(&serde_json::from_value(value).unwrap());
        let ready = |status| {
            json!({ "status": { "conditions": [
            { "type": "DiskPressure", "status": "False" },
            { "type": "Ready", "status": status },
        ] } })
        };
        assert!(node(json!({})), "nobody says that it is not");
        assert!(node(ready("True")));
        assert!(!node(ready("False")) && !node(ready("Unknown")));
        assert!(!node(
            json!({ "metadata": { "labels": { EXCLUDE_LABEL: "" } } })
        ));
        assert!(!node(
            json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } })
        ));
    }
}
