//! What is known of a Service.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::{
    api::core::v1 as api, apimachinery::pkg::util::intstr::IntOrString, jiff::Timestamp,
};

use super::{Names, port_number};
use crate::model::{
    about::ServiceType,
    endpoints::PortSpec,
    labels::Labels,
    resolve::{ALGORITHM_ANNOTATION, HEADLESS_LABEL, PROXY_NAME_LABEL},
    service::{Family, Protocol, Target, parse_address},
};

const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;

/// v1 Service
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// A label says that it has no entry in this dataplane (A13).
    pub is_foreign: bool,
    /// The annotation for the algorithm, whatever it says.
    pub algorithm: Option<Arc<str>>,
    /// `spec`.
    pub spec: Option<ServiceSpec>,
    /// `status.loadBalancer.ingress`.
    pub ingress: Box<[Ingress]>,
}

/// `spec` of a Service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceSpec {
    /// `type`.
    pub service_type: ServiceType,
    /// `selector`; empty if there is none.
    pub selector: Labels,
    /// `ports`, the wrong ones too: problems name them by their place.
    pub ports: Box<[ServicePort]>,
    /// `clusterIP`, as it is written.
    pub cluster_ip: Option<Box<str>>,
    /// `clusterIPs`, as they are written.
    pub cluster_ips: Box<[Box<str>]>,
    /// `ipFamilies`.
    pub ip_families: Box<[Family]>,
    /// `ipFamilyPolicy`.
    pub ip_family_policy: Option<FamilyPolicy>,
    /// `internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `trafficDistribution`.
    pub distribution: Distribution,
    /// `publishNotReadyAddresses`.
    pub publishes_all: bool,
    /// How long a client keeps its endpoint, in seconds; 0 is not at all (B3).
    pub affinity_seconds: u32,
    /// `externalIPs`, as they are written.
    pub external_ips: Box<[Box<str>]>,
    /// `externalName`.
    pub external_name: Arc<str>,
    /// `loadBalancerIP`, as it is written.
    pub load_balancer_ip: Option<Box<str>>,
    /// `loadBalancerClass`.
    pub load_balancer_class: Option<Box<str>>,
    /// `healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// `allocateLoadBalancerNodePorts`.
    pub allocates_node_ports: bool,
    /// `loadBalancerSourceRanges`, the valid ones (E4).
    pub source_ranges: Box<[IpNet]>,
}

/// A port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// The port; none if it is not a valid one.
    pub spec: Option<PortSpec>,
    /// `nodePort`.
    pub node_port: Option<u16>,
}

/// Where a load balancer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ingress {
    /// `ip`.
    pub address: Option<IpAddr>,
    /// `ipMode` is Proxy (E5).
    pub is_proxy: bool,
}

/// Which endpoints a client reaches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TrafficPolicy {
    /// Those of the whole cluster, near ones first where there are hints (A8).
    #[default]
    Cluster,
    /// Those of this node alone; hints have no say (A7).
    Local,
}

impl TrafficPolicy {
    /// As Kubernetes writes it; absent is Cluster.
    #[must_use]
    pub fn parse(text: Option<&str>) -> Self {
        if text == Some("Local") {
            Self::Local
        } else {
            Self::Cluster
        }
    }
}

/// `ipFamilyPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyPolicy {
    /// `SingleStack`
    Single,
    /// `PreferDualStack`
    Prefer,
    /// `RequireDualStack`
    Require,
}

impl FamilyPolicy {
    /// As Kubernetes writes it; anything else is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Single, Self::Prefer, Self::Require];
        all.into_iter().find(|policy| policy.name() == text)
    }

    /// As Kubernetes writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "SingleStack",
            Self::Prefer => "PreferDualStack",
            Self::Require => "RequireDualStack",
        }
    }
}

/// What a service asks of the traffic to its pods; slices say it themselves, in their hints (A9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Distribution {
    /// Nothing.
    #[default]
    Anywhere,
    /// `PreferSameZone`, or `PreferClose`.
    SameZone,
    /// `PreferSameNode`
    SameNode,
}

impl Distribution {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }
}

