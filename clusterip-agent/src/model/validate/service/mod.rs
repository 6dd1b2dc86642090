//! Services (rules H).

mod addresses;
mod exposure;
mod ports;

use k8s_openapi::api::core::v1::{Service, ServiceSpec, SessionAffinityConfig};

use super::{Faults, Rules, given, listed, metadata, names};
use crate::model::problem::Fault;

/// The longest a client stays with its backend (B3).
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// What kind of service it is; everything else depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Type {
    /// Reachable inside.
    ClusterIp,
    /// Also at a port of each node.
    NodePort,
    /// Also at an address of a load balancer.
    LoadBalancer,
    /// Another name for something elsewhere.
    ExternalName,
}

impl Type {
    const NAMES: [&str; 4] = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];

    /// The type of a service; none if it is no type at all.
    pub(super) fn of(spec: &ServiceSpec) -> Option<Self> {
        match given(spec.type_.as_deref()).unwrap_or("ClusterIP") {
            "ClusterIP" => Some(Self::ClusterIp),
            "NodePort" => Some(Self::NodePort),
            "LoadBalancer" => Some(Self::LoadBalancer),
            "ExternalName" => Some(Self::ExternalName),
            _ => None,
        }
    }
}

/// True for a service that wants no address: `clusterIP: None`.
pub(super) fn is_headless(spec: &ServiceSpec) -> bool {
    let first = spec.cluster_ips.as_deref().and_then(<[_]>::first);
    let address = given(spec.cluster_ip.as_deref()).or(first.map(String::as_str));
    address == Some("None")
}

/// The faults of a service.
#[must_use]
pub fn service(service: &Service, rules: &Rules) -> Vec<Fault> {
    let mut faults = Faults::default();
    let Service {
        metadata,
        spec,
        status,
    } = service;
    metadata::namespaced(&mut faults, metadata, names::dns_label);
    let Some(spec) = spec else {
        faults.add("spec", "", "required: write at least `ports`");
        return faults.0;
    };
    faults.one_of("spec.type", spec.type_.as_deref(), &Type::NAMES);
    // What depends on the type says nothing sensible without one.
    if let Some(kind) = Type::of(spec) {
        ports::check(&mut faults, spec, kind, rules);
        addresses::check(&mut faults, spec, kind);
        exposure::check(&mut faults, spec, metadata, kind, rules);
    }
    if let Some(selector) = &spec.selector {
        metadata::labels(&mut faults, "spec.selector", selector);
    }
    affinity(&mut faults, spec);
    traffic(&mut faults, spec);
    exposure::topology(&mut faults, metadata);
    if let Some(status) = status {
        exposure::ingress(&mut faults, status);
    }
    faults.0
}

fn affinity(faults: &mut Faults, spec: &ServiceSpec) {
    let field = "spec.sessionAffinity";
    let affinity = given(spec.session_affinity.as_deref());
    faults.one_of(field, affinity, &["None", "ClientIP"]);
    let Some(SessionAffinityConfig { client_ip }) = &spec.session_affinity_config else {
        return;
    };
    if affinity != Some("ClientIP") {
        faults.add(
            "spec.sessionAffinityConfig",
            "",
            "may only be set with `sessionAffinity: ClientIP`; set that, or take this away",
        );
        return;
    }
    let timeout = client_ip.as_ref().and_then(|c| c.timeout_seconds);
    if let Some(seconds) = timeout
        && !(1..=MAX_AFFINITY_SECONDS).contains(&seconds)
    {
        faults.add(
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
            seconds,
            format!("must be from 1 to {MAX_AFFINITY_SECONDS} seconds (10800 if left out)"),
        );
    }
}

/// Which endpoints are used from inside.
fn traffic(faults: &mut Faults, spec: &ServiceSpec) {
    faults.one_of(
        "spec.internalTrafficPolicy",
        spec.internal_traffic_policy.as_deref(),
        &["Cluster", "Local"],
    );
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if let Some(distribution) = spec.traffic_distribution.as_deref()
        && !distributions.contains(&distribution)
    {
        faults.add(
            "spec.trafficDistribution",
            distribution,
            format!("must be {}, or left out", listed(&distributions)),
        );
    }
}

#[cfg(test)]
mod tests;
