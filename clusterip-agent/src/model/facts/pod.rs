//! What is known of a Pod.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::{api::core::v1 as api, jiff::Timestamp};

use super::{Names, Written, port_number};
use crate::model::{endpoints::WEIGHT_ANNOTATION, labels::Labels, service::Protocol};

/// Annotation of a pod: its network namespace, in which `exec` probes run; a name of `ip netns`, or a path.
pub const NETNS_ANNOTATION: &str = "clusterip.dev/netns";
/// The condition of a pod that gets new flows.
const READY: &str = "Ready";

/// v1 Pod
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Pod {
    /// `metadata.uid`; none if it is empty.
    pub uid: Option<Arc<str>>,
    /// `metadata.deletionTimestamp`.
    pub deleted: Option<Timestamp>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// The annotation for its share of the flows, whatever it says.
    pub weight: Option<Arc<str>>,
    /// The annotation for its network namespace.
    pub netns: Option<Arc<str>>,
    /// `spec.nodeName`; empty if it runs on none.
    pub node: Arc<str>,
    /// `spec.hostNetwork`.
    pub on_host: bool,
    /// `spec.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `spec.subdomain`.
    pub subdomain: Option<Arc<str>>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_seconds: Option<i64>,
    /// `spec.containers`, then those of `spec.initContainers` that go on beside them.
    pub containers: Box<[Container]>,
    /// `status.phase`.
    pub phase: Phase,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Box<[Written]>,
    /// `addresses` are those of `status.podIPs`.
    pub is_listed: bool,
    /// The condition `Ready`.
    pub ready: Option<bool>,
    /// Every readiness gate is true (I4).
    pub passes_gates: bool,
}

/// `status.phase` of a Pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// It says none.
    #[default]
    Unsaid,
    /// `Running`
    Running,
    /// `Failed` or `Succeeded`: it runs no more and never will again.
    Ended,
    /// Another one.
    Other,
}

/// A container that goes on as long as its pod.
#[derive(Clone, PartialEq, Debug)]
pub struct Container {
    /// Name.
    pub name: Arc<str>,
    /// Its place in `spec.containers`, or in `spec.initContainers`.
    pub index: usize,
    /// It is in `spec.initContainers`.
    pub is_sidecar: bool,
    /// `ports`.
    pub ports: Box<[ContainerPort]>,
    /// `startupProbe`
    pub startup: Option<Box<api::Probe>>,
    /// `readinessProbe`
    pub readiness: Option<Box<api::Probe>>,
    /// `livenessProbe`
    pub liveness: Option<Box<api::Probe>>,
}

/// A port of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPort {
    /// Name; empty if it has none.
    pub name: Arc<str>,
    /// Protocol; none if it is no protocol.
    pub protocol: Option<Protocol>,
    /// `containerPort`.
    pub number: Option<u16>,
}

impl Pod {
    /// What an object says.
    #[must_use]
    pub fn of(pod: &api::Pod, names: &mut Names) -> Self {
        let (metadata, none) = (&pod.metadata, api::PodSpec::default());
        let spec = pod.spec.as_ref().unwrap_or(&none);
        let status = pod.status.as_ref();
        let annotation = |name| metadata.annotations.as_ref()?.get(name).map(String::as_str);
        let conditions = status.and_then(|status| status.conditions.as_ref());
        let (addresses, is_listed) = addresses(status);
        Self {
            uid: given(metadata.uid.as_deref()).map(Arc::from),
            deleted: metadata.deletion_timestamp.as_ref().map(|time| time.0),
            labels: Labels::of(metadata.labels.as_ref(), names),
            weight: names.share_some(annotation(WEIGHT_ANNOTATION)),
            netns: annotation(NETNS_ANNOTATION).map(Arc::from),
            node: names.share(spec.node_name.as_deref().unwrap_or_default()),
            on_host: spec.host_network.unwrap_or_default(),
            hostname: spec.hostname.as_deref().map(Arc::from),
            subdomain: names.share_some(spec.subdomain.as_deref()),
            grace_seconds: spec.termination_grace_period_seconds,
            containers: containers(spec, names),
            phase: Phase::parse(status.and_then(|status| status.phase.as_deref())),
            addresses,
            is_listed,
            ready: conditions
                .and_then(|all| all.iter().find(|it| it.type_ == READY))
                .map(|it| it.status == "True"),
            passes_gates: spec.readiness_gates.iter().flatten().all(|gate| {
                let mut all = conditions.into_iter().flatten();
                all.any(|it| it.type_ == gate.condition_type && it.status == "True")
            }),
        }
    }

