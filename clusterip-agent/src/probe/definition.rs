//! What a pod says about its probes: pure.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{grpc, state::Thresholds};
use crate::model::{
    facts::{Container, NETNS_ANNOTATION, Pod, Written},
    service::parse_address,
};

/// Where `ip netns` keeps its names.
const NETNS_FOLDER: &str = "/run/netns";

/// What a probe is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Purpose {
    /// Until it has succeeded the others do not run.
    Startup,
    /// Whether the pod gets new flows (I1, I3).
    Readiness,
    /// Whether the pod works at all: reported.
    Liveness,
}

impl Purpose {
    /// The field of a container.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Startup => "startupProbe",
            Self::Readiness => "readinessProbe",
            Self::Liveness => "livenessProbe",
        }
    }
}

/// When a probe runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Before the first one.
    pub initial_delay: Duration,
    /// From one to the next, at least a second.
    pub period: Duration,
    /// For one.
    pub timeout: Duration,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Check {
    /// GET over HTTP/1.1; 200 to 399 is a success (I2).
    Http {
        /// Whom to connect to.
        to: SocketAddr,
        /// The whole request.
        request: Arc<str>,
        /// Over TLS, whoever the certificate is for.
        secure: bool,
    },
    /// A connection that comes about is a success.
    Tcp {
        /// Whom to connect to.
        to: SocketAddr,
    },
    /// The answer SERVING of the gRPC health service is a success.
    Grpc {
        /// Whom to connect to.
        to: SocketAddr,
        /// The whole request.
        request: Arc<[u8]>,
    },
    /// A command that ends with 0 is a success.
    Exec {
        /// The network namespace it runs in.
        netns: Arc<str>,
        /// Program and arguments; never empty.
        command: Arc<[String]>,
    },
    /// It cannot be carried out here, and so never succeeds.
    Impossible {
        /// Why, and what to do.
        reason: Arc<str>,
    },
}

/// A probe of a container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Definition {
    /// Name of the container.
    pub container: Arc<str>,
    /// Its field, as Kubernetes writes it: `spec.containers[0].readinessProbe`.
    pub field: Arc<str>,
    /// What it is for.
    pub purpose: Purpose,
    /// What is asked.
    pub check: Check,
    /// When.
    pub timing: Timing,
    /// How often before it counts.
    pub thresholds: Thresholds,
}

/// The probes of a pod that can be asked: it runs and has an address. `node` is where this agent is.
#[must_use]
pub fn definitions(pod: &Pod, node: &str) -> Vec<Definition> {
    // It is asked at its first address.
    let Some(address) = pod.addresses.first().and_then(Written::address) else {
        return Vec::new();
    };
    if !pod.phase.may_run() || pod.deleted.is_some() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for container in &pod.containers {
        for (purpose, probe) in [
            (Purpose::Startup, &container.startup),
            (Purpose::Readiness, &container.readiness),
            (Purpose::Liveness, &container.liveness),
        ] {
            let Some(probe) = probe else { continue };
            all.push(Definition {
                container: container.name.clone(),
                field: format!("{}.{}", container.field(), purpose.field()).into(),
                purpose,
                check: check(pod, container, address, probe, node),
                timing: timing(probe),
                thresholds: Thresholds {
                    // Only readiness may want more than one.
                    success: match purpose {
                        Purpose::Readiness => at_least_one(probe.success_threshold, 1),
                        Purpose::Startup | Purpose::Liveness => 1,
                    },
                    failure: at_least_one(probe.failure_threshold, 3),
                },
            });
        }
    }
    all
}

/// Absent and 0 are the default.
fn at_least_one(number: Option<i32>, default: u32) -> u32 {
    number
        .and_then(|number| u32::try_from(number).ok())
        .filter(|number| *number > 0)
        .unwrap_or(default)
}

fn timing(probe: &Probe) -> Timing {
    let seconds = |number, default| Duration::from_secs(at_least_one(number, default).into());
    Timing {
        initial_delay: seconds(probe.initial_delay_seconds, 0),
        period: seconds(probe.period_seconds, 10),
        timeout: seconds(probe.timeout_seconds, 1),
    }
}

fn check(pod: &Pod, container: &Container, address: IpAddr, probe: &Probe, node: &str) -> Check {
    let made = if let Some(http) = &probe.http_get {
        http_check(container, address, http)
    } else if let Some(tcp) = &probe.tcp_socket {
        let TCPSocketAction { host, port } = tcp;
        target(container, address, host.as_deref(), port).map(|to| Check::Tcp { to })
    } else if let Some(exec) = &probe.exec {
        exec_check(pod, exec, node)
    } else if let Some(grpc) = &probe.grpc {
        grpc_check(address, grpc)
    } else {
        Err("says nothing to ask: give httpGet, tcpSocket, grpc or exec".to_owned())
    };
    made.unwrap_or_else(|reason| Check::Impossible {
        reason: reason.into(),
    })
}

