//! What the name of a service leads to (J): pure, and without a word of the wire.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::{
    about::ServiceType,
    allocate::Assigned,
    endpoints::{PortSpec, first_addresses, target_number},
    facts::{EndpointSlice, Pod, Service, ServiceSpec, Written},
    object::{Object, ObjectName},
    problem::Problem,
    resolve::Context,
    service::{Family, Protocol, parse_address},
    wish,
};

/// A port that has a name of its own (J2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NamedPort {
    /// Name.
    pub name: Arc<str>,
    /// Protocol.
    pub protocol: Protocol,
    /// Number.
    pub port: u16,
}

/// A ready endpoint of a headless service (J3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its label below the service's name: its hostname, else its address with dashes.
    pub label: Arc<str>,
    /// Whether the label is its hostname.
    pub has_hostname: bool,
    /// Address, in its canonical form.
    pub address: IpAddr,
    /// Its own numbers of the service's named ports.
    pub ports: Vec<NamedPort>,
}

/// What the name of a service leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Naming {
    /// Addresses of its own, whether it has endpoints or not.
    Own {
        /// One of each of its families; none as long as it got none.
        addresses: Vec<IpAddr>,
        /// Its ports that have a name.
        ports: Vec<NamedPort>,
    },
    /// The endpoints of a headless service that are ready, by label and address.
    Members(Vec<Member>),
    /// Another name.
    Alias(Arc<str>),
}

impl Naming {
    /// The addresses that lead back to the service: its own, and those of endpoints with a hostname (J2).
    pub fn reverse(&self) -> impl Iterator<Item = IpAddr> {
        let (own, members): (&[IpAddr], &[Member]) = match self {
            Self::Own { addresses, .. } => (addresses, &[]),
            Self::Members(members) => (&[], members),
            Self::Alias(_) => (&[], &[]),
        };
        let named = members.iter().filter(|member| member.has_hostname);
        own.iter()
            .copied()
            .chain(named.map(|member| member.address))
    }

    /// The endpoints of a headless service under one label.
    #[must_use]
    pub fn labelled(&self, label: &str) -> &[Member] {
        let Self::Members(members) = self else {
            return &[];
        };
        let first = members.partition_point(|member| &*member.label < label);
        let last = members.partition_point(|member| &*member.label <= label);
        members.get(first..last).unwrap_or_default()
    }
}

/// What the name of a service leads to, given its ports and addresses.
pub(super) fn naming(
    context: &Context<'_>,
    (name, service): (&ObjectName, &Service),
    given: &[Assigned],
) -> Naming {
    let Some(spec) = &service.spec else {
        return Naming::Members(Vec::new());
    };
    if spec.service_type == ServiceType::ExternalName {
        return Naming::Alias(spec.external_name.clone());
    }
    if !wish::has_address(spec) {
        return Naming::Members(members(context, name, spec));
    }
    let named = named_ports(spec);
    Naming::Own {
        addresses: given.iter().map(|assigned| assigned.address).collect(),
        ports: named
            .map(|port| NamedPort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: port.port,
            })
            .collect(),
    }
}

fn named_ports(spec: &ServiceSpec) -> impl Iterator<Item = &PortSpec> {
    spec.ports().filter(|port| !port.name.is_empty())
}

/// A label and an address; whether the label is a hostname, and the ports.
type Found = BTreeMap<(Arc<str>, IpAddr), (bool, BTreeSet<NamedPort>)>;

fn members(context: &Context<'_>, name: &ObjectName, spec: &ServiceSpec) -> Vec<Member> {
    let publishes_all = spec.publishes_all;
    let mut found = Found::new();
    let mut slices = context.cluster.slices(name).peekable();
    if slices.peek().is_some() {
        for (_, slice) in slices {
            from_slice(slice, publishes_all, &mut found);
        }
    } else {
        let families = wish::families_without_address(spec, context.ranges);
        for (object, pod) in context.cluster.selected(&name.namespace, &spec.selector) {
            let is_published = publishes_all || (pod.is_serving() && pod.deleted.is_none());
            if is_published && !pod.has_ended() {
                from_pod(name, (object, pod), spec, &families, &mut found);
            }
        }
    }
    found
        .into_iter()
        .map(|((label, address), (has_hostname, ports))| Member {
            label,
            has_hostname,
            address,
            ports: ports.into_iter().collect(),
        })
        .collect()
}

fn from_slice(slice: &EndpointSlice, publishes_all: bool, found: &mut Found) {
    if &*slice.address_type == "FQDN" {
        return;
    }
    let ports: Vec<NamedPort> = slice
        .ports
        .iter()
        .filter(|port| !port.name.is_empty())
        .filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone(),
                protocol: port.protocol?,
                port: port.port?,
            })
        })
        .collect();
    for endpoint in &slice.endpoints {
        let is_published = publishes_all || endpoint.ready.unwrap_or(true);
        // Addresses that are none are told beside the service's ports, or by the object's own check.
        let address = endpoint.address.as_ref().and_then(Written::address);
        if let Some(address) = address.filter(|_| is_published) {
            let hostname = endpoint.hostname.as_deref();
            add(found, hostname, address, ports.iter().cloned());
        }
    }
}

fn from_pod(
    name: &ObjectName,
    (object, pod): (&Object, &Pod),
    spec: &ServiceSpec,
    families: &[Family],
    found: &mut Found,
) {
    let hostname = pod.hostname.as_deref();
    let hostname = hostname.filter(|_| pod.subdomain.as_ref() == Some(&name.name));
    let numbers: Vec<NamedPort> = named_ports(spec)
        .filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone(),
                protocol: port.protocol,
                port: target_number(pod, port)?,
            })
        })
        .collect();
    let mut problems: Vec<Problem> = Vec::new();
    for address in first_addresses(object, pod, &mut problems) {
        if families.contains(&Family::of(address)) {
            add(found, hostname, address, numbers.iter().cloned());
        }
    }
}

fn add(
    found: &mut Found,
    hostname: Option<&str>,
    address: IpAddr,
    ports: impl Iterator<Item = NamedPort>,
) {
    let hostname = hostname.filter(|name| !name.is_empty());
    let label = hostname.map_or_else(|| dashed(address), str::to_lowercase);
    let (has_hostname, all) = found.entry((label.into(), address)).or_default();
    *has_hostname |= hostname.is_some();
    all.extend(ports);
}

/// An address as a label: `10-244-0-7`, `fd00-10-244--7`.
#[must_use]
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a label stands for.
#[must_use]
pub fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = || parse_address(&label.replace('-', "."));
    let v6 = || parse_address(&label.replace('-', ":"));
    v4().or_else(v6).filter(|address| dashed(*address) == label)
}
