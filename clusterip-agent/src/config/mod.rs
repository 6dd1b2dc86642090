//! What the agent is told: flags over the environment over a file over defaults.
//!
//! Each option is declared once, in the table below, with its text, default and reader; flag, environment variable,
//! key of the file, `--help` and `--write-config-to` follow from it.

mod file;
mod flags;
mod flow_timeouts;
mod sources;
mod values;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use hickory_proto::rr::Name;
use ipnet::IpNet;

pub use file::FileError;
pub use flags::{CHECK, Flags, PLAN, RUN};
pub use flow_timeouts::FlowTimeouts;
pub use sources::Source;
pub use values::{DirectReturn, DnsLog, Forwarding, LogFormat, SocketLb, UplinkMode};

use crate::model::{exposure::NodePortAddresses, service::Algorithm};

/// First line of a configuration file.
const API_VERSION: &str = "clusterip.dev/v1alpha1";
/// Second line of a configuration file.
const KIND: &str = "AgentConfiguration";

/// Host sides of the pods' devices, unless it is said otherwise: as bridge, ptp, flannel and kindnet name them, and Calico.
pub(crate) const POD_INTERFACES: &str = "veth*,cali*";

/// One option.
#[derive(Clone, Copy, Debug)]
struct Declared {
    /// `--FLAG`; the key of the file and the environment variable are made of it.
    flag: &'static str,
    /// What stands for the value in `--help`.
    value: &'static str,
    help: &'static str,
    /// As text; none if there is no fixed one.
    default: Option<&'static str>,
    /// The commands that it has an effect on.
    commands: u8,
}

macro_rules! options {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $flag:literal $value:literal, $default:expr, $commands:expr, $read:expr, $show:expr;)*) => {
        /// The effective configuration.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct Config {
            $($(#[doc = $help])+ pub $field: $type,)*
        }

        const OPTIONS: &[Declared] = &[$(Declared {
            flag: $flag,
            value: $value,
            help: concat!($($help),+),
            default: $default,
            commands: $commands,
        }),*];

        impl Config {
            fn read(given: &Given<'_>) -> Result<Self, ConfigError> {
                Ok(Self { $($field: given.read($flag, $default, $read)?,)* })
            }

            /// The flags of the options that have another value in `other`.
            #[must_use]
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut flags = Vec::new();
                $(if self.$field != other.$field {
                    flags.push($flag);
                })*
                flags
            }

            fn entries(&self) -> Vec<(String, serde_json::Result<serde_json::Value>)> {
                vec![$((key($flag), serde_json::to_value($show(&self.$field))),)*]
            }
        }
    };
}