fn http_check(container: &Container, own: IpAddr, http: &HTTPGetAction) -> Result<Check, String> {
    let HTTPGetAction {
        host,
        http_headers,
        path,
        port,
        scheme,
    } = http;
    let secure = match scheme.as_deref() {
        None | Some("" | "HTTP") => false,
        Some("HTTPS") => true,
        Some(other) => return Err(format!("scheme {other:?} must be HTTP or HTTPS")),
    };
    let to = target(container, own, host.as_deref(), port)?;
    let path = match path.as_deref() {
        None | Some("") => "/".to_owned(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
    };
    let headers = http_headers.as_deref().unwrap_or_default();
    let has = |name: &str| headers.iter().any(|it| it.name.eq_ignore_ascii_case(name));
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in [
        ("Host", to.to_string()),
        (
            "User-Agent",
            concat!("clusterip-probe/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("Accept", "*/*".to_owned()),
    ] {
        if !has(name) {
            request.push_str(&format_header(name, &value));
        }
    }
    for header in headers {
        request.push_str(&format_header(&header.name, &header.value));
    }
    let is_plain = |text: &str| !text.contains(|c: char| c.is_ascii_control());
    let are_plain = headers
        .iter()
        .all(|it| is_plain(&it.name) && is_plain(&it.value));
    if !is_plain(&path) || path.contains(' ') || !are_plain {
        return Err(
            "path and headers must be without control characters, and the path without spaces"
                .to_owned(),
        );
    }
    request.push_str("\r\n");
    Ok(Check::Http {
        to,
        request: request.into(),
        secure,
    })
}

fn grpc_check(own: IpAddr, grpc: &GRPCAction) -> Result<Check, String> {
    let GRPCAction { port, service } = grpc;
    let number = u16::try_from(*port).ok().filter(|number| *number > 0);
    let number = number.ok_or("port must be a number from 1 to 65535")?;
    let to = SocketAddr::new(own, number);
    let service = service.as_deref().unwrap_or_default();
    let request = Some(service)
        .filter(|service| service.len() <= grpc::MAX_SERVICE)
        .and_then(|service| grpc::request(&to.to_string(), service));
    match request {
        Some(request) => Ok(Check::Grpc {
            to,
            request: request.into(),
        }),
        None => Err(format!(
            "service must have at most {} characters",
            grpc::MAX_SERVICE
        )),
    }
}

fn format_header(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}

fn target(
    container: &Container,
    own: IpAddr,
    host: Option<&str>,
    port: &IntOrString,
) -> Result<SocketAddr, String> {
    let address = match host.filter(|host| !host.is_empty()) {
        None => own,
        Some(host) => parse_address(host)
            .ok_or_else(|| format!("host {host:?} must be an address, or left out"))?,
    };
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter();
            let named = ports.find(|port| *port.name == **name && !name.is_empty());
            named.map_or_else(|| name.parse().ok(), |port| port.number)
        }
    };
    match number.filter(|number| *number > 0) {
        Some(number) => Ok(SocketAddr::new(address, number)),
        None => Err("port must be a number, or the name of a port of this container".to_owned()),
    }
}

/// A command runs where a manifest says where, and on the pod's own node: nowhere else is its namespace.
fn exec_check(pod: &Pod, exec: &ExecAction, node: &str) -> Result<Check, String> {
    let command = exec.command.as_deref().unwrap_or_default();
    if command.first().is_none_or(String::is_empty) {
        return Err("command must name a program".to_owned());
    }
    let home = &*pod.node;
    if !home.is_empty() && home != node {
        return Err(format!(
            "exec runs on the pod's own node {home} only; say the pod's state by a Ready condition in its status"
        ));
    }
    let netns = pod.netns.as_deref().filter(|netns| !netns.is_empty());
    let Some(netns) = netns else {
        return Err(format!(
            "exec needs the annotation {NETNS_ANNOTATION}: the name or path of the pod's network namespace"
        ));
    };
    let path = if netns.starts_with('/') {
        netns.to_owned()
    } else if netns.contains('/') || netns == "." || netns == ".." {
        return Err(format!(
            "{NETNS_ANNOTATION} {netns:?} must be a name of `ip netns`, or an absolute path"
        ));
    } else {
        format!("{NETNS_FOLDER}/{netns}")
    };
    Ok(Check::Exec {
        netns: path.into(),
        command: command.into(),
    })
}