    /// Whether it runs no more and never will again.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// Whether it passes its checks, on its way out or not.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        // A pod in a manifest may have no condition: then it is ready once it runs (I1).
        self.ready.unwrap_or(self.phase.may_run()) && self.passes_gates
    }

    /// The addresses that it has to itself: none on the node's network, and none after its end.
    pub fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let has_own = !self.on_host && !self.has_ended();
        let own = self.addresses.iter().filter(move |_| has_own);
        own.filter_map(Written::address)
    }

    /// The field of an address, by its place.
    #[must_use]
    pub fn address_field(&self, index: usize) -> String {
        if self.is_listed {
            format!("status.podIPs[{index}].ip")
        } else {
            "status.podIP".to_owned()
        }
    }
}

impl Phase {
    fn parse(text: Option<&str>) -> Self {
        match text {
            None => Self::Unsaid,
            Some("Running") => Self::Running,
            Some("Failed" | "Succeeded") => Self::Ended,
            Some(_) => Self::Other,
        }
    }

    /// Whether it runs, as far as somebody says otherwise.
    #[must_use]
    pub const fn may_run(self) -> bool {
        matches!(self, Self::Unsaid | Self::Running)
    }
}

impl Container {
    fn of(container: &api::Container, index: usize, is_sidecar: bool, names: &mut Names) -> Self {
        let boxed = |probe: &Option<api::Probe>| probe.clone().map(Box::new);
        let ports = container.ports.iter().flatten();
        Self {
            name: names.share(&container.name),
            index,
            is_sidecar,
            ports: ports.map(|port| ContainerPort::of(port, names)).collect(),
            startup: boxed(&container.startup_probe),
            readiness: boxed(&container.readiness_probe),
            liveness: boxed(&container.liveness_probe),
        }
    }

    /// Its path in the object.
    #[must_use]
    pub fn field(&self) -> String {
        let list = if self.is_sidecar {
            "initContainers"
        } else {
            "containers"
        };
        format!("spec.{list}[{}]", self.index)
    }
}

impl ContainerPort {
    fn of(port: &api::ContainerPort, names: &mut Names) -> Self {
        Self {
            name: names.share(port.name.as_deref().unwrap_or_default()),
            protocol: Protocol::parse(port.protocol.as_deref()),
            number: port_number(port.container_port),
        }
    }
}

fn containers(spec: &api::PodSpec, names: &mut Names) -> Box<[Container]> {
    let own = spec.containers.iter().enumerate();
    let own = own.map(|(index, container)| (index, container, false));
    let others = spec.init_containers.iter().flatten().enumerate();
    let sidecars = others
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(index, container)| (index, container, true));
    own.chain(sidecars)
        .map(|(index, container, is_sidecar)| Container::of(container, index, is_sidecar, names))
        .collect()
}

/// Those that are listed, else the single one; whether they are listed.
fn addresses(status: Option<&api::PodStatus>) -> (Box<[Written]>, bool) {
    let listed = status.and_then(|status| status.pod_ips.as_ref());
    let listed: Box<[Written]> = listed
        .into_iter()
        .flatten()
        .filter(|it| !it.ip.is_empty())
        .map(|it| Written::parse(&it.ip))
        .collect();
    if !listed.is_empty() {
        return (listed, true);
    }
    let single = given(status.and_then(|status| status.pod_ip.as_deref()));
    (single.into_iter().map(Written::parse).collect(), false)
}

fn given(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}