options! {
    /// Directory of the manifests to serve: *.yaml, *.yml and *.json
    manifests: PathBuf = "manifests" "DIR", Some(""), RUN | PLAN | CHECK, values::path_or_none, as_is;
    /// Serve what a Kubernetes API server has, by this file that says how it is reached
    kubeconfig: Option<PathBuf> = "kubeconfig" "FILE", Some(""), RUN, values::optional_path, as_is;
    /// Serve what the API server of the cluster has that this is a pod of, by the pod's service account: on or off
    in_cluster: bool = "in-cluster" "on|off", Some("off"), RUN, values::switch, values::switch_text;
    /// Where API servers really are, tried in turn: theirs in place of the one that --kubeconfig or --in-cluster names
    kube_api_servers: Vec<String> = "kube-api-server" "URL[,URL]", Some(""), RUN, values::api_servers, as_is;
    /// Name of this node, as nodeName of its pods has it (the host's name if left out)
    node_name: String = "node-name" "NAME", None, RUN | PLAN, values::node_name, as_is;
    /// Ranges from which services get their addresses, at most one of each family
    service_cidrs: Vec<IpNet> = "service-cidr" "CIDR[,CIDR]", Some("10.96.0.0/16"), RUN | PLAN | CHECK, values::one_per_family, as_is;
    /// Host sides of the pods' devices: names with * and ?
    pod_interfaces: Vec<String> = "pod-interfaces" "GLOB[,GLOB]", Some(POD_INTERFACES), RUN, values::globs, as_is;
    /// Devices that lead to the outside: names with * and ? (those with a default route if left out)
    uplinks: Vec<String> = "uplinks" "GLOB[,GLOB]", Some(""), RUN, values::globs, as_is;
    /// How services are kept from clients outside: tc, auto (at the driver too where it has native XDP), or off
    uplink_mode: UplinkMode = "uplink-mode" "tc|auto|off", Some("tc"), RUN, values::uplink_mode, as_is;
    /// How translated packets go on: by the node's stack, or past it straight to their pod (redirect)
    forwarding: Forwarding = "forwarding" "stack|redirect", Some("stack"), RUN, values::forwarding, as_is;
    /// Let backends answer clients from outside past the node that was called: off, accept (clients that other nodes forward), or on (this node's too)
    direct_return: DirectReturn = "direct-server-return" "off|accept|on", Some("off"), RUN, values::direct_return, as_is;
    /// Ranges of pods' addresses, which are inside beside what the Node objects say
    pod_cidrs: Vec<IpNet> = "pod-cidr" "CIDR[,CIDR]", Some(""), RUN | PLAN, values::ranges, as_is;
    /// How a backend is chosen unless the service says otherwise: round-robin, random, maglev or least-connections
    algorithm: Algorithm = "algorithm" "NAME", Some("round-robin"), RUN | PLAN, values::algorithm, algorithm_name;
    /// Whose sockets are translated in their calls: host (processes of the node's own network namespace), all, or off
    socket_lb: SocketLb = "socket-lb" "host|all|off", Some("host"), RUN, values::socket_lb, as_is;
    /// The cgroup of version 2 whose processes --socket-lb is for (the root of all if left out)
    cgroup: Option<PathBuf> = "cgroup" "DIR", Some(""), RUN, values::optional_path, as_is;
    /// Which addresses of a node serve node ports: primary (the first internal one of each family), or ranges
    nodeport_addresses: NodePortAddresses = "nodeport-addresses" "primary|CIDR[,CIDR]", Some("primary"), RUN | PLAN | CHECK, values::node_port_addresses, values::node_port_addresses_text;
    /// Numbers from which node ports come
    nodeport_range: RangeInclusive<u16> = "nodeport-range" "FIRST-LAST", Some("30000-32767"), RUN | PLAN | CHECK, values::port_range, values::port_range_text;
    /// Let spec.externalIPs have an effect: on or off
    allow_external_ips: bool = "allow-external-ips" "on|off", Some("off"), RUN | PLAN | CHECK, values::switch, values::switch_text;
    /// Let clients outside reach `ClusterIP`s too, as if they were load balancers: on or off
    expose_cluster_ips: bool = "expose-cluster-ips" "on|off", Some("off"), RUN, values::switch, values::switch_text;
    /// Ranges from which load balancers without an address get one, at most one of each family
    load_balancer_pool: Vec<IpNet> = "load-balancer-pool" "CIDR[,CIDR]", Some(""), RUN | PLAN | CHECK, values::pool, as_is;
    /// Class of load balancers that get one of these addresses, beside those without a class
    load_balancer_class: Option<String> = "load-balancer-class" "CLASS", Some(""), RUN | PLAN | CHECK, values::optional_class, as_is;
    /// Where the agent answers DNS, over UDP and TCP: addresses of this node that pods reach; repeatable
    dns_listen: Vec<SocketAddr> = "dns-listen" "ADDR:PORT", Some(""), RUN | PLAN, values::dns_listeners, as_is;
    /// Domain of the cluster's names
    cluster_domain: String = "cluster-domain" "DOMAIN", Some("cluster.local"), RUN | PLAN | CHECK, values::domain, as_is;
    /// Who may ask for names besides this node, the cluster's nodes and its pods
    dns_allow: Vec<IpNet> = "dns-allow" "CIDR[,CIDR]", Some(""), RUN, values::ranges, as_is;
    /// Give pods names made of their addresses, such as 10-244-0-7.default.pod.cluster.local: on or off
    dns_pod_records: bool = "dns-pod-records" "on|off", Some("off"), RUN, values::switch, values::switch_text;
    /// Who is asked for names outside the cluster, the first that answers (those of the node's resolv.conf if left out)
    dns_upstreams: Vec<SocketAddr> = "dns-upstream" "ADDR[:PORT][,..]", Some(""), RUN, values::upstreams, as_is;
    /// A zone whose names are asked of an upstream of its own; repeatable
    dns_stubs: Vec<(Name, SocketAddr)> = "dns-stub" "ZONE=ADDR[:PORT]", Some(""), RUN, values::stubs, values::stub_texts;
    /// Walk through the search list of a pod in its place, so that it asks once: on or off
    dns_autopath: bool = "dns-autopath" "on|off", Some("off"), RUN, values::switch, values::switch_text;
    /// MiB of memory for answers of upstreams; 0 keeps none
    dns_cache: u32 = "dns-cache" "MIB", Some("16"), RUN, values::mebibytes, as_is;
    /// Which questions to the resolver are logged: off, errors or all
    dns_log: DnsLog = "dns-log" "off|errors|all", Some("off"), RUN, values::dns_log, as_is;
    /// Directory that keeps what must survive a restart: the addresses and node ports that services got
    state_dir: PathBuf = "state-dir" "DIR", Some("/var/lib/clusterip"), RUN, values::path, as_is;
    /// Directory for pins, on a mounted bpffs
    bpffs: PathBuf = "bpffs" "DIR", Some("/sys/fs/bpf/clusterip"), RUN, values::path, as_is;
    /// Socket on which the agent answers the other commands; empty for none
    socket: Option<PathBuf> = "socket" "PATH", Some("/run/clusterip/agent.sock"), RUN, values::optional_path, as_is;
    /// Where /metrics answers; empty for nowhere
    metrics_bind_address: Option<SocketAddr> = "metrics-bind-address" "ADDR:PORT", Some("127.0.0.1:10249"), RUN, values::listener, as_is;
    /// Give each backend series of its own in /metrics: on or off
    metrics_per_backend: bool = "metrics-per-backend" "on|off", Some("on"), RUN, values::switch, values::switch_text;
    /// Where /healthz and /livez answer; empty for nowhere
    healthz_bind_address: Option<SocketAddr> = "healthz-bind-address" "ADDR:PORT", Some("0.0.0.0:10256"), RUN, values::listener, as_is;
    /// Frontends that fit into the maps: one for each address and port, and one more for each address
    max_services: u32 = "max-services" "N", Some("16384"), RUN, values::services, as_is;
    /// Backends that fit into the maps
    max_backends: u32 = "max-backends" "N", Some("65536"), RUN, values::backends, as_is;
    /// Flow entries that fit into the map; a flow takes two
    max_flows: u32 = "max-flows" "N", Some("262144"), RUN, values::flows, as_is;
    /// How long flows live without a packet: opening, established, ended, closing, reuse, datagram
    flow_timeouts: FlowTimeouts = "flow-timeouts" "NAME=TIME[,..]", Some(""), RUN, flow_timeouts::read, flow_timeouts::text;
    /// What a pod that calls itself through a service sees as its peer, one address of each family
    hairpin_addresses: Vec<IpAddr> = "hairpin-addresses" "ADDR,ADDR", Some("169.254.42.1,fdc1:57e::42:1"), RUN, values::hairpin, as_is;
    /// How log lines are written: text or json
    log_format: LogFormat = "log-format" "FORMAT", Some("text"), RUN | PLAN | CHECK, values::log_format, as_is;
    /// Log more; given twice, everything
    verbose: u8 = "verbose" "N", Some("0"), RUN | PLAN | CHECK, values::verbosity, as_is;
}

