//! Where load balancers ask whether this node has endpoints of its own (E7): a server for each `healthCheckNodePort`, with
//! kube-proxy's answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::Health;
use crate::model::{
    object::ObjectName,
    service::{ResolvedService, Scope},
};

/// How many of the node's own endpoints are ready, as some load balancers weigh nodes.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// A port that is taken is tried again this often.
const AGAIN: Duration = Duration::from_secs(5);

/// kube-proxy's body.
#[derive(PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    service: Name,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(PartialEq, Eq, Debug, Serialize)]
struct Name {
    namespace: String,
    name: String,
}

/// A server, which ends with it.
#[derive(Debug)]
struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a server for each service that asks for one, until the agent ends. A port that is taken is said once, and tried again.
pub async fn keep(health: Health) {
    let mut published = health.published.clone();
    let mut servers: BTreeMap<(u16, ObjectName), Server> = BTreeMap::new();
    let mut refused: BTreeSet<u16> = BTreeSet::new();
    loop {
        let wanted: BTreeSet<(u16, ObjectName)> = {
            let services = &published.borrow_and_update().snapshot.services;
            let asks = |service: &ResolvedService| service.health_check_node_port;
            let all = services.iter();
            all.filter_map(|(name, service)| Some((asks(service)?, name.clone())))
                .collect()
        };
        servers.retain(|key, _| wanted.contains(key));
        let mut is_complete = true;
        for (port, name) in wanted {
            if servers.contains_key(&(port, name.clone())) {
                continue;
            }
            match listen(port).await {
                Ok(listener) => {
                    refused.remove(&port);
                    let state = (health.clone(), name.clone());
                    let routes = Router::new().fallback(answer).with_state(state);
                    let server = tokio::spawn(async move {
                        if let Err(error) = axum::serve(listener, routes).await {
                            log::error!(port, error:err; "a health check node port ended");
                        }
                    });
                    servers.insert((port, name), Server(server));
                }
                Err(error) => {
                    is_complete = false;
                    if refused.insert(port) {
                        log::warn!(service:% = name, port, error:err; "listen on a health check node port; it is tried again");
                    }
                }
            }
        }
        let changed = published.changed();
        let ended = if is_complete {
            changed.await.is_err()
        } else {
            matches!(timeout(AGAIN, changed).await, Ok(Err(_)))
        };
        if ended {
            return std::future::pending().await;
        }
    }
}

/// On all addresses of both families, or of IPv4 where there is no other.
async fn listen(port: u16) -> io::Result<TcpListener> {
    let any = |ip: IpAddr| SocketAddr::new(ip, port);
    match TcpListener::bind(any(Ipv6Addr::UNSPECIFIED.into())).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind(any(Ipv4Addr::UNSPECIFIED.into())).await
        }
        result => result,
    }
}

/// The ready endpoints of this node that clients outside are sent to, each address once, in the family that has most. Those that
/// only serve while they terminate are none (E7).
fn local_endpoints(service: &ResolvedService) -> usize {
    let mut ready: BTreeMap<_, BTreeSet<IpAddr>> = BTreeMap::new();
    for balancer in &service.external {
        let mut frontends = balancer.frontends.iter();
        if frontends.any(|it| it.scope == Scope::External) {
            let chosen = balancer.chosen().filter(|it| !it.terminating);
            let addresses = ready.entry(balancer.family).or_default();
            addresses.extend(chosen.map(|it| it.address));
        }
    }
    ready.values().map(BTreeSet::len).max().unwrap_or_default()
}

async fn answer(State((health, name)): State<(Health, ObjectName)>) -> Response {
    let verdict = health.verdict();
    let is_healthy = verdict.is_live() && verdict.starting.is_none();
    let count = {
        let published = health.published.borrow();
        let service = published.snapshot.service(&name);
        service.map_or(0, |service| local_endpoints(service))
    };
    reply(&name, count, is_healthy)
}

fn reply(name: &ObjectName, count: usize, is_healthy: bool) -> Response {
    let status = if count > 0 && is_healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Body {
        service: Name {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        },
        local_endpoints: count,
        service_proxy_healthy: is_healthy,
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (WEIGHT, HeaderValue::from(count)),
    ];
    match serde_json::to_string(&body) {
        Ok(text) => (status, headers, text).into_response(),
        // A name and a number have a form in JSON.
        Err(_impossible) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E7
    #[test]
    fn a_node_is_good_with_a_ready_endpoint_of_its_own_and_a_healthy_agent() {
        let name = ObjectName::new("shop", "web");
        for (count, is_healthy, status) in [(2, true, 200), (0, true, 503), (2, false, 503)] {
            let reply = reply(&name, count, is_healthy);
            assert_eq!(reply.status(), status, "{count} {is_healthy}");
            assert_eq!(reply.headers()[WEIGHT], count.to_string());
            assert_eq!(reply.headers()[CONTENT_TYPE], "application/json");
        }
        let body = Body {
            service: Name {
                namespace: "shop".to_owned(),
                name: "web".to_owned(),
            },
            local_endpoints: 2,
            service_proxy_healthy: true,
        };
        assert_eq!(
            serde_json::to_string(&body).unwrap(),
            r#"{"service":{"namespace":"shop","name":"web"},"localEndpoints":2,"serviceProxyHealthy":true}"#
        );
    }
}
