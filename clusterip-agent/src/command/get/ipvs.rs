//! `get services --ipvs`: in the form of `ipvsadm -Ln`.

use crate::view::{
    endpoints::{EndpointView, Endpoints},
    services::{BalancerView, Service, Services},
};

const HEAD: &str = "Prot LocalAddress:Port Scheduler Flags\n  \
                    -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n";

/// Each frontend, and the endpoints behind it.
pub(super) fn table(services: &Services, endpoints: &Endpoints) -> String {
    let mut text = HEAD.to_owned();
    for service in &services.services {
        let persistent = match service.affinity_seconds {
            0 => String::new(),
            seconds => format!(" persistent {seconds}"),
        };
        let scheduler = scheduler(&service.algorithm);
        for balancer in &service.balancers {
            for frontend in &balancer.frontends {
                let protocol = &balancer.protocol;
                let head = format!("{protocol:<4} {frontend} {scheduler}{persistent}\n");
                text.push_str(&head);
                let behind = endpoints.endpoints.iter();
                for endpoint in behind.filter(|it| is_behind(service, balancer, it)) {
                    text.push_str(&line(endpoint));
                }
            }
        }
    }
    text
}

fn is_behind(service: &Service, balancer: &BalancerView, endpoint: &EndpointView) -> bool {
    endpoint.namespace == service.namespace
        && endpoint.service == service.name
        && endpoint.port_name == balancer.port_name
        && endpoint.protocol == balancer.protocol
        && endpoint.family == balancer.family
}

/// One that gets no new flow has weight 0, as with ipvs.
fn line(endpoint: &EndpointView) -> String {
    let is_chosen = ["active", "terminating"].contains(&endpoint.state.as_str());
    format!(
        "  -> {:<28} Masq    {:<6} {:<10} {}\n",
        endpoint.address.to_string(),
        if is_chosen { endpoint.weight } else { 0 },
        endpoint.active_flows.unwrap_or_default(),
        endpoint.inactive_flows.unwrap_or_default(),
    )
}

/// As ipvs calls it.
fn scheduler(algorithm: &str) -> &str {
    match algorithm {
        "round-robin" => "wrr",
        "maglev" => "mh",
        "least-connections" => "wlc",
        other => other,
    }
}
