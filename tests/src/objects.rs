//! The Pod objects of a folder of manifests, from which the demo makes its pods.

use std::{net::IpAddr, path::Path};

use crate::server::Protocol;
use anyhow::{Context as _, Result};
use clusterip_agent::{
    model::{
        event::Event,
        facts,
        object::{Object, ObjectName, Spec},
        problem::Problem,
        service,
        validate::Rules,
    },
    source::manifests,
};

/// What the demo wants to know of a Pod object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PodObject {
    /// `name`, or `namespace/name` outside the namespace `default`.
    pub name: String,
    /// `status.podIPs`, one per family.
    pub addresses: Vec<IpAddr>,
    /// Ports of all its containers.
    pub ports: Vec<ContainerPort>,
}

/// One `containerPort`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ContainerPort {
    /// Its name; may be empty.
    pub name: String,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// The Pod objects of a folder in order of their names, as the agent reads them, and what is wrong with the rest.
///
/// # Errors
/// The folder could not be read.
pub fn pods(folder: &Path) -> Result<(Vec<PodObject>, Vec<Problem>)> {
    let events = manifests::once(folder, Rules::default());
    let events = events.with_context(|| format!("read the manifests in {}", folder.display()))?;
    let mut pods = Vec::new();
    let mut problems = Vec::new();
    for event in events {
        match event {
            Event::Put(object) => pods.extend(PodObject::of(&object)),
            Event::Problems(found) => problems = found,
            Event::Reset
            | Event::Remove(_)
            | Event::Synced
            | Event::Changed(_)
            | Event::Machine(_)
            | Event::Conflicts(_)
            | Event::Unprovided(_) => {}
        }
    }
    pods.sort();
    Ok((pods, problems))
}

impl PodObject {
    fn of(object: &Object) -> Option<Self> {
        let Spec::Pod(pod) = &object.spec else {
            return None;
        };
        let ObjectName { namespace, name } = &object.key.name;
        let containers = pod.containers.iter().filter(|it| !it.is_sidecar);
        let ports = containers.flat_map(|container| &container.ports);
        Some(Self {
            name: match &**namespace {
                "default" => name.to_string(),
                namespace => format!("{namespace}/{name}"),
            },
            addresses: addresses(pod),
            ports: ports.filter_map(ContainerPort::of).collect(),
        })
    }
}

impl ContainerPort {
    fn of(port: &facts::ContainerPort) -> Option<Self> {
        Some(Self {
            name: port.name.to_string(),
            protocol: match port.protocol? {
                service::Protocol::Tcp => Protocol::Tcp,
                service::Protocol::Udp => Protocol::Udp,
                // The demo has no server for it.
                service::Protocol::Sctp => return None,
            },
            number: port.number?,
        })
    }
}

/// The first address of each family.
fn addresses(pod: &facts::Pod) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in pod.addresses.iter().filter_map(facts::Written::address) {
        let is_same = |known: &IpAddr| known.is_ipv4() == address.is_ipv4();
        if !addresses.iter().any(is_same) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_have_one_client_and_six_servers() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
        let (pods, problems) = pods(&examples).unwrap();
        assert_eq!(problems, []);
        let (clients, servers): (Vec<_>, Vec<_>) =
            pods.iter().partition(|pod| pod.ports.is_empty());
        assert_eq!(clients.len(), 1);
        assert_eq!(clients[0].name, "client");
        let names: Vec<_> = servers.iter().map(|pod| pod.name.as_str()).collect();
        assert_eq!(
            names,
            ["db-1", "multi-1", "multi-2", "web-1", "web-2", "web-3"]
        );
        assert_eq!(servers[1].ports.len(), 2);
    }

    #[test]
    fn a_pod_in_a_list_is_found_with_one_address_per_family() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "other"},
            "spec": {"containers": [{"name": "c", "image": "c", "ports": [{"containerPort": 53, "protocol": "UDP"}]}]},
            "status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}]}"#;
        std::fs::write(folder.path().join("list.json"), text).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "no: manifest").unwrap();
        let (pods, problems) = pods(folder.path()).unwrap();
        assert_eq!(problems, []);
        let port = ContainerPort {
            name: String::new(),
            protocol: Protocol::Udp,
            number: 53,
        };
        let wanted = PodObject {
            name: "other/a".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
            ports: vec![port],
        };
        assert_eq!(pods, [wanted]);
    }
}