/// A configuration that makes no sense: wrong usage.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that is not allowed.
    #[error("{place} {value:?}: {allowed}")]
    Value {
        /// Flag, variable, or file and key.
        place: String,
        /// The value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that must be given.
    #[error(
        "--{flag} is required: give it, or set {variable}, or write `{key}:` into the file of --config"
    )]
    Required {
        /// Which.
        flag: &'static str,
        /// As environment variable.
        variable: String,
        /// As key.
        key: String,
    },
    /// More than one source of objects, or none, or an option that goes with another source.
    #[error("{0}")]
    Source(String),
    /// An address would be a load balancer's and a service's own.
    #[error(
        "--load-balancer-pool {pool} and --service-cidr {services} overlap: choose ranges that have no address in common"
    )]
    Overlap {
        /// Range of load balancers.
        pool: IpNet,
        /// Range of services.
        services: IpNet,
    },
    /// The configuration file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The effective configuration could not be written.
    #[error("write the configuration to {}", .path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The effective configuration has no text.
    #[error("write the configuration as YAML")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Config {
    /// The effective configuration of what was given on the command line, in the environment and in a file.
    ///
    /// # Errors
    /// A value that is missing or not allowed, or a file that cannot be read.
    pub fn load<const COMMAND: u8>(
        flags: &Flags<COMMAND>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let path = flags
            .config()
            .map(str::to_owned)
            .or_else(|| environment("CLUSTERIP_CONFIG").filter(|path| !path.is_empty()));
        let file = path
            .map(|path| file::read(Path::new(&path)))
            .transpose()?
            .unwrap_or_default();
        let config = Self::read(&Given {
            flags: flags.values(),
            environment: &environment,
            file,
        })?;
        config.check_source::<COMMAND>()?;
        config.check_pool()?;
        Ok(config)
    }

    fn check_pool(&self) -> Result<(), ConfigError> {
        let pairs = self.load_balancer_pool.iter().flat_map(|pool| {
            let services = self.service_cidrs.iter();
            services.map(move |services| (*pool, *services))
        });
        for (pool, services) in pairs {
            if pool.contains(&services) || services.contains(&pool) {
                return Err(ConfigError::Overlap { pool, services });
            }
        }
        Ok(())
    }

    /// The configuration as a file for `--config`.
    ///
    /// # Errors
    /// A value that has no form in YAML.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        let mut text = format!("apiVersion: {API_VERSION}\nkind: {KIND}\n");
        for (key, value) in self.entries() {
            let value = value.map_err(|e| ConfigError::Encode(e.into()))?;
            let entry = BTreeMap::from([(key, value)]);
            let entry =
                serde_saphyr::to_string(&entry).map_err(|e| ConfigError::Encode(e.into()))?;
            // Writing to a String does not fail.
            writeln!(text, "{}", entry.trim_end()).map_err(|e| ConfigError::Encode(e.into()))?;
        }
        Ok(text)
    }

    /// Writes the configuration as a file for `--config`.
    ///
    /// # Errors
    /// The file could not be written.
    pub fn write_to(&self, path: &Path) -> Result<(), ConfigError> {
        std::fs::write(path, self.to_yaml()?).map_err(|source| ConfigError::Write {
            path: path.to_owned(),
            source,
        })
    }
}

