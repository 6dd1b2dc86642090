//! What happens to a layout: services and pods come, change and go.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use crate::model::{
    about::About,
    facts::TrafficPolicy,
    naming::Naming,
    object::ObjectName,
    service::{
        Action, Algorithm, Balancer, Endpoint, Family, Frontend, FrontendKind, Protocol,
        ResolvedService, Role, Scope, Target,
    },
};

/// Host, whether at the other port, role, weight.
pub(super) type Listed = (u8, bool, Role, u32);

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A service comes or changes; it takes its VIP from whoever has it.
    Place {
        service: u8,
        vip: u8,
        ports: Vec<(u8, u16)>,
        endpoints: Vec<Listed>,
        algorithm: usize,
        loser_first: bool,
    },
    /// Another pod gets the address of one.
    Succeed(u8),
    Remove(u8),
    Advance,
    /// Of the agent; that service is gone when it comes back.
    Restart(u8),
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let role = prop_oneof![
        3 => Just(Role::Chosen),
        1 => Just(Role::Serving),
        1 => Just(Role::Listed),
    ];
    let endpoint = (0..6_u8, any::<bool>(), role, 1..4_u32);
    let place = (
        0..4_u8,
        0..4_u8,
        prop::collection::vec((0..3_u8, 80..83_u16), 1..3),
        prop::collection::vec(endpoint, 0..5),
        prop_oneof![3 => Just(0), 1 => 1..Algorithm::ALL.len()],
        any::<bool>(),
    )
        .prop_map(
            |(service, vip, ports, endpoints, algorithm, loser_first)| Step::Place {
                service,
                vip,
                ports,
                endpoints,
                algorithm,
                loser_first,
            },
        );
    prop_oneof![
        8 => place,
        1 => (0..4_u8).prop_map(Step::Remove),
        2 => (0..6_u8).prop_map(Step::Succeed),
        4 => Just(Step::Advance),
        1 => (0..8_u8).prop_map(Step::Restart),
    ]
}

pub(super) fn name(service: u8) -> ObjectName {
    ObjectName::new("default", &service.to_string())
}

pub(super) fn resolved(
    service: u8,
    vip: u8,
    ports: &[(u8, u16)],
    endpoints: &[Listed],
    algorithm: usize,
    pods: &BTreeMap<u8, u32>,
) -> ResolvedService {
    // Port names and numbers are unique within a service, and so is each ip:port.
    let ports: BTreeMap<u16, u8> = ports
        .iter()
        .map(|(name, number)| (*number, *name))
        .collect();
    let ports: BTreeMap<u8, u16> = ports
        .into_iter()
        .map(|(number, name)| (name, number))
        .collect();
    let endpoints: BTreeMap<(u8, u16), Endpoint> = endpoints
        .iter()
        .map(|(host, is_other_port, role, weight)| {
            let port = 8080 + u16::from(*is_other_port);
            let endpoint = Endpoint {
                address: [10, 1, 0, *host].into(),
                port,
                weight: *weight,
                terminating: false,
                role: *role,
                node: "".into(),
                zone: "".into(),
                // Of every third nothing is known.
                identity: (host % 3 != 0).then(|| identity(*host, pods)),
            };
            ((*host, port), endpoint)
        })
        .collect();
    let balancers = ports.into_iter().map(|(port_name, port)| Balancer {
        port_name: port_name.to_string().into(),
        protocol: Protocol::Tcp,
        family: Family::V4,
        target: Target::Name("web".into()),
        frontends: vec![Frontend {
            address: [10, 96, 0, vip].into(),
            port,
            kind: FrontendKind::ClusterIp,
            scope: Scope::Internal,
            provisional: false,
        }],
        endpoints: endpoints.values().cloned().collect(),
        action: Action::Balance,
        policy: TrafficPolicy::Cluster,
    });
    ResolvedService {
        name: name(service),
        algorithm: Algorithm::ALL[algorithm],
        affinity_seconds: u32::from(vip),
        balancers: balancers.collect(),
        announced: Vec::new(),
        provision: None,
        external: Vec::new(),
        source_ranges: Vec::new(),
        about: About::default(),
        naming: Naming::Members(Vec::new()),
        health_check_node_port: None,
        problems: Vec::new(),
    }
}

pub(super) fn identity(host: u8, pods: &BTreeMap<u8, u32>) -> Arc<str> {
    let count = pods.get(&host).copied().unwrap_or_default();
    format!("pod {host}, number {count}").into()
}
