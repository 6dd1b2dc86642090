//! What the name of a service leads to (J): pure, and without a word of the wire.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Pod, Service, ServiceSpec},
    discovery::v1::EndpointSlice,
};

use super::{
    allocate::Assigned,
    endpoints::{PortSpec, first_addresses, has_ended, is_serving, port_number, target_number},
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
    ports: &[PortSpec],
    given: &[Assigned],
) -> Naming {
    let Some(spec) = &service.spec else {
        return Naming::Members(Vec::new());
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Naming::Alias(spec.external_name.as_deref().unwrap_or_default().into());
    }
    if !wish::has_address(spec) {
        return Naming::Members(members(context, name, spec, ports));
    }
    let named = ports.iter().filter(|port| !port.name.is_empty());
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

/// A label and an address; whether the label is a hostname, and the ports.
type Found = BTreeMap<(Arc<str>, IpAddr), (bool, BTreeSet<NamedPort>)>;

fn members(
    context: &Context<'_>,
    name: &ObjectName,
    spec: &ServiceSpec,
    ports: &[PortSpec],
) -> Vec<Member> {
    let publishes_all = spec.publish_not_ready_addresses.unwrap_or_default();
    let mut found = Found::new();
    let mut slices = context.cluster.slices(name).peekable();
    if slices.peek().is_some() {
        for (_, slice) in slices {
            from_slice(slice, publishes_all, &mut found);
        }
    } else if let Some(selector) = &spec.selector {
        let families = wish::families_without_address(spec, context.ranges);
        for (object, pod) in context.cluster.selected(&name.namespace, selector) {
            let is_published =
                publishes_all || (is_serving(pod) && pod.metadata.deletion_timestamp.is_none());
            if is_published && !has_ended(pod) {
                from_pod(name, (object, pod), ports, &families, &mut found);
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
    if slice.address_type == "FQDN" {
        return;
    }
    let ports: Vec<NamedPort> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(|port| {
            let name = port.name.as_deref().filter(|name| !name.is_empty())?;
            Some(NamedPort {
                name: name.into(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: port.port.and_then(port_number)?,
            })
        })
        .collect();
    for endpoint in slice.endpoints.iter().flatten() {
        let ready = endpoint.conditions.as_ref().and_then(|it| it.ready);
        // Addresses that are none are told beside the service's ports, or by the object's own check.
        let address = endpoint.addresses.first().and_then(|it| parse_address(it));
        if let Some(address) = address.filter(|_| publishes_all || ready.unwrap_or(true)) {
            let hostname = endpoint.hostname.as_deref();
            add(found, hostname, address, ports.iter().cloned());
        }
    }
}

fn from_pod(
    name: &ObjectName,
    (object, pod): (&Object, &Pod),
    ports: &[PortSpec],
    families: &[Family],
    found: &mut Found,
) {
    let spec = pod.spec.as_ref();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref());
    let hostname = spec
        .and_then(|spec| spec.hostname.as_deref())
        .filter(|_| subdomain == Some(&*name.name));
    let named = ports.iter().filter(|port| !port.name.is_empty());
    let numbers: Vec<NamedPort> = named
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