/// All that was given, before it is known whether it makes sense.
struct Given<'a> {
    flags: &'a BTreeMap<&'static str, String>,
    environment: &'a dyn Fn(&str) -> Option<String>,
    file: BTreeMap<String, file::Setting>,
}

impl Given<'_> {
    fn read<T>(
        &self,
        flag: &'static str,
        default: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let (place, value) = if let Some(value) = self.flags.get(flag) {
            (format!("--{flag}"), value.clone())
        } else if let Some(value) = (self.environment)(&variable(flag)) {
            (variable(flag), value)
        } else if let Some(setting) = self.file.get(&key(flag)) {
            (
                format!("{}: {}", setting.place, key(flag)),
                setting.text.clone(),
            )
        } else if let Some(default) = default {
            (format!("--{flag}"), default.to_owned())
        } else if flag == "node-name" {
            (
                "the host's name, which --node-name is for want of a value,".to_owned(),
                values::host_name(),
            )
        } else {
            return Err(ConfigError::Required {
                flag,
                variable: variable(flag),
                key: key(flag),
            });
        };
        read(&value).map_err(|allowed| ConfigError::Value {
            place,
            value,
            allowed,
        })
    }
}

const fn as_is<T>(value: &T) -> &T {
    value
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the table hands every value over in the same way"
)]
const fn algorithm_name(algorithm: &Algorithm) -> &'static str {
    algorithm.name()
}

/// `max-flows` in the environment: `CLUSTERIP_MAX_FLOWS`.
fn variable(flag: &str) -> String {
    format!("CLUSTERIP_{}", flag.to_uppercase().replace('-', "_"))
}

/// `max-flows` in the file: `maxFlows`.
fn key(flag: &str) -> String {
    let mut key = String::with_capacity(flag.len());
    let mut is_start = false;
    for character in flag.chars() {
        if character == '-' {
            is_start = true;
        } else {
            key.push(if is_start {
                character.to_ascii_uppercase()
            } else {
                character
            });
            is_start = false;
        }
    }
    key
}

#[cfg(test)]
mod tests;
