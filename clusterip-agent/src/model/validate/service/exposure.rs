//! What makes a service reachable from outside: policies and load balancers.

use k8s_openapi::{
    api::core::v1::{ServiceSpec, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::Type;
use crate::model::validate::{Faults, Rules, address, cidr, given, metadata::keyed, names};

/// The older way to write `loadBalancerSourceRanges`.
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
/// Two names of one setting.
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub(super) fn check(
    faults: &mut Faults,
    spec: &ServiceSpec,
    metadata: &ObjectMeta,
    kind: Type,
    rules: &Rules,
) {
    policy(faults, spec, kind);
    health_check(faults, spec, kind, rules);
    source_ranges(faults, spec, metadata, kind);
    let is_balancer = kind == Type::LoadBalancer;
    if let Some(value) = spec.allocate_load_balancer_node_ports
        && !is_balancer
    {
        only_load_balancer(
            faults,
            "spec.allocateLoadBalancerNodePorts",
            &value.to_string(),
        );
    }
    if let Some(class) = spec.load_balancer_class.as_deref() {
        if is_balancer {
            faults.check(
                "spec.loadBalancerClass",
                class,
                names::qualified_name(class),
            );
        } else {
            only_load_balancer(faults, "spec.loadBalancerClass", class);
        }
    }
}

fn only_load_balancer(faults: &mut Faults, field: &str, value: &str) {
    faults.add(
        field,
        value,
        "may only be set with `type: LoadBalancer`; change the type, or take this away",
    );
}

/// A policy for traffic from outside has a meaning only where there can be some (A10).
fn policy(faults: &mut Faults, spec: &ServiceSpec, kind: Type) {
    let field = "spec.externalTrafficPolicy";
    let Some(policy) = given(spec.external_traffic_policy.as_deref()) else {
        return;
    };
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|e| !e.is_empty());
    let is_external = match kind {
        Type::NodePort | Type::LoadBalancer => true,
        Type::ClusterIp => has_external_ips,
        Type::ExternalName => false,
    };
    if is_external {
        faults.one_of(field, Some(policy), &["Cluster", "Local"]);
    } else {
        faults.add(
            field,
            policy,
            "may only be set for a service that is reachable from outside (NodePort, LoadBalancer, or with externalIPs); take it away",
        );
    }
}

fn health_check(faults: &mut Faults, spec: &ServiceSpec, kind: Type, rules: &Rules) {
    let field = "spec.healthCheckNodePort";
    let Some(port) = spec.health_check_node_port.filter(|p| *p != 0) else {
        return;
    };
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let range = &rules.node_ports;
    if kind != Type::LoadBalancer || !is_local {
        faults.add(
            field,
            port,
            "may only be set with `type: LoadBalancer` and `externalTrafficPolicy: Local`; take it away",
        );
    } else if !u16::try_from(port).is_ok_and(|p| range.contains(&p)) {
        faults.add(
            field,
            port,
            format!(
                "must be in the range of node ports, {} to {}; leave it out to get one",
                range.start(),
                range.end()
            ),
        );
    }
}

fn source_ranges(faults: &mut Faults, spec: &ServiceSpec, metadata: &ObjectMeta, kind: Type) {
    let is_balancer = kind == Type::LoadBalancer;
    let field = "spec.loadBalancerSourceRanges";
    let ranges = spec
        .load_balancer_source_ranges
        .as_deref()
        .unwrap_or_default();
    if !ranges.is_empty() {
        if !is_balancer {
            only_load_balancer(faults, field, &ranges.join(", "));
        }
        for (index, range) in ranges.iter().enumerate() {
            // Spaces around a range have always been let through.
            faults.check(format!("{field}[{index}]"), range, cidr(range.trim()));
        }
        return;
    }
    let annotation = metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(SOURCE_RANGES));
    let Some(value) = annotation else {
        return;
    };
    let field = keyed("metadata.annotations", SOURCE_RANGES);
    if !is_balancer {
        only_load_balancer(faults, &field, value);
    }
    if !value.trim().is_empty() {
        for range in value.split(',') {
            faults.check(field.as_str(), range.trim(), cidr(range.trim()));
        }
    }
}

pub(super) fn topology(faults: &mut Faults, metadata: &ObjectMeta) {
    let annotation = |key: &str| metadata.annotations.as_ref().and_then(|a| a.get(key));
    if let (Some(mode), Some(hints)) = (annotation(TOPOLOGY_MODE), annotation(TOPOLOGY_HINTS))
        && mode != hints
    {
        faults.add(
            keyed("metadata.annotations", TOPOLOGY_MODE),
            mode,
            format!("must be the same as {TOPOLOGY_HINTS}, {hints:?}, where both are given; take that one away"),
        );
    }
}

/// The addresses that a load balancer has given it.
pub(super) fn ingress(faults: &mut Faults, status: &ServiceStatus) {
    let balancer = status.load_balancer.as_ref();
    let ingress = balancer.and_then(|b| b.ingress.as_deref());
    for (index, ingress) in ingress.unwrap_or_default().iter().enumerate() {
        let field = format!("status.loadBalancer.ingress[{index}]");
        let ip = given(ingress.ip.as_deref());
        if let Some(ip) = ip {
            faults.check(format!("{field}.ip"), ip, address(ip));
        }
        if let Some(mode) = ingress.ip_mode.as_deref() {
            let field = format!("{field}.ipMode");
            faults.one_of(&field, Some(mode), &["VIP", "Proxy"]);
            if ip.is_none() {
                faults.add(field, mode, "may only be set beside `ip`");
            }
        }
        if let Some(name) = given(ingress.hostname.as_deref()) {
            let field = format!("{field}.hostname");
            if address(name).is_ok() {
                faults.add(field, name, "must be a DNS name; an address goes into `ip`");
            } else {
                faults.check(field, name, names::dns_name(name));
            }
        }
    }
}
