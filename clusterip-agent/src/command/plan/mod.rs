//! `clusterip plan`: what would be programmed.

#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use super::table::{aligned, dash, socket};
use crate::model::{
    problem::Problem,
    service::{Action, Balancer, Endpoint, Frontend, FrontendKind, ResolvedService, Scope},
    snapshot::Snapshot,
};

/// The document of `plan -o json`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    version: u32,
    node: Arc<str>,
    problems: Vec<Problem>,
    frontends: Vec<PlannedFrontend>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PlannedFrontend {
    service: String,
    port_name: Arc<str>,
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    kind: &'static str,
    scope: &'static str,
    action: &'static str,
    algorithm: &'static str,
    affinity_seconds: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    provisional: bool,
    backends: Vec<PlannedBackend>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct PlannedBackend {
    address: IpAddr,
    port: u16,
    weight: u32,
    state: &'static str,
    node: Arc<str>,
    zone: Arc<str>,
}

impl Plan {
    /// What a snapshot would program.
    #[must_use]
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut frontends: Vec<PlannedFrontend> = snapshot
            .services
            .values()
            .flat_map(|service| {
                let external = service.external.iter();
                let external = external.filter(|it| !is_seen_from_outside(service, it));
                let balancers = service.balancers.iter().chain(external);
                balancers.flat_map(|balancer| {
                    balancer
                        .frontends
                        .iter()
                        .map(|frontend| planned(service, balancer, frontend))
                })
            })
            .collect();
        // The model orders services by namespace and name, readers by the text they see.
        frontends.sort_by(|a, b| {
            let key = |it: &PlannedFrontend| (it.protocol, it.address, it.port, it.kind, it.scope);
            (&a.service, &a.port_name)
                .cmp(&(&b.service, &b.port_name))
                .then_with(|| key(a).cmp(&key(b)))
        });
        Self {
            version: 1,
            node: snapshot.node.name.clone(),
            problems: snapshot.problems(),
            frontends,
        }
    }

    /// As a table; `wide` adds what is known of each backend. Problems come after it.
    #[must_use]
    pub fn table(&self, wide: bool) -> String {
        let mut head = vec!["SERVICE", "PORT", "FRONTEND", "KIND", "ACTION", "BACKENDS"];
        if wide {
            head.splice(5..5, ["SCOPE", "ALGORITHM", "AFFINITY"]);
            head.extend(["WEIGHT", "STATE", "NODE", "ZONE"]);
        }
        let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(str::to_owned).collect()];
        for frontend in &self.frontends {
            let mut backends = frontend.backends.iter();
            let first = backends.next();
            rows.push(frontend.row(first, wide));
            for backend in backends {
                let mut row = vec![String::new(); if wide { 8 } else { 5 }];
                row.extend(cells(Some(backend), wide));
                rows.push(row);
            }
        }
        let mut text = aligned(&rows);
        for problem in &self.problems {
            text.push_str(&problem.to_string());
            text.push('\n');
        }
        text
    }
}

impl PlannedFrontend {
    fn row(&self, first: Option<&PlannedBackend>, wide: bool) -> Vec<String> {
        let mark = if self.provisional { "*" } else { "" };
        let mut row = vec![
            self.service.clone(),
            dash(&self.port_name),
            format!(
                "{}/{}{mark}",
                socket(self.address, self.port),
                self.protocol
            ),
            self.kind.to_owned(),
            self.action.to_owned(),
        ];
        if wide {
            row.push(self.scope.to_owned());
            row.push(self.algorithm.to_owned());
            row.push(match self.affinity_seconds {
                0 => "-".to_owned(),
                seconds => format!("{seconds}s"),
            });
        }
        row.extend(cells(first, wide));
        row
    }
}

/// Whether pods and nodes reach by an address towards the outside what clients outside do, so that it is listed once.
fn is_seen_from_outside(service: &ResolvedService, balancer: &Balancer) -> bool {
    let is_internal = |it: &Balancer| it.frontends.iter().any(|it| it.scope == Scope::Internal);
    is_internal(balancer)
        && service.external.iter().any(|it| {
            !is_internal(it)
                && it.is_same_port(balancer)
                && it.action == balancer.action
                && it.chosen().eq(balancer.chosen())
        })
}

fn cells(backend: Option<&PlannedBackend>, wide: bool) -> Vec<String> {
    let Some(backend) = backend else {
        return vec!["-".to_owned(); if wide { 5 } else { 1 }];
    };
    let mut cells = vec![socket(backend.address, backend.port)];
    if wide {
        cells.push(backend.weight.to_string());
        cells.push(backend.state.to_owned());
        cells.push(dash(&backend.node));
        cells.push(dash(&backend.zone));
    }
    cells
}

fn planned(service: &ResolvedService, balancer: &Balancer, frontend: &Frontend) -> PlannedFrontend {
    let Frontend {
        address,
        port,
        kind,
        scope,
        provisional,
    } = frontend;
    PlannedFrontend {
        service: service.name.to_string(),
        port_name: balancer.port_name.clone(),
        protocol: balancer.protocol.name(),
        address: *address,
        port: *port,
        kind: match kind {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::LoadBalancer => "LoadBalancer",
            FrontendKind::ExternalIp => "ExternalIP",
        },
        scope: match scope {
            Scope::Internal => "internal",
            Scope::External => "external",
        },
        action: match balancer.action {
            Action::Balance => "balance",
            Action::Reject => "reject",
            Action::Drop => "drop",
        },
        algorithm: service.algorithm.name(),
        affinity_seconds: service.affinity_seconds,
        provisional: *provisional,
        backends: balancer.chosen().map(planned_backend).collect(),
    }
}

fn planned_backend(endpoint: &Endpoint) -> PlannedBackend {
    let Endpoint {
        address,
        port,
        weight,
        terminating,
        role: _,
        node,
        zone,
        identity: _,
    } = endpoint;
    PlannedBackend {
        address: *address,
        port: *port,
        weight: *weight,
        state: if *terminating {
            "terminating"
        } else {
            "active"
        },
        node: node.clone(),
        zone: zone.clone(),
    }
}
