//! Ports of a service.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Type, is_headless};
use crate::model::validate::{Faults, PROTOCOLS, Rules, given, names};

/// The kubelet's own port: a load balancer that opened it would open the node.
const KUBELET: i32 = 10_250;

pub(super) fn check(faults: &mut Faults, spec: &ServiceSpec, kind: Type, rules: &Rules) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && kind != Type::ExternalName && !is_headless(spec) {
        faults.add(
            "spec.ports",
            "",
            "required: at least one port, `- port: 80`; only a headless or ExternalName service has none",
        );
    }
    let mut seen = Seen::default();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        one(faults, &field, port, kind);
        name(faults, &field, port, ports.len() > 1, &mut seen);
        node_port(faults, &field, port, kind, rules);
        unique(faults, &field, port, &mut seen);
    }
}

/// What is taken by earlier ports, and by which.
#[derive(Default)]
struct Seen<'a> {
    names: BTreeMap<&'a str, String>,
    ports: BTreeMap<(&'a str, i32), String>,
    node_ports: BTreeMap<(&'a str, i32), String>,
}

fn protocol(port: &ServicePort) -> &str {
    given(port.protocol.as_deref()).unwrap_or("TCP")
}

fn one(faults: &mut Faults, field: &str, port: &ServicePort, kind: Type) {
    let ServicePort {
        app_protocol,
        name: _,
        node_port: _,
        port: number,
        protocol,
        target_port,
    } = port;
    faults.port(format!("{field}.port"), *number);
    faults.one_of(
        &format!("{field}.protocol"),
        protocol.as_deref(),
        &PROTOCOLS,
    );
    match target_port {
        // Zero and the empty name are what an absent one reads as: the same as the port.
        None | Some(IntOrString::Int(0)) => {}
        Some(IntOrString::Int(number)) => faults.port(format!("{field}.targetPort"), *number),
        Some(IntOrString::String(name)) if name.is_empty() => {}
        Some(IntOrString::String(name)) => {
            faults.check(format!("{field}.targetPort"), name, names::port_name(name));
        }
    }
    if let Some(protocol) = app_protocol {
        let syntax = names::qualified_name(protocol);
        faults.check(format!("{field}.appProtocol"), protocol, syntax);
    }
    if kind == Type::LoadBalancer && *number == KUBELET {
        faults.add(
            format!("{field}.port"),
            number,
            "may not be opened by a load balancer: it is the kubelet's; choose another port",
        );
    }
}

fn name<'a>(
    faults: &mut Faults,
    field: &str,
    port: &'a ServicePort,
    is_required: bool,
    seen: &mut Seen<'a>,
) {
    let field = format!("{field}.name");
    let Some(name) = given(port.name.as_deref()) else {
        if is_required {
            faults.add(
                field,
                "",
                "required: where there are several ports each has a name of its own",
            );
        }
        return;
    };
    faults.check(field.as_str(), name, names::dns_label(name));
    if let Some(other) = seen.names.get(name) {
        faults.add(
            field,
            name,
            format!("must be unique: {other} has it already"),
        );
    } else {
        seen.names.insert(name, field);
    }
}

fn node_port(faults: &mut Faults, field: &str, port: &ServicePort, kind: Type, rules: &Rules) {
    let Some(number) = port.node_port.filter(|n| *n != 0) else {
        return;
    };
    let field = format!("{field}.nodePort");
    if !matches!(kind, Type::NodePort | Type::LoadBalancer) {
        faults.add(
            field,
            number,
            "may only be set with `type: NodePort` or `type: LoadBalancer`; change the type, or take this away",
        );
        return;
    }
    let range = &rules.node_ports;
    if !u16::try_from(number).is_ok_and(|n| range.contains(&n)) {
        faults.add(
            field,
            number,
            format!(
                "must be in the range of node ports, {} to {}; leave it out to get one",
                range.start(),
                range.end()
            ),
        );
    }
}

fn unique<'a>(faults: &mut Faults, field: &str, port: &'a ServicePort, seen: &mut Seen<'a>) {
    let protocol = protocol(port);
    if let Some(other) = seen.ports.get(&(protocol, port.port)) {
        faults.add(
            format!("{field}.port"),
            port.port,
            format!(
                "must be unique for its protocol: {other} is {protocol} {} already",
                port.port
            ),
        );
    } else {
        seen.ports.insert((protocol, port.port), field.to_owned());
    }
    let Some(number) = port.node_port.filter(|n| *n != 0) else {
        return;
    };
    if let Some(other) = seen.node_ports.get(&(protocol, number)) {
        faults.add(
            format!("{field}.nodePort"),
            number,
            format!("must be unique for its protocol: {other} has {protocol} {number} already"),
        );
    } else {
        seen.node_ports.insert((protocol, number), field.to_owned());
    }
}