impl Service {
    /// What an object says.
    #[must_use]
    pub fn of(service: &api::Service, names: &mut Names) -> Self {
        let api::Service {
            metadata,
            spec,
            status,
        } = service;
        let labels = metadata.labels.as_ref();
        let annotations = metadata.annotations.as_ref();
        let algorithm = annotations.and_then(|all| all.get(ALGORITHM_ANNOTATION));
        let balancer = status.as_ref().and_then(|it| it.load_balancer.as_ref());
        let ingress = balancer.and_then(|balancer| balancer.ingress.as_ref());
        Self {
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_foreign: labels.is_some_and(|labels| {
                labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL)
            }),
            algorithm: names.share_some(algorithm.map(String::as_str)),
            spec: spec.as_ref().map(|spec| ServiceSpec::of(spec, names)),
            ingress: ingress.into_iter().flatten().map(Ingress::of).collect(),
        }
    }
}

impl ServiceSpec {
    fn of(spec: &api::ServiceSpec, names: &mut Names) -> Self {
        let text = |text: &Option<String>| {
            let text = text.as_deref().filter(|text| !text.is_empty());
            text.map(Box::from)
        };
        let texts = |all: &Option<Vec<String>>| {
            let all = all.iter().flatten();
            all.map(|text| text.as_str().into()).collect()
        };
        let families = spec.ip_families.iter().flatten();
        let ports = spec.ports.iter().flatten();
        Self {
            service_type: ServiceType::parse(spec.type_.as_deref()),
            selector: Labels::of(spec.selector.as_ref(), names),
            ports: ports.map(|port| ServicePort::of(port, names)).collect(),
            cluster_ip: text(&spec.cluster_ip),
            cluster_ips: texts(&spec.cluster_ips),
            ip_families: families.filter_map(|it| Family::parse(it)).collect(),
            ip_family_policy: spec
                .ip_family_policy
                .as_deref()
                .and_then(FamilyPolicy::parse),
            internal_policy: TrafficPolicy::parse(spec.internal_traffic_policy.as_deref()),
            external_policy: TrafficPolicy::parse(spec.external_traffic_policy.as_deref()),
            distribution: Distribution::parse(spec.traffic_distribution.as_deref()),
            publishes_all: spec.publish_not_ready_addresses.unwrap_or_default(),
            affinity_seconds: affinity(spec),
            external_ips: texts(&spec.external_ips),
            external_name: spec.external_name.as_deref().unwrap_or_default().into(),
            load_balancer_ip: text(&spec.load_balancer_ip),
            load_balancer_class: text(&spec.load_balancer_class),
            health_check_node_port: spec.health_check_node_port.and_then(port_number),
            allocates_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true),
            source_ranges: source_ranges(spec),
        }
    }

    /// The valid ports.
    pub fn ports(&self) -> impl Iterator<Item = &PortSpec> {
        self.ports.iter().filter_map(|port| port.spec.as_ref())
    }
}

/// White space around a range is none of it, as the API server has it.
fn source_ranges(spec: &api::ServiceSpec) -> Box<[IpNet]> {
    let texts = spec.load_balancer_source_ranges.iter().flatten();
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

impl ServicePort {
    fn of(port: &api::ServicePort, names: &mut Names) -> Self {
        let api::ServicePort {
            name,
            port: number,
            protocol,
            target_port,
            app_protocol: _,
            node_port,
        } = port;
        let target = |number: u16, names: &mut Names| match target_port {
            None | Some(IntOrString::Int(0)) => Some(Target::Number(number)),
            Some(IntOrString::Int(target)) => port_number(*target).map(Target::Number),
            Some(IntOrString::String(name)) if name.is_empty() => Some(Target::Number(number)),
            Some(IntOrString::String(name)) => Some(Target::Name(names.share(name))),
        };
        let spec = port_number(*number)
            .zip(Protocol::parse(protocol.as_deref()))
            .and_then(|(number, protocol)| {
                Some(PortSpec {
                    name: names.share(name.as_deref().unwrap_or_default()),
                    protocol,
                    port: number,
                    target: target(number, names)?,
                })
            });
        Self {
            spec,
            node_port: node_port.and_then(port_number),
        }
    }
}

impl Ingress {
    fn of(ingress: &api::LoadBalancerIngress) -> Self {
        let api::LoadBalancerIngress {
            ip,
            ip_mode,
            hostname: _,
            ports: _,
        } = ingress;
        Self {
            address: ip.as_deref().and_then(parse_address),
            is_proxy: ip_mode.as_deref() == Some("Proxy"),
        }
    }
}

/// How long a client keeps its endpoint (B3).
fn affinity(spec: &api::ServiceSpec) -> u32 {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return 0;
    }
    spec.session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .and_then(|seconds| u32::try_from(seconds).ok())
        .unwrap_or(DEFAULT_AFFINITY_SECONDS)
}
